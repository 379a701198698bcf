"""Small pieces that every network uses: value squashing, input statistics, activations, Adam-Rel."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import gin
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amago.errors import ConfigurationError
from amago.parallel import sum_over_processes
from amago.registry import nearest

Number = TypeVar("Number", float, Tensor)


def symlog(x: Number) -> Number:
    """``sign(x) log(1 + |x|)`` of a number, or elementwise of any shape (DreamerV3, arXiv 2301.04104, eq. 9)."""
    if not isinstance(x, Tensor):
        return math.copysign(math.log1p(abs(x)), x)
    return torch.sign(x) * torch.log1p(torch.abs(x))


def symexp(x: Number) -> Number:
    """``sign(x) (exp(|x|) - 1)`` of a number, or elementwise of any shape: the inverse of :func:`symlog`."""
    if not isinstance(x, Tensor):
        return math.copysign(math.expm1(abs(x)), x)
    return torch.sign(x) * torch.expm1(torch.abs(x))


def add_activation_log(root_key: str, activation: Tensor, log_dict: dict[str, Any] | None = None) -> None:
    """Log the extent of a layer's output, padding included; for networks of one's own.

    Args:
        root_key: metrics are ``activation-{root_key}-max``, ``-min``, ``-mean`` and ``-std``.
        activation: any shape.
        log_dict: as networks get it; nothing is done without one.
    """
    if log_dict is not None:
        x = activation.detach().float()
        found = {"max": x.max(), "min": x.min(), "mean": x.mean(), "std": x.std(correction=0)}
        log_dict.update({f"activation-{root_key}-{name}": value for name, value in found.items()})


def masked_moments(x: Tensor, mask: Tensor | None, stat_ndim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean of ``x`` and of ``x**2`` over valid entries (of all processes), and whether there was any.

    Args:
        x: (..., *stat) values. Entries outside the mask may be anything, NaN included.
        mask: broadcastable to ``x``; True (or non-zero) is valid. None: all are.
        stat_ndim: how many of the last dimensions are kept apart.

    Returns:
        E[x], E[x^2] and a bool tensor, each of shape ``x.shape[-stat_ndim:]``.
    """
    dims = tuple(range(x.dim() - stat_ndim))
    valid = torch.ones_like(x, dtype=torch.bool) if mask is None else mask.bool().expand_as(x)
    # where, not a product: NaN in padding must not spread
    x = torch.where(valid, x, 0.0)
    count = sum_over_processes(valid.sum(dim=dims).to(x.dtype))
    some = count > 0
    count = count.clamp(min=1.0)
    total, squares = sum_over_processes(x.sum(dim=dims)), sum_over_processes(x.square().sum(dim=dims))
    return total / count, squares / count, some


def check_step_size(cls: str, beta: float) -> None:
    """Refuse a step of running averages outside (0, 1]: 0 leaves nothing to divide by."""
    if not 0.0 < beta <= 1.0:
        raise ConfigurationError(f"{cls}.beta is {beta}; use more than 0, at most 1")


def bias_corrected_step(beta: float, t: Tensor) -> Tensor:
    """Step size ``beta / (1 - (1 - beta)^t)``, in the dtype of ``t`` (float32 on purpose)."""
    return beta / (1.0 - (1.0 - beta) ** t)


@gin.configurable
class InputNorm(nn.Module):
    """Standardises each input feature with running statistics.

    Statistics only move in :meth:`update_stats`; :meth:`forward` uses what is there.
    An update is bias-corrected, so that the first batches count fully.

    Args:
        dim: number of features D.
        beta: step size of the running averages.
        init_nu: second moment to start from.
        skip: pass values through unchanged (statistics can still be kept).
    """

    mu: Tensor
    nu: Tensor
    _t: Tensor

    def __init__(self, dim: int, beta: float = 1e-4, init_nu: float = 1.0, skip: bool = False) -> None:
        super().__init__()
        check_step_size("InputNorm", beta)
        self.dim, self.beta, self.skip = dim, beta, skip
        self.register_buffer("mu", torch.zeros(dim))
        self.register_buffer("nu", torch.full((dim,), float(init_nu)))
        self.register_buffer("_t", torch.ones(1))

    @property
    def sigma(self) -> Tensor:
        """Standard deviation (D,), within [1e-3, 1e6]."""
        # rounding can leave a slightly negative variance where the mean is large
        variance = (self.nu - self.mu.square() + 1e-5).clamp(min=0.0)
        return variance.sqrt().clamp(1e-3, 1e6)

    def normalize_values(self, x: Tensor) -> Tensor:
        """Standardised ``x`` (..., D), within ±1e4; features that hardly vary are only centred."""
        sigma = self.sigma
        centred = x - self.mu
        return torch.where(sigma > 0.01, (centred / sigma).clamp(-1e4, 1e4), centred)

    def denormalize_values(self, y: Tensor) -> Tensor:
        """The inverse of :meth:`normalize_values` (..., D), where nothing was clamped."""
        sigma = self.sigma
        return torch.where(sigma > 0.01, y * sigma, y) + self.mu

    @torch.no_grad()
    def update_stats(self, x: Tensor, mask: Tensor | None = None) -> None:
        """Moves the statistics, in place, towards those of a batch.

        Args:
            x: (..., D).
            mask: (..., 1) or (..., D), True for values that count. An all-False mask changes nothing.
        """
        mean, mean_sq, some = masked_moments(x.to(self.mu.dtype), mask, stat_ndim=1)
        t = self._t + 1.0
        beta = bias_corrected_step(self.beta, t)
        self.mu.copy_(torch.where(some, (1.0 - beta) * self.mu + beta * mean, self.mu))
        self.nu.copy_(torch.where(some, (1.0 - beta) * self.nu + beta * mean_sq, self.nu))
        self._t.copy_(torch.where(some.any(), t, self._t))

    def forward(self, x: Tensor) -> Tensor:
        """Standardised ``x`` (..., D), or ``x`` itself with ``skip``."""
        return x if self.skip else self.normalize_values(x)


