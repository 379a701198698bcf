"""The pipeline: from a suite file to trained, evaluated and tabulated cells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from amago_suite.policy import Policy

__all__ = ["load"]


def load(cell_folder: str | Path) -> Policy:
    """The trained policy of a cell, to act with.

    Args:
        cell_folder: ``results/SUITE/ENVIRONMENT/ARCHITECTURE/seed_N``.

    Raises:
        AmagoError: not a cell, or not trained yet.
    """
    from amago_suite.policy import Policy

    return Policy(Path(cell_folder))
