"""Mamba blocks (arXiv 2312.00752) in plain torch.

Shapes: B sequences, L timesteps, D = ``d_model``, E = ``expand * D`` channels, N = ``d_state``.
Parameter names are those of the authors' package, whose kernel is used on CUDA when it is installed.
"""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amago.nets.ff import Normalization

_HAS_KERNEL = importlib.util.find_spec("mamba_ssm") is not None


# -- h_t = a_t h_{t-1} + b_t ---------------------------------------------------------------------


def scan_steps(a: Tensor, b: Tensor) -> Tensor:
    """All ``h_t = a_t h_{t-1} + b_t`` from ``h_{-1} = 0``, one step after the other.

    Args:
        a: (L, ...).
        b: (L, ...).

    Returns:
        h, (L, ...). Touches every number once: the fastest where steps are not launched one by one.
    """
    h = torch.empty_like(b)
    h[0] = b[0]
    rows = h.unbind(0)
    for t, (a_t, b_t) in enumerate(zip(a.unbind(0)[1:], b.unbind(0)[1:], strict=True)):
        torch.addcmul(b_t, a_t, rows[t], out=rows[t + 1])
    return h


def scan_doubling(a: Tensor, b: Tensor) -> Tensor:
    """As :func:`scan_steps`, in log2(L) passes over everything (Hillis and Steele, 1986)."""
    length, reach = len(a), 1
    while reach < length:
        # before: h sums up `reach` steps and a multiplies over them; after: twice as many
        b = torch.cat([b[:reach], torch.addcmul(b[reach:], a[reach:], b[:-reach])])
        a = torch.cat([a[:reach], a[reach:] * a[:-reach]])
        reach *= 2
    return b


def _scan(a: Tensor, b: Tensor) -> Tensor:
    return scan_steps(a, b) if a.device.type == "cpu" else scan_doubling(a, b)