# Least-squares fit of P(x) / (1 + |Q(x)|) to the leaky ReLU (slope 0.01) on [-3, 3].
_RATIONAL_P = (0.0335721, 0.505009, 1.65272, 2.00818, 0.930607, 0.152138)
_RATIONAL_Q = (8.57379e-05, 3.97648, 6.23785e-05, 0.301253)


@gin.configurable
class SlowAdaptiveRational(nn.Module):
    """Learned activation: a quotient of polynomials of degree 5 and 4, without poles.

    ``f(x) = (p0 + p1 x + ... + p5 x^5) / (1 + |q1 x + ... + q4 x^4|)`` (arXiv 1907.06732; in RL:
    arXiv 2102.09407). It starts as an approximation of the leaky ReLU. One set of coefficients serves a
    whole layer, so it is "slow": coefficients move ``1 / 10`` as fast as weights do under Adam, whose
    steps do not depend on the gradient's scale, because the learned quantity is their scaled offset.

    Args:
        trainable: learn the coefficients, or keep the starting shape.
    """

    rate = 0.1
    p_init: Tensor
    q_init: Tensor

    def __init__(self, trainable: bool = True) -> None:
        super().__init__()
        self.trainable = trainable
        self.register_buffer("p_init", torch.tensor(_RATIONAL_P), persistent=False)
        self.register_buffer("q_init", torch.tensor(_RATIONAL_Q), persistent=False)
        self.p_offset = nn.Parameter(torch.zeros(len(_RATIONAL_P)), requires_grad=trainable)
        self.q_offset = nn.Parameter(torch.zeros(len(_RATIONAL_Q)), requires_grad=trainable)

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise, any shape, same shape out."""
        p = self.p_init + self.rate * self.p_offset
        q = self.q_init + self.rate * self.q_offset
        # far out the quotient grows linearly, but x^5 would overflow half precision
        z = x.float()
        top = p[5]
        for k in range(4, -1, -1):
            top = top * z + p[k]
        bottom = q[3]
        for k in range(2, -1, -1):
            bottom = bottom * z + q[k]
        return (top / (1.0 + (bottom * z).abs())).to(x.dtype)


Activation = Callable[[Tensor], Tensor]

_ACTIVATIONS: dict[str, Activation] = {
    "leaky_relu": F.leaky_relu,
    "relu": F.relu,
    "relu6": F.relu6,
    "gelu": F.gelu,
    "tanh": torch.tanh,
    "silu": F.silu,
    "swish": F.silu,
    "mish": F.mish,
    "elu": F.elu,
    "selu": F.selu,
    "celu": F.celu,
    "softplus": F.softplus,
    "sigmoid": torch.sigmoid,
    "hardtanh": F.hardtanh,
    "identity": lambda x: x,
    "linear": lambda x: x,
    "none": lambda x: x,
}
_LEARNED: dict[str, Callable[[], nn.Module]] = {"adaptive": SlowAdaptiveRational}


def activation_switch(activation: str | Activation) -> Activation:
    """The activation function called ``activation``.

    A learned one ("adaptive") is a new module: assign it to an attribute of the network, so that its
    parameters are found. A callable is returned as it is.

    Raises:
        ConfigurationError: no such name; the message has the nearest ones.
    """
    if not isinstance(activation, str):
        return activation
    name = activation.lower()
    if name in _LEARNED:
        return _LEARNED[name]()
    if name in _ACTIVATIONS:
        return _ACTIVATIONS[name]
    known = sorted([*_ACTIVATIONS, *_LEARNED])
    raise ConfigurationError(f"unknown activation {activation!r}; {nearest(name, known)}")


@gin.configurable
class AdamWRel(torch.optim.AdamW):
    """AdamW with relative timesteps: moments stay, their bias correction starts over.

    When the loss changes under the optimiser (a new target network, a new task), gradients can grow
    suddenly; a fresh step count keeps the step size bounded (Adam-Rel, arXiv 2412.17113).

    Args:
        params: parameters or groups, as for ``torch.optim.AdamW``.
        reset_every: start over by itself every so many steps; None: only :meth:`reset_timesteps` does.
        **kwargs: as for ``torch.optim.AdamW`` (lr, betas, eps, weight_decay, ...).

    Raises:
        ConfigurationError: ``reset_every`` is not positive.
    """

    def __init__(self, params: Iterable[Any], reset_every: int | None = None, **kwargs: Any) -> None:
        if reset_every is not None and reset_every < 1:
            raise ConfigurationError(f"AdamWRel.reset_every is {reset_every}; use a positive number or None")
        super().__init__(params, **kwargs)
        self.reset_every = reset_every

    @torch.no_grad()
    def reset_timesteps(self) -> None:
        """Sets every parameter's step count to 0; the next step is bias-corrected as a first one."""
        for state in self.state.values():
            state["step"].zero_()

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One optimiser step; returns the closure's loss, if there is a closure."""
        loss = super().step(closure)
        if self.reset_every is not None:
            # the count itself is the clock: it is in state_dict, so a resumed run resets on time
            for state in self.state.values():
                state["step"].remainder_(self.reset_every)
        return loss
