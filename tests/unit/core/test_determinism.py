"""Deterministic kernels: always on a CPU, on a GPU by a setting, and never claimed wrongly."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from amago import determinism
from amago.errors import ConfigurationError
from tests.unit.core.small_run import assert_same, configure, experiment

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def switched(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What torch is told, instead of telling it."""
    told: list[bool] = []
    monkeypatch.setattr(torch, "use_deterministic_algorithms", told.append)
    return told


def test_a_cpu_needs_nothing(switched: list[bool]) -> None:
    """torch's switch would only make a CPU slower, and the record says why it is off."""
    determinism.set_deterministic(True, CPU)
    assert switched == []
    assert determinism.determinism(CPU) == "cpu: always"


def test_a_gpu_is_switched_before_cuda_starts(switched: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """cuBLAS reads its workspace once: it is set in time, and too late is an error, not a claim."""
    monkeypatch.delenv(determinism.CUBLAS_VARIABLE, raising=False)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(ConfigurationError, match="before CUDA starts"):
        determinism.set_deterministic(True, CUDA)
    assert switched == []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    determinism.set_deterministic(True, CUDA)
    determinism.set_deterministic(False, CUDA)
    assert switched == [True, False]
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: False)
    assert determinism.determinism(CUDA) is False


@pytest.mark.gpu
@pytest.mark.parametrize("arch", ["ff", "rnn", "transformer"])
def test_runs_on_a_gpu_repeat(tmp_path: Path, arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs, and one that goes on from the middle, end in the same bits on a GPU."""
    monkeypatch.setenv(determinism.CUBLAS_VARIABLE, determinism.CUBLAS_WORKSPACE)
    configure()
    before = torch.are_deterministic_algorithms_enabled()
    try:
        runs = []
        for name in ("a", "b", "c"):
            if name == "c":
                experiment(tmp_path / name, arch, deterministic=True, epochs=3).learn()
            run = experiment(tmp_path / name, arch, deterministic=True)
            assert run.DEVICE.type == "cuda"
            assert determinism.determinism(run.DEVICE) is True
            run.learn()
            runs.append(run)
        assert_same(runs[0], runs[1])
        assert_same(runs[0], runs[2])
    finally:
        torch.use_deterministic_algorithms(before)
