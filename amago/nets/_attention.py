"""Self-attention on whole sequences and, one token at a time, on a ring of cached keys and values.

Shapes: B sequences, L queries, H heads, d features a head, W slots of the cache.

The cache is a ring: an actor's token at position ``n`` (counted since its reset) lies in slot ``n % W``.
Nothing is ever moved, and actors may be at different positions. Slot ``j`` holds the position
``n - (n - j) % W``, or nothing yet where that is negative.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import gin
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amago.errors import ConfigurationError
from amago.gin_names import explains_required
from amago.nets import _flex

#: (score, batch, head, query position, key position) -> score; all broadcast against (B, H, L, L).
ScoreMod = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
#: (batch, head, query position, key position) -> True where the query sees the key.
MaskMod = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


#: Queries that windowed attention treats together at least.
MIN_STRETCH = 64


class SelfAttention(nn.Module, ABC):
    """Base: a subclass defines :meth:`forward`.

    Args:
        causal: a query sees no later key.
        dropout: probability with which an attention weight is dropped in training.

    Attributes:
        context: the most keys that a query may see (``max_seq_len``), set by the trajectory encoder.
            Whole sequences longer than a training batch's (``context`` + 1) keep to it, as rollouts do.
    """

    context: int | None = None

    def __init__(self, causal: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= dropout < 1.0:
            raise ConfigurationError(
                f"an attention dropout of {dropout} is no probability; use 0 to 1, without 1"
            )
        self.causal = causal
        self.dropout = dropout

    @abstractmethod
    def forward(
        self,
        qkv: Tensor,
        key_cache: Tensor | None = None,
        val_cache: Tensor | None = None,
        cache_seqlens: Tensor | None = None,
    ) -> Tensor:
        """Attend.

        Args:
            qkv: (B, L, 3, H, d): queries, keys and values. L is 1 with a cache.
            key_cache: (B, W, H, d), a ring; the new keys are written into it.
            val_cache: (B, W, H, d), likewise.
            cache_seqlens: (B,) int64, tokens of each sequence before this one since its reset; may
                exceed W. It is the caller's to count on.

        Returns:
            (B, L, H, d).
        """

    def reach(self) -> int | None:
        """How many keys back a query sees, 0 being itself alone (sinks apart); ``None`` without a window."""
        return None


def write_to_ring(
    qkv: Tensor, key_cache: Tensor, val_cache: Tensor, cache_seqlens: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Store one new token of each sequence in its slot, in place.

    Args:
        qkv: (B, 1, 3, H, d).
        key_cache: (B, W, H, d).
        val_cache: (B, W, H, d).
        cache_seqlens: (B,) int64.

    Returns:
        The queries (B, 1, H, d) in the cache's dtype, their positions (B, 1), and the positions (B, W)
        that the slots hold, negative where there is nothing.
    """
    if qkv.shape[1] != 1:
        raise ValueError(f"a cached step takes one token, not {qkv.shape[1]}")
    slots = key_cache.shape[1]
    q, k, v = qkv.to(key_cache.dtype).unbind(2)
    rows = torch.arange(len(qkv), device=qkv.device)
    slot = cache_seqlens % slots
    key_cache[rows, slot] = k[:, 0]
    val_cache[rows, slot] = v[:, 0]
    age = (slot[:, None] - torch.arange(slots, device=qkv.device)) % slots
    position = cache_seqlens[:, None]
    return q, position, position - age


def explicit_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    dropout_p: float = 0.0,
    edit_scores: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """``softmax(edit(q k^T / sqrt(d)) where mask) v``, written out.

    Args:
        q: (B, H, L, d).
        k: (B, H, W, d).
        v: (B, H, W, d).
        mask: bool, broadcastable to (B, H, L, W), True where a query sees a key.
        dropout_p: dropout of the weights.
        edit_scores: changes the scaled scores (B, H, L, W).

    Returns:
        (B, H, L, d).
    """
    scores = (q / math.sqrt(q.shape[-1])) @ k.transpose(-2, -1)
    if edit_scores is not None:
        scores = edit_scores(scores)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
        # a query that sees nothing gives zeros, not NaN
        weights = torch.softmax(scores, dim=-1).masked_fill(~mask.any(-1, keepdim=True), 0.0)
    else:
        weights = torch.softmax(scores, dim=-1)
    return F.dropout(weights, dropout_p) @ v


