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

from amago.nets._stacked import loop_over_stack
from amago.nets.ff import Normalization

_HAS_KERNEL = importlib.util.find_spec("mamba_ssm") is not None

#: Timesteps whose states are in memory together: few fit into a CPU's cache, many keep a device busy.
CHUNK_CPU, CHUNK_DEVICE = 8, 64
#: Largest N that the authors' kernel takes.
MAX_KERNEL_STATE = 256


# -- the state-space recurrence ------------------------------------------------------------------


def scan_steps(a: Tensor, b: Tensor) -> Tensor:
    """All ``h_t = a_t h_{t-1} + b_t`` from ``h_{-1} = 0``, one step after the other.

    Args:
        a: (L, ...).
        b: (L, ...); becomes h in place.

    Returns:
        h, (L, ...). Touches every number once: the fastest where launching a step costs little.
    """
    rows = b.unbind(0)
    for t, a_t in enumerate(a.unbind(0)[1:]):
        rows[t + 1].addcmul_(a_t, rows[t])
    return b


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


def scan_back_steps(decay: Tensor, grad: Tensor) -> Tensor:
    """All ``g_t = grad_t + decay_{t+1} g_{t+1}``, (T, ...): the gradient of a scan. ``grad`` becomes g in place."""
    rows, decays = grad.unbind(0), decay.unbind(0)
    for t in range(len(rows) - 2, -1, -1):
        rows[t].addcmul_(decays[t + 1], rows[t + 1])
    return grad


def scan_back_doubling(decay: Tensor, grad: Tensor) -> Tensor:
    """As :func:`scan_back_steps`, in log2(T) passes."""
    factors = torch.cat([torch.zeros_like(decay[:1]), decay[1:].flip(0)])
    return scan_doubling(factors, grad.flip(0)).flip(0)


def _scan_back(decay: Tensor, grad: Tensor) -> Tensor:
    return scan_back_steps(decay, grad) if decay.device.type == "cpu" else scan_back_doubling(decay, grad)


