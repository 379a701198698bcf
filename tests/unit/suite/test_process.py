"""What a job sets up before torch is imported."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from amago_suite import process

ROOT = Path(__file__).parents[3]

TRAIN = """
import hashlib, pathlib, sys, tempfile
from amago_suite.process import keep_memory
if sys.argv[1] == "kept":
    assert keep_memory()
from tests.unit.core.small_run import configure, experiment
configure()
with tempfile.TemporaryDirectory() as folder:
    run = experiment(pathlib.Path(folder), "transformer", batch_size=64, epochs=3)
    run.learn()
    run.save_policy(pathlib.Path(folder, "p.safetensors"))
    print(hashlib.sha256(pathlib.Path(folder, "p.safetensors").read_bytes()).hexdigest())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_kept_memory_changes_no_result() -> None:
    """The allocator's thresholds are set, and training gives the same bits with and without."""
    hashes = []
    for word in ("kept", "as it is"):
        done = subprocess.run(
            [sys.executable, "-c", TRAIN, word],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'workflow'}"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        hashes.append(done.stdout.split()[-1])
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize("libc", [OSError(), SimpleNamespace(), SimpleNamespace(mallopt=lambda a, b: 1)])
def test_other_c_libraries_are_left_alone(libc: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """No mallopt (macOS), a mallopt that means something else (musl has none of glibc's), no library at all."""

    def load(name: None) -> object:
        if isinstance(libc, OSError):
            raise libc
        return libc

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert process.keep_memory() is False


def test_a_job_prepares_itself(grid_of, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads always; cuBLAS's workspace, which CUDA reads once at its start, only when asked for."""
    for name in ("OMP_NUM_THREADS", "CUBLAS_WORKSPACE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    plain = grid_of().cells[0]
    process.prepare_process(plain)
    assert os.environ["OMP_NUM_THREADS"] == "1"
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    from tests.unit.suite.conftest import TINY

    exact = grid_of(TINY + "deterministic: true\n").cells[0]
    process.prepare_process(exact)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert (exact.train_hash, exact.evaluation_hash) == (plain.train_hash, plain.evaluation_hash)


def test_a_cells_settings_reach_the_experiment(grid_of, tmp_path: Path) -> None:
    """What the suite says of checkpoints and kernels is what training does."""
    from amago_suite.build import apply_gin, build_experiment
    from tests.unit.suite.conftest import TINY

    said = "checkpoint: { every_epochs: 7, every_minutes: 1.5, keep: 3 }\ndeterministic: true\n"
    cell = grid_of(TINY + said).cells[0]
    apply_gin(cell)
    made = build_experiment(cell, state=tmp_path, log_dir=tmp_path)
    assert (made.ckpt_interval, made.ckpt_interval_minutes, made.keep_last_checkpoints) == (7, 1.5, 3)
    assert made.deterministic is True