class _DenseAttention(SelfAttention):
    """Attention with a mask and edited scores given as functions of positions.

    ``mask_mod`` and ``score_mod`` are those of torch's ``flex_attention``, and get tensors that broadcast or, from
    that kernel (see :mod:`amago.nets._flex` for when it is used), scalars.
    """

    mask_mod: MaskMod | None = None
    score_mod: ScoreMod | None = None
    #: so many first positions are visible beyond the window
    sink_size = 0
    #: write the softmax out instead of calling torch's fused kernel
    explicit = False
    #: whether ``flex_attention`` could not be compiled for these functions
    _kernel_failed = False

    def forward(
        self,
        qkv: Tensor,
        key_cache: Tensor | None = None,
        val_cache: Tensor | None = None,
        cache_seqlens: Tensor | None = None,
    ) -> Tensor:
        """(B, L, 3, H, d) -> (B, L, H, d); see :meth:`SelfAttention.forward`."""
        if key_cache is not None:
            assert val_cache is not None and cache_seqlens is not None
            q, q_pos, k_pos = write_to_ring(qkv, key_cache, val_cache, cache_seqlens)
            out = self._attend(
                q.transpose(1, 2),
                key_cache.transpose(1, 2),
                val_cache.transpose(1, 2),
                q_pos[:, None, :, None],
                k_pos[:, None, None, :],
                k_pos[:, None, None, :] >= 0,
            )
            return out.transpose(1, 2).to(qkv.dtype)
        length = qkv.shape[1]
        q, k, v = (x.transpose(1, 2) for x in qkv.unbind(2))
        limited = self.causal and self.context is not None and length > self.context + 1
        if self.mask_mod is None and self.score_mod is None and not limited and not self.explicit:
            # Without a mask the fastest kernels apply.
            p = self.dropout if self.training else 0.0
            return F.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=self.causal).transpose(1, 2)
        p = self.dropout if self.training else 0.0
        if not self.explicit and not self._kernel_failed and _flex.fits(q, p):
            visible = self._visible_whole(limited)
            by_kernel = _flex.tried(
                type(self).__name__, lambda: _flex.attend(q, k, v, visible, self.score_mod)
            )
            if by_kernel is not None:
                return by_kernel.transpose(1, 2)
            self._kernel_failed = True
        reach = self.reach() if self.causal else None
        if limited:
            assert self.context is not None
            reach = self.context - 1 if reach is None else min(reach, self.context - 1)
        # Stretches of queries with the keys that their windows hold: cost grows with L, not with L squared.
        stretch = length if reach is None else max(MIN_STRETCH, reach + 1)
        outs = [
            self._attend_stretch(q, k, v, start, min(start + stretch, length), reach, limited)
            for start in range(0, length, stretch)
        ]
        return torch.cat(outs, dim=2).transpose(1, 2)

    def _visible_whole(self, limited: bool) -> MaskMod:
        """Causality, context and ``mask_mod`` in one function of positions in whole sequences."""

        def visible(b: Tensor, h: Tensor, q_pos: Tensor, k_pos: Tensor) -> Tensor:
            seen = k_pos <= q_pos if self.causal else k_pos == k_pos
            if limited and self.context is not None:
                seen = seen & (q_pos - k_pos < self.context)
            return seen & self.mask_mod(b, h, q_pos, k_pos) if self.mask_mod is not None else seen

        return visible

    def _attend_stretch(
        self, q: Tensor, k: Tensor, v: Tensor, start: int, stop: int, reach: int | None, limited: bool
    ) -> Tensor:
        """The queries from ``start`` to ``stop`` of whole sequences (B, H, L, d)."""
        length = q.shape[2]
        first = 0 if reach is None else max(0, start - reach)
        position = torch.arange(length, device=q.device)
        keys = slice(first, stop if self.causal else length)
        k_pos, k_part, v_part = position[keys], k[:, :, keys], v[:, :, keys]
        sinks = min(self.sink_size, first)
        if sinks:
            k_pos = torch.cat([position[:sinks], k_pos])
            k_part, v_part = (torch.cat([x[:, :, :sinks], part], 2) for x, part in ((k, k_part), (v, v_part)))
        q_pos, k_pos = position[None, None, start:stop, None], k_pos[None, None, None, :]
        seen = k_pos <= q_pos if self.causal else None
        if limited and seen is not None and self.context is not None:
            seen = seen & (q_pos - k_pos < self.context)
        return self._attend(q[:, :, start:stop], k_part, v_part, q_pos, k_pos, seen)

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, q_pos: Tensor, k_pos: Tensor, mask: Tensor | None
    ) -> Tensor:
        """(B, H, L, d) from queries and keys at the given positions, ``mask`` and the two functions."""
        p = self.dropout if self.training else 0.0
        if self.mask_mod is None and self.score_mod is None:
            if self.explicit:
                return explicit_attention(q, k, v, mask, p)
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p)
        b = torch.arange(q.shape[0], device=q.device)[:, None, None, None]
        h = torch.arange(q.shape[1], device=q.device)[None, :, None, None]
        # an empty slot is masked; a table of biases must still be able to look it up
        k_pos = k_pos.clamp(min=0)
        if self.mask_mod is not None:
            more = self.mask_mod(b, h, q_pos, k_pos)
            mask = more if mask is None else mask & more
        if self.score_mod is None:
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p)
        mod = self.score_mod
        return explicit_attention(q, k, v, mask, p, lambda scores: mod(scores, b, h, q_pos, k_pos))


