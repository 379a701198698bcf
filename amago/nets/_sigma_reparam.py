"""Linear layers whose spectral norm is learned (arXiv 2303.06296)."""

from __future__ import annotations

import math

import gin
import torch
import torch.nn.functional as F
from torch import Tensor, nn


@gin.configurable(module="amago.nets.transformer")
class SigmaReparam(nn.Module):
    """Linear layer with weight ``gamma W / sigma(W)``, sigma being the largest singular value.

    Sigma is estimated as ``u^T W v``, by one power iteration in every training forward. ``u`` and ``v``
    are constants to the gradient, which flows through ``W`` above and below the fraction. The bias is
    not scaled.

    Args:
        d_in: input width.
        d_out: output width.
        bias: have one.
        fast_init: start as torch's linear with random ``u`` and ``v``, rather than with weights of
            standard deviation 0.02 and the true singular vectors (a decomposition each: slow when wide).
    """

    u: Tensor
    v: Tensor

    def __init__(self, d_in: int, d_out: int, bias: bool = True, fast_init: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(d_out, d_in))
        self.bias = nn.Parameter(torch.empty(d_out)) if bias else None
        self.gamma = nn.Parameter(torch.ones(1))
        bound = 1.0 / math.sqrt(d_in)
        with torch.no_grad():
            if self.bias is not None:
                self.bias.uniform_(-bound, bound)
            if fast_init:
                self.weight.uniform_(-bound, bound)
                u, v = F.normalize(torch.randn(d_out), dim=0), F.normalize(torch.randn(d_in), dim=0)
            else:
                nn.init.trunc_normal_(self.weight, std=0.02, a=-2.0, b=2.0)
                left, _, right = torch.linalg.svd(self.weight, full_matrices=False)
                # Copies, not views: compiled layers crash on buffers with strides.
                u, v = left[:, 0].clone().contiguous(), right[0].clone().contiguous()
        self.register_buffer("u", u)
        self.register_buffer("v", v)

    def effective_weight(self) -> Tensor:
        """``gamma W / (u^T W v)``, (d_out, d_in). In training mode ``u`` and ``v`` move first."""
        device = self.weight.device.type
        if torch.is_autocast_enabled(device):
            # half precision would lose the unit vectors over thousands of iterations
            with torch.autocast(device, enabled=False):
                return self._effective_weight()
        return self._effective_weight()

    def _effective_weight(self) -> Tensor:
        u, v = self.u, self.v
        if self.training:
            with torch.no_grad():
                u = F.normalize(torch.mv(self.weight, v), dim=0)
                v = F.normalize(torch.mv(self.weight.t(), u), dim=0)
                self.u.copy_(u)
                self.v.copy_(v)
        # The graph keeps the new vectors, not the buffers, which a second forward may overwrite.
        sigma = torch.dot(u, torch.mv(self.weight, v))
        return self.weight * (self.gamma / sigma)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d_in) -> (..., d_out)."""
        return F.linear(x, self.effective_weight(), self.bias)
