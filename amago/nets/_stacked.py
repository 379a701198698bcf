"""Hand-written operators under ``torch.func.vmap``: one call for each member of the stack."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def loop_over_stack(op: Any) -> None:
    """Register for a custom operator of tensors and numbers the plain batching rule, a loop.

    A stack here is a handful of seeds; an operator's own work is a loop over hundreds of timesteps.
    """

    def rule(
        info: Any, in_dims: tuple[int | None, ...], *args: Any
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        members = []
        for i in range(info.batch_size):
            own = [
                a if dim is None else a.select(dim, i).contiguous()
                for a, dim in zip(args, in_dims, strict=True)
            ]
            members.append(op(*own))
        outs = tuple(torch.stack(part) for part in zip(*members, strict=True))
        return outs, (0,) * len(outs)

    op.register_vmap(rule)