def _chunk_states(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """Decays ``exp(dt A)`` and states of one chunk (T, B, E, N), from the state before it."""
    decay = (dt[..., None] * a).exp_()
    states = (dt * x)[..., None] * b[..., None, :]
    states[0].addcmul_(decay[0], before)
    return decay, _scan(decay, states)


# Operators of their own, so that a compiler takes them as they are instead of unrolling the loops.


@torch.library.custom_op("amago::selective_scan", mutates_args=())
def selective_scan(
    x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, chunk: int
) -> tuple[Tensor, Tensor]:
    """``h_t = exp(dt_t A) h_{t-1} + dt_t x_t B_t``, ``y_t = h_t C_t`` (arXiv 2312.00752, equation 2).

    States are N times as large as anything else, so they exist for one chunk of timesteps only: the backward
    pass computes them again from the state before each chunk.

    Args:
        x: (L, B, E).
        dt: (L, B, E), step sizes.
        a: (E, N), negative.
        b: (L, B, N).
        c: (L, B, N).
        chunk: timesteps whose states are in memory together.

    Returns:
        y (L, B, E), and the states before each chunk (chunks, B, E, N).
    """
    h = x.new_zeros(*x.shape[1:], a.shape[1])
    befores, ys = [], []
    for x_c, dt_c, b_c, c_c in zip(*(m.split(chunk) for m in (x, dt, b, c)), strict=True):
        befores.append(h)
        _, states = _chunk_states(x_c, dt_c, a, b_c, h)
        ys.append((states @ c_c[..., None])[..., 0])
        h = states[-1].clone()
    return torch.cat(ys), torch.stack(befores)


@torch.library.custom_op("amago::selective_scan_backward", mutates_args=())
def selective_scan_backward(
    grad: Tensor, x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, befores: Tensor, chunk: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the five inputs from that of y (L, B, E); the recurrence runs backwards."""
    d_x, d_dt, d_b, d_c = (torch.empty_like(m, memory_format=torch.contiguous_format) for m in (x, dt, b, c))
    d_a = torch.zeros_like(a)
    # what later chunks ask of the last state of this one
    later = torch.zeros_like(befores[0])
    parts = zip(*(m.split(chunk) for m in (x, dt, b, c, grad, d_x, d_dt, d_b, d_c)), strict=True)
    for before, part in reversed(list(zip(befores, parts, strict=True))):
        x_c, dt_c, b_c, c_c, grad_c, d_x_c, d_dt_c, d_b_c, d_c_c = part
        decay, states = _chunk_states(x_c, dt_c, a, b_c, before)
        d_c_c.copy_((grad_c[..., None, :] @ states)[..., 0, :])
        d_states = grad_c[..., None] * c_c[..., None, :]
        d_states[-1] += later
        d_states = _scan_back(decay, d_states)
        later = decay[0] * d_states[0]
        d_input = (d_states @ b_c[..., None])[..., 0]
        d_b_c.copy_(((dt_c * x_c)[..., None, :] @ d_states)[..., 0, :])
        torch.mul(d_input, dt_c, out=d_x_c)
        # from here on: the gradient of dt A, which is that of the decay times the decay
        decay[0].mul_(before)
        decay[1:].mul_(states[:-1])
        d_power = decay.mul_(d_states)
        torch.addcmul((d_power * a).sum(-1), d_input, x_c, out=d_dt_c)
        d_a += d_power.mul_(dt_c[..., None]).sum(dim=(0, 1))
    return d_x, d_dt, d_a, d_b, d_c


@selective_scan.register_fake
def _(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), x.new_empty(-(-x.shape[0] // chunk), *x.shape[1:], a.shape[1])


@selective_scan_backward.register_fake
def _(
    grad: Tensor, x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, befores: Tensor, chunk: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return tuple(torch.empty_like(m) for m in (x, dt, a, b, c))  # type: ignore[return-value]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.chunk = inputs
    ctx.save_for_backward(*tensors, output[1])


def _backward(ctx: Any, grad: Tensor, grad_befores: Tensor) -> tuple[Tensor | None, ...]:
    # the states between chunks are not for use outside, so nothing asks for their gradient
    return (*selective_scan_backward(grad.contiguous(), *ctx.saved_tensors, ctx.chunk), None)


selective_scan.register_autograd(_backward, setup_context=_keep)
loop_over_stack(selective_scan)
loop_over_stack(selective_scan_backward)


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

    def _convolve(self, window: Tensor) -> Tensor:
        """The convolution's output (B, E) for its last ``d_conv`` inputs (B, E, d_conv)."""
        assert self.conv1d.bias is not None
        return (window * self.conv1d.weight[:, 0]).sum(-1) + self.conv1d.bias

    def _select(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x (..., E) -> step sizes (..., E), A (E, N), B and C (..., N)."""
        dt, b, c = self.x_proj(x).split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        return F.softplus(self.dt_proj(dt)), -torch.exp(self.A_log), b, c

    def forward(self, seq: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        x, gate = self.in_proj(seq).chunk(2, dim=-1)
        x = F.silu(self.conv1d(x.transpose(1, 2))[..., : seq.shape[1]])
        y = self._kernel(x) if self._may_use_kernel(x) else self._plain(x.permute(2, 0, 1)).transpose(0, 1)
        return self.out_proj(y * F.silu(gate))

    def _may_use_kernel(self, x: Tensor) -> bool:
        """Whether the authors' kernel is there, takes these numbers, and may be used."""
        # its backward adds up with atomics, in whatever order
        deterministic = torch.are_deterministic_algorithms_enabled()
        fits = self.D.dtype == torch.float32 and self.d_state <= MAX_KERNEL_STATE
        return _HAS_KERNEL and x.is_cuda and fits and not deterministic

    def _plain(self, x: Tensor) -> Tensor:
        """The state-space part, time first: (L, B, E) -> (L, B, E)."""
        dt, a, b, c = self._select(x)
        # states add up over thousands of steps: never in half precision
        with torch.autocast(x.device.type, enabled=False):
            args = [m.to(a.dtype).contiguous() for m in (x, dt, a, b, c)]
            chunk = CHUNK_CPU if x.device.type == "cpu" else CHUNK_DEVICE
            return selective_scan(*args, chunk)[0] + self.D * args[0]

    def _kernel(self, x: Tensor) -> Tensor:
        """The same by the authors' kernel: (B, E, L) -> (B, L, E)."""
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

        dt, a, b, c = self._select(x.transpose(1, 2))
        # as in _plain; besides, under autocast step sizes come in another precision, which the kernel refuses
        with torch.autocast(x.device.type, enabled=False):
            dt, b, c = (m.transpose(1, 2) for m in (dt, b, c))
            x, dt, b, c = (m.to(a.dtype).contiguous() for m in (x, dt, b, c))
            return selective_scan_fn(x, dt, a, b, c, self.D).transpose(1, 2)

    def step(self, token: Tensor, state: MambaState) -> tuple[Tensor, MambaState]:
        """One timestep: (B, 1, D) -> (B, 1, D) and the next state."""
        x, gate = self.in_proj(token[:, 0]).chunk(2, dim=-1)
        window = torch.cat([state.conv, x[..., None].to(state.conv.dtype)], dim=-1)
        x = F.silu(self._convolve(window))
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
