"""The transformer: positions, layers, and cached rollouts. Kinds of attention are in ``_attention``.

Shapes: B sequences, L timesteps, D = ``d_model``, H heads, d = D / H features a head, W slots of a cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gin
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amago.errors import ConfigurationError
from amago.gin_names import explains_required
from amago.nets._attention import (
    ClippedSlidingSinkAttention,
    FlashAttention,
    FlexAttention,
    MaskMod,
    ScoreMod,
    SelfAttention,
    SlidingWindowFlexAttention,
    VanillaAttention,
    VanillaFlexAttention,
)
from amago.nets._sigma_reparam import SigmaReparam
from amago.nets.ff import Normalization
from amago.nets.utils import activation_switch
from amago.registry import nearest

__all__ = [
    "AttentionLayer",
    "ClippedSlidingSinkAttention",
    "FixedPosEmb",
    "FlashAttention",
    "FlexAttention",
    "LearnablePosEmb",
    "MaskMod",
    "RotaryPosEmb",
    "ScoreMod",
    "SelfAttention",
    "SigmaReparam",
    "SlidingWindowFlexAttention",
    "TformerHiddenState",
    "Transformer",
    "TransformerLayer",
    "VanillaAttention",
    "VanillaFlexAttention",
]


# -- positions ---------------------------------------------------------------------------------


def _frequencies(dim: int) -> Tensor:
    """``10000^(-2k / dim)`` for k = 0 .. dim / 2 - 1, float32."""
    return 10000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float32) / dim)


class FixedPosEmb(nn.Module):
    """Sinusoids of the time index (Vaswani et al., arXiv 1706.03762, section 3.5).

    Args:
        d_model: D, even.
    """

    frequencies: Tensor

    def __init__(self, d_model: int) -> None:
        super().__init__()
        if d_model % 2:
            raise ConfigurationError(
                f"TformerTrajEncoder.d_model is {d_model}; pos_emb 'fixed' needs an even width"
            )
        self.register_buffer("frequencies", _frequencies(d_model), persistent=False)

    def forward(self, time_idxs: Tensor) -> Tensor:
        """(B, L, 1) int64 -> (B, L, D): even places are sines, odd places cosines."""
        angle = time_idxs.float() * self.frequencies
        return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)


@explains_required
@gin.configurable(module="amago.nets.transformer")
class LearnablePosEmb(nn.Module):
    """One learned vector for every time index.

    Args:
        d_model: D.
        max_time_idx: number of time indices: the longest episode (or trial of several) plus one.
    """

    def __init__(self, d_model: int, max_time_idx: int = gin.REQUIRED) -> None:
        super().__init__()
        if max_time_idx < 1:
            raise ConfigurationError(
                f"LearnablePosEmb.max_time_idx is {max_time_idx}; use the longest episode + 1"
            )
        self.embeddings = nn.Embedding(max_time_idx, d_model)

    def forward(self, time_idxs: Tensor) -> Tensor:
        """(B, L, 1) int64 below ``max_time_idx`` -> (B, L, D).

        Raises:
            ConfigurationError: a later time (on a CPU; a device's own error names no setting).
        """
        if time_idxs.device.type != "cpu" or torch.compiler.is_compiling():
            return self.embeddings(time_idxs[..., 0])
        try:
            return self.embeddings(time_idxs[..., 0])
        except IndexError as error:
            raise ConfigurationError(
                f"LearnablePosEmb.max_time_idx is {self.embeddings.num_embeddings}, but a time index is "
                f"{int(time_idxs.max())}; use the longest episode + 1"
            ) from error


class RotaryPosEmb(nn.Module):
    """Rotation of queries and keys by the time index (RoFormer, arXiv 2104.09864).

    The features (k, k + d / 2) of a head turn together by ``t 10000^(-2k / d)``.

    Args:
        d_head: d, even.
    """

    frequencies: Tensor

    def __init__(self, d_head: int) -> None:
        super().__init__()
        if d_head % 2:
            raise ConfigurationError(
                f"pos_emb 'rope' needs an even width of each head, not {d_head}; change d_model or n_heads"
            )
        self.register_buffer("frequencies", _frequencies(d_head), persistent=False)

    def forward(self, time_idxs: Tensor) -> tuple[Tensor, Tensor]:
        """(B, L, 1) int64 -> cosines and sines, (B, L, 1, 1, d / 2) each."""
        angle = (time_idxs.float() * self.frequencies)[:, :, None, None]
        return angle.cos(), angle.sin()


def rotate(qkv: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Turn queries and keys, not values, of ``qkv`` (B, L, 3, H, d) by what :class:`RotaryPosEmb` gave."""
    cos, sin = turn
    x1, x2 = qkv[:, :, :2].chunk(2, dim=-1)
    turned = torch.cat([x1 * cos - x2 * sin, x2 * cos + x1 * sin], dim=-1)
    return torch.cat([turned.to(qkv.dtype), qkv[:, :, 2:]], dim=2)


# -- layers ------------------------------------------------------------------------------------


def _linear(d_in: int, d_out: int, sigma_reparam: bool, bias: bool = True) -> nn.Module:
    return SigmaReparam(d_in, d_out, bias) if sigma_reparam else nn.Linear(d_in, d_out, bias)


#: keys, values (B, W, H, d each) and how many tokens each actor had (B,)
LayerCache = tuple[Tensor, Tensor, Tensor]


class AttentionLayer(nn.Module):
    """Projections around a :class:`SelfAttention`.

    Args:
        self_attention: the kernel.
        d_model: D.
        n_heads: H, a divisor of D.
        dropout_qkv: dropout of queries, keys and values.
        head_scaling: learn a factor for each head (NormFormer, arXiv 2110.09456).
        sigma_reparam: use :class:`SigmaReparam` for both projections.
    """

    def __init__(
        self,
        self_attention: SelfAttention,
        d_model: int,
        n_heads: int,
        dropout_qkv: float = 0.0,
        head_scaling: bool = True,
        sigma_reparam: bool = True,
    ) -> None:
        super().__init__()
        if n_heads < 1 or d_model % n_heads:
            raise ConfigurationError(
                f"TformerTrajEncoder.n_heads is {n_heads}, which does not divide d_model = {d_model}; change one of them"
            )
        self.self_attention = self_attention
        self.n_heads = n_heads
        self.qkv_projection = _linear(d_model, 3 * d_model, sigma_reparam, bias=False)
        self.out_projection = _linear(d_model, d_model, sigma_reparam)
        self.dropout_qkv = nn.Dropout(dropout_qkv)
        self.head_scaler = nn.Parameter(torch.ones(1, 1, n_heads, 1)) if head_scaling else None

    def _qkv(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, 3, H, d)."""
        layer: Any = self.qkv_projection
        weight = layer.effective_weight() if isinstance(layer, SigmaReparam) else layer.weight
        # The projection's outputs are (3, d, H). Reordering the rows of the small weight spares a copy of
        # every activation: kernels want the features of a head side by side.
        weight = weight.unflatten(0, (3, -1, self.n_heads)).transpose(1, 2).flatten(0, 2)
        return F.linear(x, weight).unflatten(-1, (3, self.n_heads, -1))

    def forward(
        self, x: Tensor, turn: tuple[Tensor, Tensor] | None = None, cache: LayerCache | None = None
    ) -> Tensor:
        """(B, L, D) -> (B, L, D), with rotary positions and a cache where given."""
        qkv = self.dropout_qkv(self._qkv(x))
        if turn is not None:
            qkv = rotate(qkv, turn)
        out = self.self_attention(qkv, *cache) if cache is not None else self.self_attention(qkv)
        if self.head_scaler is not None:
            out = out * self.head_scaler
        return self.out_projection(out.flatten(2))


class TransformerLayer(nn.Module):
    """Pre-norm block: attention, then two linear layers, each added to its input.

    Args:
        attention_layer: the attention.
        d_model: D.
        d_ff: width between the two linear layers.
        dropout_ff: dropout of the second's output.
        activation: name of the activation between them.
        norm: kind of normalisation.
        sigma_reparam: use :class:`SigmaReparam` for the linear layers.
        normformer_norms: normalise also the attention's output and the hidden width (arXiv 2110.09456).
    """

    def __init__(
        self,
        attention_layer: AttentionLayer,
        d_model: int,
        d_ff: int,
        dropout_ff: float = 0.05,
        activation: str = "leaky_relu",
        norm: str | None = "layer",
        sigma_reparam: bool = True,
        normformer_norms: bool = True,
    ) -> None:
        super().__init__()
        extra = norm if normformer_norms else None
        self.attention_layer = attention_layer
        self.ff1 = _linear(d_model, d_ff, sigma_reparam)
        self.ff2 = _linear(d_ff, d_model, sigma_reparam)
        self.norm1 = Normalization(norm, d_model)
        self.norm2 = Normalization(extra, d_model)
        self.norm3 = Normalization(norm, d_model)
        self.norm4 = Normalization(extra, d_ff)
        self.dropout_ff = nn.Dropout(dropout_ff)
        self.activation = activation_switch(activation)

    def forward(
        self, x: Tensor, turn: tuple[Tensor, Tensor] | None = None, cache: LayerCache | None = None
    ) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        x = x + self.norm2(self.attention_layer(self.norm1(x), turn, cache))
        hidden = self.norm4(self.activation(self.ff1(self.norm3(x))))
        return x + self.dropout_ff(self.ff2(hidden))


@dataclass
class TformerHiddenState:
    """What rollouts remember: rings of keys and values (see ``_attention``).

    Attributes:
        key_cache: (layers, B, W, H, d).
        val_cache: (layers, B, W, H, d).
        cache_seqlens: (B,) int64, tokens since each actor's reset.
        filled: no actor uses a slot beyond this one, so that early steps can leave out the rest.
    """

    key_cache: Tensor
    val_cache: Tensor
    cache_seqlens: Tensor
    filled: int = 0

    def reset(self, dones: Tensor) -> None:
        """Forget the actors where ``dones`` (B,) is True; what lies in their slots is never read again."""
        self.cache_seqlens = self.cache_seqlens.masked_fill(dones, 0)
        # Only where reading a number does not make a device wait.
        if self.cache_seqlens.device.type == "cpu":
            self.filled = min(self.filled, int(self.cache_seqlens.max()))

    def open_slots(self) -> int:
        """Slots that the next step needs: a prefix of the ring until it is full."""
        slots = self.key_cache.shape[2]
        return min(self.filled + 1, slots) if self.key_cache.device.type == "cpu" else slots


_POSITIONS = ["fixed", "learnable", "rope"]


class Transformer(nn.Module):
    """Linear input, positions, layers, norm.

    Args:
        inp_dim: width of the input.
        d_model: D.
        layers: the blocks.
        dropout_emb: dropout of input plus position.
        norm: kind of the last normalisation.
        pos_emb: "fixed", "learnable" or "rope".

    Raises:
        ConfigurationError: an unknown ``pos_emb``, or a width that it cannot have.
    """

    def __init__(
        self,
        inp_dim: int,
        d_model: int,
        layers: list[TransformerLayer],
        dropout_emb: float = 0.05,
        norm: str | None = "layer",
        pos_emb: str = "fixed",
    ) -> None:
        super().__init__()
        if pos_emb not in _POSITIONS:
            raise ConfigurationError(
                f"TformerTrajEncoder.pos_emb is {pos_emb!r}; {nearest(str(pos_emb), _POSITIONS)}"
            )
        self.n_heads = layers[0].attention_layer.n_heads
        build: dict[str, Callable[[], nn.Module]] = {
            "fixed": lambda: FixedPosEmb(d_model),
            "learnable": lambda: LearnablePosEmb(d_model),
            "rope": lambda: RotaryPosEmb(d_model // self.n_heads),
        }
        self.rotary = pos_emb == "rope"
        self.position_embedding = build[pos_emb]()
        self.inp = nn.Linear(inp_dim, d_model)
        self.dropout = nn.Dropout(dropout_emb)
        self.layers = nn.ModuleList(layers)
        self.norm = Normalization(norm, d_model)
        self.d_model = d_model

    def init_hidden_state(
        self, batch_size: int, slots: int, device: torch.device | str
    ) -> TformerHiddenState:
        """Empty rings of ``slots`` timesteps for ``batch_size`` actors."""
        shape = (len(self.layers), batch_size, slots, self.n_heads, self.d_model // self.n_heads)
        dtype = self.inp.weight.dtype
        return TformerHiddenState(
            key_cache=torch.zeros(shape, device=device, dtype=dtype),
            val_cache=torch.zeros(shape, device=device, dtype=dtype),
            cache_seqlens=torch.zeros(batch_size, device=device, dtype=torch.int64),
        )

    def forward(
        self, seq: Tensor, time_idxs: Tensor, hidden_state: TformerHiddenState | None = None
    ) -> tuple[Tensor, TformerHiddenState | None]:
        """Encode whole sequences, or one step of each actor.

        Args:
            seq: (B, L, inp_dim); L is 1 with a hidden state.
            time_idxs: (B, L, 1) int64, timesteps since each actor's reset.
            hidden_state: changed in place.

        Returns:
            (B, L, D) and the hidden state.
        """
        x = self.inp(seq)
        turn = None
        if self.rotary:
            turn = self.position_embedding(time_idxs)
        else:
            x = x + self.position_embedding(time_idxs)
        x = self.dropout(x)
        if hidden_state is None:
            for layer in self.layers:
                x = layer(x, turn)
            return self.norm(x), None
        slots = hidden_state.open_slots()
        for i, layer in enumerate(self.layers):
            keys = hidden_state.key_cache[i, :, :slots]
            values = hidden_state.val_cache[i, :, :slots]
            x = layer(x, turn, (keys, values, hidden_state.cache_seqlens))
        hidden_state.cache_seqlens = hidden_state.cache_seqlens + 1
        hidden_state.filled = min(hidden_state.filled + 1, hidden_state.key_cache.shape[2])
        return self.norm(x), hidden_state
