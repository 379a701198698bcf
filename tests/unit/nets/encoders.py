"""Shared by the tests of this folder: reference figures, episodes, and rollouts one step at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

REFERENCE = Path(__file__).parents[2] / "reference"


def reference(name: str) -> dict[str, np.ndarray]:
    """The arrays of one reference file."""
    with np.load(REFERENCE / f"{name}.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def load_weights(module: nn.Module, arrays: dict[str, np.ndarray]) -> None:
    """Load ``weights/...`` under exactly the reference's names."""
    head = "weights/"
    module.load_state_dict(
        {k.removeprefix(head): torch.tensor(v) for k, v in arrays.items() if k.startswith(head)}
    )


def assert_close(ours: Tensor, theirs: Any, tolerance: float = 1e-5) -> None:
    """|a - b| <= tolerance * max|b|."""
    theirs = torch.as_tensor(theirs)
    worst = (ours.detach() - theirs).abs().max().item()
    assert worst <= tolerance * theirs.abs().max().item(), worst


def scramble(module: nn.Module, seed: int = 0) -> None:
    """Weights large enough that attention and gates matter, spectral vectors included."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in module.named_parameters():
            if p.dim() >= 2 and "A_log" not in name and "head_scaler" not in name:
                p.normal_(0.0, 1.5 / p.shape[-1] ** 0.5, generator=generator)
            elif name.endswith("gamma"):
                p.uniform_(1.0, 2.0, generator=generator)
        for part in module.modules():
            if hasattr(part, "effective_weight"):
                left, _, right = torch.linalg.svd(part.weight)
                part.u.copy_(left[:, 0])
                part.v.copy_(right[0])


def times(batch: int, length: int, start: int = 0) -> Tensor:
    """Time indices (batch, length, 1) from ``start``."""
    return torch.arange(start, start + length).expand(batch, length)[..., None]


# Where each of four actors' episodes end: different steps, short and long, one actor twice in a row.
ENDS = [{3, 4, 17}, {24}, {9, 20}, {1, 24}]
STEPS = 28


def rollout_episodes(encoder: Any, dim: int) -> list[tuple[Tensor, Tensor]]:
    """Step four actors with resets at :data:`ENDS`; (inputs, outputs) of each episode, (T, .)."""
    generator = torch.Generator().manual_seed(1)
    n = len(ENDS)
    inputs = torch.randn(STEPS, n, dim, generator=generator)
    state = encoder.init_hidden_state(n, torch.device("cpu"))
    clock = torch.zeros(n, dtype=torch.int64)
    begin = [0] * n
    outputs, episodes = [], []
    with torch.inference_mode():
        for t in range(STEPS):
            out, state = encoder(inputs[t, :, None], clock[:, None, None], hidden_state=state)
            outputs.append(out[:, 0])
            clock = clock + 1
            dones = torch.tensor([t in ends for ends in ENDS])
            if dones.any():
                state = encoder.reset_hidden_state(state, dones)
                clock = clock.masked_fill(dones, 0)
            for i in range(n):
                if dones[i] or t == STEPS - 1:
                    rows = slice(begin[i], t + 1)
                    episodes.append((inputs[rows, i], torch.stack(outputs[rows])[:, i]))
                    begin[i] = t + 1
    return episodes


def assert_rollout_is_forward(encoder: Any, whole: Any, dim: int) -> None:
    """Every episode of a rollout equals ``whole``'s forward over that episode, to 1e-5."""
    episodes = rollout_episodes(encoder, dim)
    assert sorted(len(x) for x, _ in episodes)[-1] > 20
    with torch.no_grad():
        for x, out in episodes:
            expected, none = whole(x[None], times(1, len(x)))
            assert none is None
            assert (expected[0] - out).abs().max().item() <= 1e-5, len(x)