class LinearScan(torch.autograd.Function):
    """``h_t = a_t h_{t-1} + b_t`` from zero, (L, ...) each; its gradient is the same scan backwards."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        h = _scan(a, b)
        ctx.save_for_backward(a, h)
        return h

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_h: Tensor) -> tuple[Tensor, Tensor]:
        a, h = ctx.saved_tensors
        # g_t = grad_t + a_{t+1} g_{t+1}
        later = torch.cat([a[1:], torch.zeros_like(a[:1])])
        g = _scan(later.flip(0), grad_h.flip(0)).flip(0)
        grad_a = torch.cat([torch.zeros_like(h[:1]), g[1:] * h[:-1]])
        return grad_a, g


# -- blocks --------------------------------------------------------------------------------------


@dataclass
class MambaState:
    """One block's memory in a rollout.

    Attributes:
        conv: (B, E, d_conv - 1), the convolution's last inputs.
        ssm: (B, E, N).
    """

    conv: Tensor
    ssm: Tensor

    def reset(self, dones: Tensor) -> MambaState:
        """Zeros where ``dones`` (B,) is True."""
        where = dones[:, None, None]
        return MambaState(self.conv.masked_fill(where, 0.0), self.ssm.masked_fill(where, 0.0))


class Mamba(nn.Module):
    """Gated selective state-space layer (arXiv 2312.00752, figure 3 and algorithm 2).

    Args:
        d_model: D.
        d_state: N.
        d_conv: width of the causal convolution.
        expand: E / D.
    """

    def __init__(self, d_model: int, d_state: int, d_conv: int, expand: int) -> None:
        super().__init__()
        self.d_inner, self.d_state, self.d_conv = expand * d_model, d_state, d_conv
        self.dt_rank = math.ceil(d_model / 16)
        self.in_proj = nn.Linear(d_model, 2 * self.d_inner, bias=False)
        self.conv1d = nn.Conv1d(self.d_inner, self.d_inner, d_conv, groups=self.d_inner, padding=d_conv - 1)
        self.x_proj = nn.Linear(self.d_inner, self.dt_rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(self.dt_rank, self.d_inner)
        self.A_log = nn.Parameter(torch.arange(1.0, d_state + 1.0).log().repeat(self.d_inner, 1))
        self.D = nn.Parameter(torch.ones(self.d_inner))
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)
        self._init_steps()

    @torch.no_grad()
    def _init_steps(self, low: float = 1e-3, high: float = 0.1) -> None:
        """Step sizes start log-uniform in [low, high] (section 3.6)."""
        bound = self.dt_rank**-0.5
        self.dt_proj.weight.uniform_(-bound, bound)
        step = torch.empty(self.d_inner).uniform_(math.log(low), math.log(high)).exp().clamp(min=1e-4)
        # the inverse of softplus
        self.dt_proj.bias.copy_(step + torch.log(-torch.expm1(-step)))

    def init_state(self, batch_size: int, device: torch.device | str) -> MambaState:
        """Zeros."""
        like: dict[str, Any] = {"device": device, "dtype": self.D.dtype}
        return MambaState(
            conv=torch.zeros(batch_size, self.d_inner, self.d_conv - 1, **like),
            ssm=torch.zeros(batch_size, self.d_inner, self.d_state, **like),
        )

    def _select(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x (..., E) -> step sizes (..., E), A (E, N), B and C (..., N)."""
        dt, b, c = self.x_proj(x).split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        return F.softplus(self.dt_proj(dt)), -torch.exp(self.A_log.float()), b, c

    def forward(self, seq: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        x, gate = self.in_proj(seq).chunk(2, dim=-1)
        x = F.silu(self.conv1d(x.transpose(1, 2))[..., : seq.shape[1]])
        use_kernel = _HAS_KERNEL and seq.is_cuda
        y = self._kernel(x) if use_kernel else self._plain(x.permute(2, 0, 1)).transpose(0, 1)
        return self.out_proj(y * F.silu(gate))

    def _plain(self, x: Tensor) -> Tensor:
        """The state-space part, time first: (L, B, E) -> (L, B, E)."""
        dt, a, b, c = self._select(x)
        decay = torch.exp(dt[..., None] * a)
        h = LinearScan.apply(decay, (dt * x)[..., None] * b[..., None, :])
        return torch.einsum("lben,lbn->lbe", h, c.to(h.dtype)) + self.D * x

    def _kernel(self, x: Tensor) -> Tensor:
        """The same by the authors' kernel: (B, E, L) -> (B, L, E)."""
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

        dt, a, b, c = self._select(x.transpose(1, 2))
        dt, b, c = (m.transpose(1, 2).contiguous() for m in (dt, b, c))
        return selective_scan_fn(x.contiguous(), dt, a, b, c, self.D.float()).transpose(1, 2)

    def step(self, token: Tensor, state: MambaState) -> tuple[Tensor, MambaState]:
        """One timestep: (B, 1, D) -> (B, 1, D) and the next state."""
        x, gate = self.in_proj(token[:, 0]).chunk(2, dim=-1)
        window = torch.cat([state.conv, x[..., None].to(state.conv.dtype)], dim=-1)
        x = F.silu((window * self.conv1d.weight[:, 0]).sum(-1) + self.conv1d.bias)
        dt, a, b, c = self._select(x)
        ssm = torch.exp(dt[..., None] * a) * state.ssm + (dt * x)[..., None] * b[:, None]
        y = (ssm * c[:, None]).sum(-1) + self.D * x
        return self.out_proj(y * F.silu(gate))[:, None], MambaState(window[..., 1:], ssm)


class MambaBlock(nn.Module):
    """``x + mamba(norm(x))``.

    Args:
        d_model: D.
        d_state: N.
        d_conv: width of the causal convolution.
        expand: E / D.
        norm: kind of normalisation.
    """

    def __init__(self, d_model: int, d_state: int, d_conv: int, expand: int, norm: str | None) -> None:
        super().__init__()
        self.mamba = Mamba(d_model, d_state, d_conv, expand)
        self.norm = Normalization(norm, d_model)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        return x + self.mamba(self.norm(x))

    def step(self, x: Tensor, state: MambaState) -> tuple[Tensor, MambaState]:
        """One timestep: (B, 1, D) -> (B, 1, D) and the next state."""
        out, state = self.mamba.step(self.norm(x), state)
        return x + out, state
