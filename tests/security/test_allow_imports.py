"""`--allow-imports`, from the command to the last job."""

from __future__ import annotations

import json
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
  import own_parts
  own_part.size = 3
  Experiment.train_batches_per_epoch = 2
"""
PARTS = """
import gin

open("imported", "a").close()

@gin.configurable
def own_part(size=1):
    return size
"""


@pytest.mark.slow
def test_a_suite_with_parts_of_its_own(tmp_path: Path) -> None:
    """Guards the option: without it nothing is imported or started; with it every job may, and it is on record."""
    (tmp_path / "own.yaml").write_text(SUITE)
    (tmp_path / "own_parts.py").write_text(PARTS)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}

    def amago_suite(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "amago_suite", *words],
            cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False, env=environment,
        )  # fmt: skip

    for command in ("run", "check", "status", "tables"):
        refused = amago_suite(command, "own.yaml")
        assert refused.returncode == 2, refused.stdout + refused.stderr
        assert "unless --allow-imports is given" in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
    assert not (tmp_path / "imported").exists()
    assert not (tmp_path / "results").exists()

    done = amago_suite("run", "own.yaml", "--allow-imports")
    assert done.returncode == 0, done.stdout + done.stderr
    cell = tmp_path / "results/own/tmaze-passive/ff/seed_0"
    assert json.loads((cell / "provenance.json").read_text())["imports"] == ["own_parts"]
    assert "imports:\n- own_parts" in (cell / "cell.yaml").read_text()

    (cell / "policy.safetensors").unlink()
    for command in ("train", "evaluate"):
        by_hand = amago_suite(command, str(cell))
        assert by_hand.returncode != 0
    assert amago_suite("train", str(cell), "--allow-imports").returncode == 0
    assert amago_suite("evaluate", str(cell), "--allow-imports").returncode == 0
