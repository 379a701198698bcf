"""What makes two runs the same run.

``train_hash`` covers everything that can change the trained weights but the budget; a larger
budget continues a run. ``evaluation_hash`` covers the budget and how the policy is judged.
Environment and architecture *names*, comments and formatting are in neither.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from amago import TRAINING_VERSION

#: Hex digits kept of a SHA-256: enough that two configurations never meet.
_DIGITS = 32


def digest(content: Any) -> str:
    """SHA-256 of a JSON value, independent of key order."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def train_hash(
    *,
    env_id: str,
    env_params: dict[str, Any],
    seed: int,
    gin: str,
    threads: int,
    segment_epochs: int,
    imports: tuple[str, ...] = (),
) -> str:
    """Identity of a run's training. ``gin`` is the resolved, canonical text."""
    return digest(
        {
            **({"imports": list(imports)} if imports else {}),
            "training_version": TRAINING_VERSION,
            "env_id": env_id,
            "env_params": env_params,
            "seed": seed,
            "gin": gin,
            "threads": threads,
            "segment_epochs": segment_epochs,
        }
    )


def evaluation_hash(trained: str, budget_epochs: int, settings: dict[str, Any]) -> str:
    """Identity of an evaluation: of which weights, at which budget, under which settings."""
    return digest({"train_hash": trained, "budget_epochs": budget_epochs, "evaluation": settings})
