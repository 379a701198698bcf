"""Policies trained with AMAGO v3: their parameters under our names.

Names are the reference's on purpose, so nearly all pass unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from amago.errors import CheckpointError

#: Copies and constants that the reference saves and we derive or do not keep.
_DROPPED = ("maximized_critics.",)

#: Whole modules by which a wrapper (DistributedDataParallel, torch.compile) prefixes names.
_WRAPPERS = ("module.", "_orig_mod.")


def import_v3_state_dict(state_dict: Mapping[str, Tensor], agent: nn.Module) -> dict[str, Tensor]:
    """An AMAGO v3 policy's state dict as ours.

    Buffers that we derive from settings (bins, discounts) are left out; so are the copies of critics
    that we do not keep. What the file lacks of the targets is copied from the learned networks.

    Args:
        state_dict: the reference's parameters and buffers by name.
        agent: the agent that will load the result (``agent.load_state_dict(result)``).

    Returns:
        A state dict with exactly the agent's names and shapes.

    Raises:
        CheckpointError: a parameter is missing, unknown or of another shape; the message names it.
    """
    ours = agent.state_dict()
    derived = {name for name, _ in agent.named_buffers()} - set(ours)
    found: dict[str, Tensor] = {}
    unknown: list[str] = []
    for key, value in state_dict.items():
        name = _unwrapped(key)
        if name.startswith(_DROPPED) or name in derived:
            continue
        if name in ours:
            found[name] = _fit(name, torch.as_tensor(value), ours[name])
        elif _is_buffer_of_reference(name, ours):
            continue
        else:
            unknown.append(name)
    if unknown:
        raise CheckpointError(
            f"the policy file has parameters that this agent has not ({_some(unknown)}); "
            "configure the architecture that it was trained with"
        )
    for name in ours:
        if name not in found and name.startswith("target_"):
            source = name.removeprefix("target_")
            if source in found:
                found[name] = found[source].clone()
    missing = [name for name in ours if name not in found]
    if missing:
        raise CheckpointError(
            f"the policy file lacks parameters of this agent ({_some(missing)}); "
            "configure the architecture that it was trained with"
        )
    return found


def _unwrapped(name: str) -> str:
    for prefix in _WRAPPERS:
        name = name.removeprefix(prefix)
    return name


def _is_buffer_of_reference(name: str, ours: Mapping[str, Tensor]) -> bool:
    """A constant of a module that we have, such as a table of bins: not something learned."""
    module, _, leaf = name.rpartition(".")
    learned = ("weight", "bias", "gain", "gamma", "u", "v", "mu", "nu", "w", "b", "_t")
    return leaf not in learned and any(key.startswith(module + ".") for key in ours)


def _fit(name: str, value: Tensor, like: Tensor) -> Tensor:
    """The same numbers in our shape; sizes of 1 may lie elsewhere."""
    if value.shape != like.shape:
        if [n for n in value.shape if n != 1] != [n for n in like.shape if n != 1]:
            raise CheckpointError(
                f"{name} is {tuple(value.shape)} in the policy file but {tuple(like.shape)} here; "
                "configure the architecture that it was trained with"
            )
        value = value.reshape(like.shape)
    return value.to(like.dtype)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
