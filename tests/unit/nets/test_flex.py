"""torch's flex_attention in place of dense attention: the same numbers, or the dense way."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch.nn.attention.flex_attention import flex_attention

from amago.nets import _flex
from tests.unit.nets.test_transformer import ATTENTION, RULES, _by_hand

KINDS = [kind for kind in ATTENTION if kind not in ("vanilla", "flash", "vanilla_flex")]


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's uncompiled form, which runs on a CPU as long as nothing asks for a gradient."""
    monkeypatch.setattr(_flex, "fits", lambda q, dropout_p: not q.requires_grad and dropout_p == 0.0)
    monkeypatch.setattr(_flex, "_compiled", lambda: flex_attention)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_the_kernel_is_given_the_same_attention(kind: str, on_cpu: None) -> None:
    """Masks and score edits of each kind mean the same to torch's kernel: against loops over positions."""
    torch.manual_seed(0)
    qkv = torch.randn(2, 9, 3, 2, 4)
    attention = ATTENTION[kind]()
    torch.testing.assert_close(attention(qkv), _by_hand(qkv, *RULES[kind]), rtol=1e-5, atol=1e-5)
    assert not attention._kernel_failed


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_long_sequences_keep_to_the_context_in_the_kernel(kind: str, on_cpu: None) -> None:
    """Sequences beyond the context: what rollouts no longer remember is hidden from the kernel as well."""
    torch.manual_seed(0)
    qkv = torch.randn(2, 12, 3, 2, 4)
    visible, edit = RULES[kind]
    attention = ATTENTION[kind]()
    attention.context = 5
    expected = _by_hand(qkv, lambda i, j: visible(i, j) and i - j < 5, edit)
    torch.testing.assert_close(attention(qkv), expected, rtol=1e-5, atol=1e-5)


def test_what_cannot_be_compiled_goes_the_dense_way(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A failure is said once, and changes no number."""
    calls = []

    def broken(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(_flex, "fits", lambda q, dropout_p: True)
    monkeypatch.setattr(_flex, "_compiled", lambda: broken)
    attention, qkv = ATTENTION["sliding"](), torch.randn(2, 9, 3, 2, 4)
    with caplog.at_level(logging.WARNING):
        outs = [attention(qkv), attention(qkv)]
    assert len(calls) == 1 and caplog.text.count("no such kernel") == 1
    for out in outs:
        torch.testing.assert_close(out, _by_hand(qkv, *RULES["sliding"]), rtol=1e-5, atol=1e-5)


def test_a_cpu_never_uses_it() -> None:
    """On a CPU the kernel has no backward."""
    assert not _flex.fits(torch.zeros(1, 1, 2 * _flex.MIN_LENGTH, 16), 0.0)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_compiled_kernel_equals_dense_attention(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU: outputs and gradients of both ways, at lengths that are no multiple of a block."""
    torch.manual_seed(0)
    attention = ATTENTION[kind]()
    for length in (_flex.MIN_LENGTH, 301):
        qkv = torch.randn(2, length, 3, 2, 32, device="cuda", requires_grad=True)
        results = []
        for least in (_flex.MIN_LENGTH, 10**9):
            monkeypatch.setattr(_flex, "MIN_LENGTH", least)
            out = attention(qkv)
            results.append([out, *torch.autograd.grad(out.square().sum(), qkv)])
            monkeypatch.undo()
        assert not attention._kernel_failed
        for ours, dense in zip(*results, strict=True):
            torch.testing.assert_close(ours, dense, rtol=1e-3, atol=1e-4)