@gin.configurable(module="amago.nets.transformer")
class VanillaAttention(_DenseAttention):
    """The formula, written out: the plain path that the faster ones are held against.

    Args:
        causal: see :class:`SelfAttention`.
        dropout: see :class:`SelfAttention`.
    """

    explicit = True

    def __init__(self, causal: bool = True, dropout: float = 0.0) -> None:
        super().__init__(causal, dropout)


def _whole(name: str, value: object, at_least: int) -> int:
    """``value`` as an integer of at least so much, or a clear error."""
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise ConfigurationError(f"{name} is {value!r}; use a whole number, {at_least} or more")
    return value


@gin.configurable(module="amago.nets.transformer")
class FlashAttention(_DenseAttention):
    """torch's scaled-dot-product attention: the fastest kernel that the device has.

    Args:
        causal: see :class:`SelfAttention`.
        dropout: see :class:`SelfAttention`.
        window_size: how many keys a query sees (to its left, to its right) besides itself; -1 is no
            limit. The right side only matters when not causal.
    """

    def __init__(
        self, causal: bool = True, dropout: float = 0.0, window_size: tuple[int, int] = (-1, -1)
    ) -> None:
        super().__init__(causal, dropout)
        if len(window_size) != 2:
            raise ConfigurationError(
                f"FlashAttention.window_size is {window_size!r}; give (left, right), -1 for no limit"
            )
        left, right = (_whole("each side of FlashAttention.window_size", n, -1) for n in window_size)
        self.window_size = (left, right)
        if left >= 0 or (right >= 0 and not causal):
            self.mask_mod = self._in_window

    def _in_window(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        left, right = self.window_size
        seen = q - k <= left if left >= 0 else q - k == q - k
        return seen & (k - q <= right) if right >= 0 and not self.causal else seen

    def reach(self) -> int | None:
        """The window to the left, if there is one."""
        return self.window_size[0] if self.window_size[0] >= 0 else None


@gin.configurable(module="amago.nets.transformer")
class FlexAttention(_DenseAttention):
    """Attention by a user's functions of positions, in the form of torch's ``flex_attention``.

    Args:
        score_mod: ``(score, b, h, q_idx, kv_idx) -> score``, on scores already divided by sqrt(d); ``None``
            leaves them. Index arguments are int64 tensors that broadcast against (B, H, L, L); positions
            count from the start of the sequence, in rollouts from the actor's reset.
        mask_mod: ``(b, h, q_idx, kv_idx) -> bool``, True where the query sees the key; ``None`` is all.
            Joined with causality.
        causal: see :class:`SelfAttention`.
        dropout: see :class:`SelfAttention`.
    """

    def __init__(
        self,
        score_mod: ScoreMod | None,
        mask_mod: MaskMod | None,
        causal: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(causal, dropout)
        for name, value in (("score_mod", score_mod), ("mask_mod", mask_mod)):
            if value is not None and not callable(value):
                raise ConfigurationError(f"FlexAttention.{name} is {value!r}; give a function, or None")
        self.score_mod = score_mod
        self.mask_mod = mask_mod


@gin.configurable(module="amago.nets.transformer")
class VanillaFlexAttention(FlexAttention):
    """:class:`FlexAttention` that changes nothing: plain causal attention.

    Args:
        causal: see :class:`SelfAttention`.
        dropout: see :class:`SelfAttention`.
    """

    def __init__(self, causal: bool = True, dropout: float = 0.0) -> None:
        super().__init__(score_mod=None, mask_mod=None, causal=causal, dropout=dropout)


@explains_required
@gin.configurable(module="amago.nets.transformer")
class SlidingWindowFlexAttention(FlexAttention):
    """A query sees itself and the ``window_size`` keys before it.

    Args:
        causal: see :class:`SelfAttention`. Otherwise as many keys after it, too.
        dropout: see :class:`SelfAttention`.
        window_size: timesteps, 0 or more.
    """

    def __init__(self, causal: bool = True, dropout: float = 0.0, window_size: int = gin.REQUIRED) -> None:
        self.window_size = _whole("SlidingWindowFlexAttention.window_size", window_size, 0)
        super().__init__(score_mod=None, mask_mod=self._in_window, causal=causal, dropout=dropout)

    def _in_window(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (q - k).abs() <= self.window_size

    def reach(self) -> int | None:
        """The window."""
        return self.window_size


@explains_required
@gin.configurable(module="amago.nets.transformer")
class ClippedSlidingSinkAttention(FlexAttention):
    """Sliding window with attention sinks (arXiv 2309.17453) and clipped scores.

    Args:
        causal: see :class:`SelfAttention`.
        dropout: see :class:`SelfAttention`.
        window_size: a query sees itself and this many keys before it.
        logit_clip: scores are clamped to ± this; 0 is no clamp.
        sink_size: the first so many timesteps are visible from everywhere after them. In rollouts they
            leave the cache like all others, when they are ``max_seq_len`` timesteps old.
        sink_bias: added to the score of a sink, before the clamp.
    """

    def __init__(
        self,
        causal: bool = True,
        dropout: float = 0.0,
        window_size: int = gin.REQUIRED,
        logit_clip: float = 0.0,
        sink_size: int = 0,
        sink_bias: float = 0.0,
    ) -> None:
        self.window_size = _whole("ClippedSlidingSinkAttention.window_size", window_size, 0)
        self.sink_size = _whole("ClippedSlidingSinkAttention.sink_size", sink_size, 0)
        if logit_clip < 0:
            raise ConfigurationError(
                f"ClippedSlidingSinkAttention.logit_clip is {logit_clip}; use 0 (off) or more"
            )
        self.logit_clip = logit_clip
        self.sink_bias = sink_bias
        edits = logit_clip > 0 or (sink_bias != 0 and self.sink_size > 0)
        super().__init__(
            score_mod=self._edit if edits else None, mask_mod=self._visible, causal=causal, dropout=dropout
        )

    def _visible(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return ((q - k).abs() <= self.window_size) | (k < self.sink_size)

    def _edit(self, score: Tensor, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        if self.sink_size > 0 and self.sink_bias != 0:
            score = score + self.sink_bias * (k < self.sink_size)
        return score.clamp(-self.logit_clip, self.logit_clip) if self.logit_clip > 0 else score

    def reach(self) -> int | None:
        """The window."""
        return self.window_size
