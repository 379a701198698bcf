"""torch's ``flex_attention`` kernel, for attention whose mask or scores are functions of positions.

It needs CUDA (on a CPU it has no backward) and is compiled for each such function. What cannot be compiled, and
anything short, goes the dense way, whose numbers are the same.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

logger = logging.getLogger(__name__)

#: Timesteps from which the kernel is worth its compilation.
MIN_LENGTH = 256

Visible = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def fits(q: Tensor, dropout_p: float) -> bool:
    """Whether the kernel can take this call.

    Args:
        q: (B, H, L, d).
        dropout_p: dropout of the weights, which the kernel does not have.
    """
    return (
        q.is_cuda
        and q.shape[2] >= MIN_LENGTH
        and q.shape[3] >= 16
        and q.dtype in (torch.float32, torch.bfloat16, torch.float16)
        and dropout_p == 0.0
        # inside a compiled policy the dense way is compiled with all else; stacked seeds have no kernel
        and not torch.compiler.is_compiling()
        and not torch._C._functorch.is_batchedtensor(q)
        and not torch.are_deterministic_algorithms_enabled()
    )


@functools.cache
def _compiled() -> Callable[..., Any]:
    # one compilation for all lengths: batches are as long as their longest sequence
    return torch.compile(flex_attention, dynamic=True)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    visible: Visible,
    score_mod: Callable[..., Tensor] | None,
    kernel: Callable[..., Any] | None = None,
) -> Tensor:
    """``softmax(score_mod(q k^T / sqrt(d)) where visible) v`` over whole sequences.

    Args:
        q: (B, H, L, d); ``k`` and ``v`` likewise.
        visible: (batch, head, query position, key position) -> True where the query sees the key.
        score_mod: edits a score, with the positions after it.
        kernel: ``flex_attention`` or its compiled form, which is the default.

    Returns:
        (B, H, L, d).
    """
    length = q.shape[2]
    mask = create_block_mask(visible, None, None, length, length, device=q.device)
    return (kernel or _compiled())(q, k, v, score_mod=score_mod, block_mask=mask)


def tried(name: str, attempt: Callable[[], Tensor]) -> Tensor | None:
    """The kernel's result, or ``None`` (said in the log) where this function of positions cannot be compiled."""
    try:
        return attempt()
    except Exception as error:  # whatever a compiler raises: the dense way is always there
        if isinstance(error, torch.OutOfMemoryError):
            raise
        logger.warning(
            "%s: flex_attention cannot be used here (%s); the same numbers without it", name, error
        )
        return None
