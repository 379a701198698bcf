"""Mamba's recurrence and its gradient against plain loops."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest
import torch
from torch import Tensor

from amago.nets import mamba


def _inputs(length: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    batch, channels, n = 3, 5, 4
    step, a = draw(length, batch, channels).abs() * 0.3, -draw(channels, n).abs()
    inputs = [draw(length, batch, channels), step, a, draw(length, batch, n), draw(length, batch, n)]
    return [x.requires_grad_() for x in inputs]


def _by_hand(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    h = x.new_zeros(*x.shape[1:], a.shape[1])
    ys = []
    for t in range(len(x)):
        h = torch.exp(dt[t][..., None] * a) * h + (dt[t] * x[t])[..., None] * b[t][:, None]
        ys.append((h * c[t][:, None]).sum(-1))
    return torch.stack(ys)


@pytest.mark.parametrize("scan", ["steps", "doubling"])
@pytest.mark.parametrize("chunk", [1, 4, 19, 64])
@pytest.mark.parametrize("length", [1, 19])
def test_selective_scan(scan: str, chunk: int, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs and all five gradients, for chunks that do and do not divide the length, by both scans."""
    if scan == "doubling":
        monkeypatch.setattr(mamba, "_scan", mamba.scan_doubling)
        monkeypatch.setattr(mamba, "_scan_back", mamba.scan_back_doubling)
    inputs = _inputs(length)
    weight = torch.randn(length, 3, 5, dtype=torch.float64)
    results = []
    for y in (_by_hand(*inputs), mamba.selective_scan(*inputs, chunk)[0]):
        results.append([y, *torch.autograd.grad((y * weight).sum(), inputs)])
    for theirs, ours in zip(*results, strict=True):
        assert torch.allclose(theirs, ours, rtol=1e-11, atol=1e-12)


def test_layer_is_the_papers_recurrence() -> None:
    """Convolution, selection, gate and skip, with Python loops."""
    torch.manual_seed(0)
    layer = mamba.Mamba(d_model=6, d_state=3, d_conv=4, expand=2).double()
    seq = torch.randn(2, 9, 6, dtype=torch.float64)
    x, z = layer.in_proj(seq).chunk(2, dim=-1)
    kernel, conv = layer.conv1d.weight[:, 0], []
    for t in range(9):
        taps = [kernel[:, 3 - lag] * x[:, t - lag] for lag in range(4) if t - lag >= 0]
        conv.append(torch.nn.functional.silu(sum(taps) + layer.conv1d.bias))
    u = torch.stack(conv)
    dt, b, c = layer.x_proj(u).split([1, 3, 3], dim=-1)
    dt = torch.nn.functional.softplus(layer.dt_proj(dt))
    y = _by_hand(u, dt, -torch.exp(layer.A_log), b, c) + layer.D * u
    expected = layer.out_proj(y.transpose(0, 1) * torch.nn.functional.silu(z))
    assert torch.allclose(layer(seq), expected, rtol=1e-10)


def test_start() -> None:
    """A starts at -1 .. -N, step sizes between 0.001 and 0.1, names are the authors' package's."""
    torch.manual_seed(0)
    layer = mamba.Mamba(d_model=32, d_state=16, d_conv=4, expand=2)
    assert torch.allclose(-torch.exp(layer.A_log), -torch.arange(1.0, 17.0).expand(64, 16))
    steps = torch.nn.functional.softplus(layer.dt_proj.bias)
    assert steps.min() > 9e-4 and steps.max() < 0.11 and steps.std() > 0.01
    shapes: dict[str, Any] = {k: tuple(v.shape) for k, v in layer.state_dict().items()}
    assert shapes == {
        "A_log": (64, 16),
        "D": (64,),
        "in_proj.weight": (128, 32),
        "conv1d.weight": (64, 1, 4),
        "conv1d.bias": (64,),
        "x_proj.weight": (34, 64),
        "dt_proj.weight": (64, 2),
        "dt_proj.bias": (64,),
        "out_proj.weight": (32, 64),
    }


def test_recurrence_keeps_full_precision() -> None:
    """Under autocast only the projections are in half precision, not the states."""
    torch.manual_seed(0)
    layer = mamba.Mamba(d_model=6, d_state=3, d_conv=4, expand=2)
    x = torch.randn(9, 2, 12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer._plain(x)
        dt, a, b, c = (m.float() for m in layer._select(x))
    assert out.dtype == torch.float32
    assert torch.allclose(out, _by_hand(x, dt, a, b, c) + layer.D * x, atol=1e-5)


def _their_interface(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """``selective_scan_fn`` of mamba-ssm as its documentation and checks describe it: time last, one precision."""
    batch, channels, length = u.shape
    assert delta.shape == u.shape and a.shape[0] == channels and d.shape == (channels,)
    assert b.shape == c.shape == (batch, a.shape[1], length)
    assert u.dtype == delta.dtype == b.dtype == c.dtype and a.dtype == d.dtype == torch.float32
    assert all(m.stride(-1) == 1 for m in (u, delta, b, c))
    first = [m.permute(2, 0, 1) for m in (u, delta)]
    y = _by_hand(*first, a, b.permute(2, 0, 1), c.permute(2, 0, 1))
    return y.permute(1, 2, 0) + u * d[:, None]


@pytest.mark.parametrize("half", [False, True])
def test_kernel_is_called_as_its_package_wants(half: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The arguments fit the package's interface, also under autocast, and mean what the plain path computes.

    The kernel itself needs a GPU: `test_kernel_equals_plain`.
    """
    module = types.ModuleType("mamba_ssm.ops.selective_scan_interface")
    module.selective_scan_fn = _their_interface  # type: ignore[attr-defined]
    for name in ("mamba_ssm", "mamba_ssm.ops"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    torch.manual_seed(0)
    layer = mamba.Mamba(d_model=6, d_state=3, d_conv=4, expand=2)
    x = torch.randn(2, 12, 9)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        ours, plain = layer._kernel(x), layer._plain(x.permute(2, 0, 1)).transpose(0, 1)
    assert ours.dtype == plain.dtype == torch.float32
    assert torch.allclose(ours, plain, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not mamba._HAS_KERNEL, reason="mamba-ssm is not installed")
def test_kernel_equals_plain() -> None:
    """On a GPU with mamba-ssm: outputs and gradients of both paths; with deterministic kernels, the plain one."""
    torch.manual_seed(0)
    layer = mamba.Mamba(d_model=32, d_state=16, d_conv=4, expand=2).cuda()
    seq = torch.randn(3, 50, 32, device="cuda")
    results = []
    for use in (True, False):
        layer._may_use_kernel = lambda x, use=use: use  # type: ignore[method-assign, misc]
        out = layer(seq)
        results.append([out, *torch.autograd.grad(out.square().sum(), list(layer.parameters()))])
    for theirs, ours in zip(*results, strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-3)
