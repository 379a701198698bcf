"""Policies trained with AMAGO v3: their parameters under our names.

Our names are the reference's on purpose, so nearly everything passes unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

#: A third copy of the critics; we hold the critics' weights fixed instead.
_NOT_KEPT = ("maximized_critics.",)

#: Constants that follow from settings: found only where a file saved them.
_DERIVED = frozenset(
    f"{module}{name}"
    for module in ("", "actor.", "target_actor.", "critics.", "target_critics.")
    for name in ("gammas", "gamma_feature", "bin_vals", "bins", "support")
)

#: What wrappers (distributed training, torch.compile) put before every name.
_WRAPPERS = ("module.", "_orig_mod.")


def convert_v3_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An AMAGO v3 policy's state dict as ours; one of ours passes unchanged.

    Whether the result fits an agent is for the caller to check (names and shapes).

    Args:
        state_dict: parameters and buffers by the reference's names.

    Returns:
        The same tensors by our names, without copies and constants that we do not keep.
    """
    ours = {}
    for key, value in state_dict.items():
        name = key
        for prefix in _WRAPPERS:
            name = name.removeprefix(prefix)
        if name not in _DERIVED and not name.startswith(_NOT_KEPT):
            ours[name] = value
    return ours
