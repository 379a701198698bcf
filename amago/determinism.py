"""Whether two equal runs end in equal bits: always on a CPU, on a GPU with deterministic kernels."""

from __future__ import annotations

import os
from typing import Literal

import torch

from amago.errors import ConfigurationError

#: cuBLAS picks among its kernels by the workspace that is free; a fixed one makes its sums repeat.
#: CUDA's documentation names two values, this is the faster.
CUBLAS_VARIABLE = "CUBLAS_WORKSPACE_CONFIG"
CUBLAS_WORKSPACE = ":4096:8"
_REPEATING = (CUBLAS_WORKSPACE, ":16:8")

#: What a run's record says: kernels of a CPU always repeat, those of a GPU only when asked.
Determinism = Literal["cpu: always"] | bool


def fix_cublas() -> None:
    """Fix cuBLAS's workspace. Works only before CUDA starts in this process; otherwise harmless."""
    os.environ.setdefault(CUBLAS_VARIABLE, CUBLAS_WORKSPACE)


def set_deterministic(on: bool, device: torch.device) -> None:
    """Use deterministic kernels on a GPU, or any (``on=False``); on a CPU there is nothing to choose.

    An operation that has no deterministic kernel then raises torch's RuntimeError, which names it.

    Raises:
        ConfigurationError: CUDA started with a cuBLAS workspace that does not repeat.
    """
    if device.type != "cuda":
        return
    if on:
        if not torch.cuda.is_initialized():
            fix_cublas()
        if os.environ.get(CUBLAS_VARIABLE) not in _REPEATING:
            raise ConfigurationError(
                f"Experiment.deterministic=True needs {CUBLAS_VARIABLE}={CUBLAS_WORKSPACE} in the environment "
                f"before CUDA starts, and it is {os.environ.get(CUBLAS_VARIABLE, 'not set')}"
            )
        # Its trials choose the fastest kernel, and another run may choose another.
        torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(on)


def determinism(device: torch.device) -> Determinism:
    """What holds for kernels on ``device`` in this process now."""
    if device.type == "cpu":
        return "cpu: always"
    return torch.are_deterministic_algorithms_enabled()
