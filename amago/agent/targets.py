"""Temporal-difference targets."""

from __future__ import annotations

import torch
from torch import Tensor


def n_step_targets(
    reward: Tensor, done: Tensor, next_value: Tensor, gamma: Tensor, mask: Tensor, n_step: int = 1
) -> Tensor:
    """Sum of up to ``n_step`` discounted rewards, then a bootstrapped value.

    A target stops early, without a bootstrap, where an episode terminates; and with one at the
    last valid step of the sequence. It follows the recursion
    ``T_n[t] = r[t] + gamma (1 - d[t]) T_{n-1}[t + 1]`` with ``T_0[t + 1] = next_value[t]``, and
    ``next_value[t]`` also in place of a ``T`` that lies beyond the last valid step.

    Args:
        reward: (B, L, ...), already scaled.
        done: (B, L, ...) bool, or float with 1 where the episode terminated.
        next_value: (B, L, ...) value of the state *after* each step.
        gamma: discounts, broadcastable against the others.
        mask: (B, L, ...) bool (or float, 0 or 1), true at valid steps; valid steps come first.
        n_step: rewards in a full target, at least 1.

    Returns:
        Targets, of the broadcast shape. Those of invalid steps mean nothing.
    """
    keep = gamma * (1.0 - done.to(reward.dtype))
    target = reward + keep * next_value
    if n_step == 1:
        return target
    # Nothing follows the last row, nor a row whose successor is padding.
    next_is_valid = mask[:, 1:].bool()
    for _ in range(n_step - 1):
        onward = torch.where(next_is_valid, target[:, 1:], next_value[:, :-1])
        target = reward + keep * torch.cat((onward, next_value[:, -1:]), dim=1)
    return target
