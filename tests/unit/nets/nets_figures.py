"""Figures of AMAGO v3.3 in ``tests/reference``, and how close ours must come to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

FOLDER = Path(__file__).parents[2] / "reference"


def figures(name: str) -> dict[str, Tensor]:
    """The arrays of one reference file, as tensors."""
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        return {key: torch.as_tensor(file[key]) for key in file.files}


def load_weights(module: nn.Module, arrays: dict[str, Tensor]) -> None:
    """Gives a module the file's ``weights/...``; every name must match."""
    weights = {k.removeprefix("weights/"): v for k, v in arrays.items() if k.startswith("weights/")}
    module.load_state_dict(weights, strict=True)


def assert_close(ours: Tensor, theirs: Tensor, tolerance: float = 1e-5) -> None:
    """``|a - b| <= tolerance * max|b|`` everywhere, with the same shape."""
    assert ours.shape == theirs.shape
    scale = theirs.abs().max().item()
    error = (ours - theirs).abs().max().item()
    assert error <= tolerance * scale, f"off by {error:.3g} where the largest value is {scale:.3g}"
