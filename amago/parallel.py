"""Several processes that train one policy: each on its own batch, with one averaged gradient.

``torchrun --nproc_per_node 2 script.py``, ``accelerate launch --multi_gpu script.py`` or any launcher
that sets ``WORLD_SIZE`` and ``RANK`` starts them; the process group is accelerate's. Means over a batch
(losses, running statistics) are taken over the batches of all processes, so that P processes with
batches of B do what one with P x B does.
A single process never imports accelerate.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

from amago.errors import ConfigurationError

#: How many processes share each mean; read by code that a compiler traces.
_count = 1


class Processes:
    """This process among those that train together.

    Attributes:
        count: how many there are.
        rank: 0 for the one that writes files.
        device: this one's, or ``None`` for the usual.
    """

    def __init__(self, count: int = 1, rank: int = 0, device: torch.device | None = None) -> None:
        self.count, self.rank, self.device = count, rank, device

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def several(self) -> bool:
        return self.count > 1

    def wait(self) -> None:
        """Until all are here."""
        if self.several:
            torch.distributed.barrier()

    def any(self, value: bool) -> bool:
        """Whether it is true for any of them; all get the same answer."""
        if not self.several:
            return value
        flag = torch.tensor([float(value)], device=self.device)
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
        return bool(flag.item())

    def from_main(self, value: Any) -> Any:
        """The main one's value."""
        if not self.several:
            return value
        box = [value]
        torch.distributed.broadcast_object_list(box, src=0, device=self.device)
        return box[0]


def join() -> Processes:
    """Join the processes that a launcher started; alone when there was none.

    Raises:
        ConfigurationError: the launcher asks for several, and accelerate is missing.
    """
    global _count
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1 or "RANK" not in os.environ:
        return Processes()
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise ConfigurationError(
            "WORLD_SIZE asks for several processes, which needs accelerate: install it, or unset WORLD_SIZE"
        ) from error
    state = PartialState(cpu=not torch.cuda.is_available())
    _count = state.num_processes
    # "cpu:0" is not a name that file formats know.
    device = state.device if state.device.type != "cpu" else torch.device("cpu")
    return Processes(state.num_processes, state.process_index, device)


def sum_over_processes(x: Tensor) -> Tensor:
    """``x`` summed over all processes; without gradient. One process gets ``x`` itself."""
    if _count == 1:
        return x
    total = x.detach().clone()
    torch.distributed.all_reduce(total)
    return total


def mean_over_processes(x: Tensor) -> Tensor:
    """As :func:`sum_over_processes`, divided by their number."""
    return x if _count == 1 else sum_over_processes(x) / _count


def average_gradients(parameters: list[torch.nn.Parameter]) -> None:
    """Replace every gradient by its mean over the processes, in one exchange for each dtype."""
    if _count == 1:
        return
    by_dtype: dict[torch.dtype, list[Tensor]] = {}
    for p in parameters:
        if p.grad is not None:
            by_dtype.setdefault(p.grad.dtype, []).append(p.grad)
    for grads in by_dtype.values():
        flat = torch.cat([g.reshape(-1) for g in grads])
        torch.distributed.all_reduce(flat)
        flat /= _count
        for grad, part in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
            grad.copy_(part.view_as(grad))
