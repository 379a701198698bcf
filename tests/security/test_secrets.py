"""Keys in the environment stay there: a real suite is run and everything that it wrote is searched."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = """
environments: [{ id: tmaze-passive, params: { corridor: 3 } }]
architectures: [ff]
seeds: [0]
budget: { epochs: 2 }
evaluation: { episodes: 10 }
gin: |
  Experiment.train_batches_per_epoch = 2
  Experiment.log_to_wandb = %s
  Agent.tau = %s
"""
SECRETS = {
    "WANDB_API_KEY": "planted0key0of0wandb0123456789abcdef0123",
    "AWS_SECRET_ACCESS_KEY": "planted/secret/of/a/cloud/0123456789abc",
    "HF_TOKEN": "hf_planted0token0of0a0hub",
    "SOME_PASSWORD": "planted-password-of-somebody",
}


def holding(folder: Path, secrets: list[bytes]) -> list[str]:
    """Files (and names of files) below ``folder`` that hold one of ``secrets``."""
    found = []
    for path in folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        if any(s in content or s in os.fsencode(path) for s in secrets):
            found.append(str(path))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("wandb", "tau", "code"), [("True", "0.01", 0), ("False", "'no number'", 1)])
def test_planted_secrets_are_nowhere(tmp_path: Path, wandb: str, tau: str, code: int) -> None:
    """Guards logs, provenance, checkpoints, tables and the report, of a run that works and of one that fails."""
    (tmp_path / "tiny.yaml").write_text(SUITE % (wandb, tau))
    done = subprocess.run(
        [sys.executable, "-m", "amago_suite", "run", "tiny.yaml"],
        cwd=tmp_path, capture_output=True, timeout=300, check=False,
        env={**os.environ, **SECRETS, "WANDB_MODE": "offline"},
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    secrets = [s.encode() for s in SECRETS.values()]
    assert not any(s in done.stdout + done.stderr for s in secrets)
    assert len([p for p in tmp_path.rglob("*") if p.is_file()]) > 15
    assert holding(tmp_path, secrets) == []


def test_the_search_finds_one(tmp_path: Path) -> None:
    """Guards the search itself."""
    (tmp_path / "log").write_text(f"key={SECRETS['HF_TOKEN']}")
    assert holding(tmp_path, [SECRETS["HF_TOKEN"].encode()]) == [str(tmp_path / "log")]
