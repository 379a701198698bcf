"""Advantage filters: how much each stored action is worth imitating.

A filter turns advantages of any shape into non-negative weights of the same shape for the
log-probability of the stored action. A user's own filter is any function of that kind.
"""

from __future__ import annotations

import gin
import torch
import torch.nn.functional as F
from torch import Tensor


@gin.configurable(module="amago.agent")
def binary_filter(adv: Tensor, threshold: float = 0.0) -> Tensor:
    """1 where the advantage is above the threshold, else 0 (CRR "binary max", arXiv 2006.15134).

    Args:
        adv: advantages, any shape.
        threshold: the advantage that must be exceeded.

    Returns:
        Weights of the same shape and dtype.
    """
    return (adv > threshold).to(adv.dtype)


@gin.configurable(module="amago.agent")
def exp_filter(
    adv: Tensor,
    beta: float = 1.0,
    clip_adv_low: float | None = None,
    clip_adv_high: float | None = None,
    clip_weights_low: float | None = 1e-7,
    clip_weights_high: float | None = None,
) -> Tensor:
    """exp(beta * advantage), as in advantage-weighted regression (arXiv 1910.00177).

    Args:
        adv: advantages, any shape.
        beta: inverse temperature; larger follows the critics more greedily.
        clip_adv_low: lower bound of the advantage before the exponential.
        clip_adv_high: upper bound of the advantage before the exponential.
        clip_weights_low: lower bound of the weights.
        clip_weights_high: upper bound of the weights.

    Returns:
        Weights of the same shape.
    """
    weights = torch.exp(beta * _clip(adv, clip_adv_low, clip_adv_high))
    return _clip(weights, clip_weights_low, clip_weights_high)


@gin.configurable(module="amago.agent")
def leaky_relu_filter(
    adv: Tensor,
    beta: float = 2.0,
    tau: float = 0.01,
    neg_slope: float = 0.05,
    target_f0: float = 0.01,
    clip_weights_low: float | None = 1e-7,
    clip_weights_high: float | None = 10.0,
    add_binary: bool = True,
) -> Tensor:
    """Weights that grow linearly with the advantage, slowly below ``tau``.

    clip(leaky_relu((A - tau) / beta) + target_f0 + neg_slope tau / beta), and then + 1[A > 0].
    For positive ``tau``, an advantage of 0 weighs ``target_f0``.

    Args:
        adv: advantages, any shape.
        beta: scale of advantages; larger is flatter.
        tau: where the steep part begins.
        neg_slope: slope of the flat part, relative to the steep one.
        target_f0: the weight of a zero advantage, before clipping.
        clip_weights_low: lower bound of the linear part.
        clip_weights_high: upper bound of the linear part.
        add_binary: add 1 (after clipping) where the advantage is positive.

    Returns:
        Weights of the same shape.
    """
    linear = F.leaky_relu((adv - tau) / beta, negative_slope=neg_slope)
    weights = _clip(linear + target_f0 + neg_slope * tau / beta, clip_weights_low, clip_weights_high)
    return weights + (adv > 0) if add_binary else weights


def _clip(x: Tensor, low: float | None, high: float | None) -> Tensor:
    return x if low is None and high is None else torch.clamp(x, min=low, max=high)
