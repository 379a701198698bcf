"""Scale-free value targets (PopArt, arXiv 1602.07714)."""

from __future__ import annotations

import gin
import torch
from torch import Tensor, nn

from amago.nets.utils import bias_corrected_step, check_step_size, masked_moments


@gin.configurable(module="amago.nets.actor_critic")
class PopArtLayer(nn.Module):
    """Running mean and second moment of value targets, and an output layer that keeps up with them.

    An update of the statistics rescales ``w`` and ``b`` so that un-normalised predictions stay the same.
    All buffers are float32 of shape (G, 1); they change in place, and only in :meth:`update_stats`.

    Args:
        num_gammas: G; each discount has its own statistics.
        beta: step size of the running averages (bias-corrected).
        init_nu: second moment to start from.
        enabled: False makes every method the identity and keeps statistics still.
    """

    mu: Tensor
    nu: Tensor
    w: Tensor
    b: Tensor
    _t: Tensor

    def __init__(
        self, num_gammas: int, beta: float = 5e-4, init_nu: float = 100.0, enabled: bool = True
    ) -> None:
        super().__init__()
        check_step_size("PopArtLayer", beta)
        self.beta, self.enabled = beta, enabled
        shape = (num_gammas, 1)
        self.register_buffer("mu", torch.zeros(shape))
        self.register_buffer("nu", torch.full(shape, float(init_nu)))
        self.register_buffer("w", torch.ones(shape))
        self.register_buffer("b", torch.zeros(shape))
        self.register_buffer("_t", torch.ones(shape))

    @staticmethod
    def _std(mu: Tensor, nu: Tensor) -> Tensor:
        return (nu - mu.square()).clamp(1e-4, 1e8).sqrt().clamp(1e-4, 1e6)

    @property
    def sigma(self) -> Tensor:
        """Standard deviation of the targets (G, 1)."""
        return self._std(self.mu, self.nu)

    @torch.no_grad()
    def update_stats(self, targets: Tensor, mask: Tensor | None = None) -> None:
        """Moves the statistics towards a batch of un-normalised targets.

        Args:
            targets: (..., G, 1), in the units of returns.
            mask: broadcastable to ``targets``, for example (B, L, 1, 1, 1); True counts. A discount
                without any valid target keeps everything, its step count too.
        """
        if not self.enabled:
            return
        mean, mean_sq, some = masked_moments(targets.to(self.mu.dtype), mask, stat_ndim=2)
        t = self._t + 1.0
        beta = bias_corrected_step(self.beta, t)
        mu = torch.where(some, (1.0 - beta) * self.mu + beta * mean, self.mu)
        nu = torch.where(some, (1.0 - beta) * self.nu + beta * mean_sq, self.nu)
        old, new = self.sigma, self._std(mu, nu)
        w = self.w * old / new
        b = (old * self.b + self.mu - mu) / new
        self.w.copy_(torch.where(some, w, self.w))
        self.b.copy_(torch.where(some, b, self.b))
        self.mu.copy_(mu)
        self.nu.copy_(nu)
        self._t.copy_(torch.where(some, t, self._t))

    def normalize_values(self, y: Tensor) -> Tensor:
        """``(y - mu) / sigma`` for targets (..., G, 1)."""
        return (y - self.mu) / self.sigma if self.enabled else y

    def forward(self, q: Tensor, normalized: bool = True) -> Tensor:
        """Critic outputs (..., G, 1) on the normalised scale, or in the units of returns.

        Args:
            q: raw critic outputs.
            normalized: True gives ``w q + b``, False ``(w q + b) sigma + mu``.
        """
        if not self.enabled:
            return q
        q = self.w * q + self.b
        return q if normalized else q * self.sigma + self.mu
