"""Trajectory encoders: a sequence of timestep vectors -> a sequence of memories.

Shapes: B sequences, L timesteps, D output size.
"""

from __future__ import annotations

from typing import Any

import gin
import torch
from torch import Tensor, nn

from amago.errors import ConfigurationError
from amago.nets import mamba, transformer
from amago.nets._gru import gru_forward
from amago.nets._traj_base import (
    TrajEncoder,
    at_least_one,
    get_traj_encoder_cls,
    list_registered_traj_encoders,
    register_traj_encoder,
)
from amago.nets.ff import FFBlock, LayerType, Normalization
from amago.nets.utils import activation_switch

__all__ = [
    "FFTrajEncoder",
    "GRUTrajEncoder",
    "IdentityTrajEncoder",
    "MambaTrajEncoder",
    "TformerTrajEncoder",
    "TrajEncoder",
    "get_traj_encoder_cls",
    "list_registered_traj_encoders",
    "register_traj_encoder",
]


@register_traj_encoder("identity")
@gin.configurable
class IdentityTrajEncoder(TrajEncoder):
    """No memory and no parameters: the timestep's vector passes.

    Args:
        tstep_dim: D.
        max_seq_len: not used.
    """

    @property
    def emb_dim(self) -> int:
        """Size D of the output."""
        return self.tstep_dim

    def forward(
        self,
        seq: Tensor,
        time_idxs: Tensor,
        hidden_state: Any = None,
        log_dict: dict[str, Any] | None = None,
    ) -> tuple[Tensor, Any]:
        """(B, L, D) unchanged; see :meth:`TrajEncoder.forward`."""
        return seq, hidden_state


@register_traj_encoder("ff")
@gin.configurable
class FFTrajEncoder(TrajEncoder):
    """A residual feed-forward network without memory: what a memory must beat.

    Args:
        tstep_dim: width of the input.
        max_seq_len: not used.
        d_model: D.
        d_ff: hidden width of a block; ``None`` is four times ``d_model``.
        n_layers: blocks.
        dropout: dropout probability.
        activation: name of the activation.
        norm: normalisation inside blocks.
        out_norm: normalisation of the output.
        layer_type: what builds a layer from (inputs, outputs).
    """

    def __init__(
        self,
        tstep_dim: int,
        max_seq_len: int,
        d_model: int = 256,
        d_ff: int | None = None,
        n_layers: int = 1,
        dropout: float = 0.0,
        activation: str = "leaky_relu",
        norm: str | None = None,
        out_norm: str | None = "layer",
        layer_type: LayerType = nn.Linear,
    ) -> None:
        super().__init__(tstep_dim, max_seq_len)
        at_least_one("FFTrajEncoder", d_model=d_model)
        d_ff = 4 * d_model if d_ff is None else d_ff
        self.traj_emb = layer_type(tstep_dim, d_model)
        self.traj_blocks = nn.ModuleList(
            [FFBlock(d_model, d_ff, dropout, activation, norm, layer_type) for _ in range(n_layers)]
        )
        self.traj_last = layer_type(d_model, d_model)
        self.out_norm = Normalization(out_norm, d_model)
        self.dropout = nn.Dropout(dropout)
        self.activation = activation_switch(activation)
        self._emb_dim = d_model

    @property
    def emb_dim(self) -> int:
        """Size D of the output."""
        return self._emb_dim

    def forward(
        self,
        seq: Tensor,
        time_idxs: Tensor,
        hidden_state: Any = None,
        log_dict: dict[str, Any] | None = None,
    ) -> tuple[Tensor, Any]:
        """(B, L, tstep_dim) -> (B, L, D); see :meth:`TrajEncoder.forward`."""
        x = self.dropout(self.activation(self.traj_emb(seq)))
        for block in self.traj_blocks:
            x = block(x)
        return self.dropout(self.out_norm(self.traj_last(x))), hidden_state


@register_traj_encoder("rnn")
@gin.configurable
class GRUTrajEncoder(TrajEncoder):
    """A GRU (arXiv 1406.1078, in torch's form), a linear layer, a norm.

    Args:
        tstep_dim: width of the input.
        max_seq_len: not used: the state remembers for as long as it can.
        d_hidden: width of the recurrent state.
        n_layers: recurrent layers.
        d_output: D.
        norm: normalisation of the output.
    """

    def __init__(
        self,
        tstep_dim: int,
        max_seq_len: int,
        d_hidden: int = 256,
        n_layers: int = 2,
        d_output: int = 256,
        norm: str | None = "layer",
    ) -> None:
        super().__init__(tstep_dim, max_seq_len)
        at_least_one("GRUTrajEncoder", d_hidden=d_hidden, n_layers=n_layers, d_output=d_output)
        self.rnn = nn.GRU(tstep_dim, d_hidden, num_layers=n_layers, batch_first=True)
        self.out = nn.Linear(d_hidden, d_output)
        self.out_norm = Normalization(norm, d_output)
        self._emb_dim = d_output

    @property
    def emb_dim(self) -> int:
        """Size D of the output."""
        return self._emb_dim

    def init_hidden_state(self, batch_size: int, device: torch.device | str) -> Tensor:
        """Zeros (n_layers, B, d_hidden)."""
        shape = (self.rnn.num_layers, batch_size, self.rnn.hidden_size)
        return torch.zeros(shape, device=device, dtype=self.out.weight.dtype)

    def reset_hidden_state(self, hidden_state: Tensor, dones: Tensor) -> Tensor:
        """Zeros where ``dones`` (B,) is True."""
        return hidden_state.masked_fill(dones[None, :, None], 0.0)

    def forward(
        self,
        seq: Tensor,
        time_idxs: Tensor,
        hidden_state: Tensor | None = None,
        log_dict: dict[str, Any] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """(B, L, tstep_dim) -> (B, L, D); see :meth:`TrajEncoder.forward`."""
        if hidden_state is None:
            x = gru_forward(self.rnn, seq)
        else:
            x, hidden_state = self.rnn(seq, hidden_state)
        return self.out_norm(self.out(x)), hidden_state


@register_traj_encoder("transformer")
@gin.configurable
class TformerTrajEncoder(TrajEncoder):
    """A causal transformer; rollouts keep the last ``max_seq_len`` timesteps of keys and values.

    A rollout's output is that of one forward over the whole episode in which every query sees its last
    ``max_seq_len`` keys in every layer; sequences longer than ``max_seq_len`` + 1 are encoded so. Up to there
    (a training batch: ``max_seq_len`` transitions and what follows the last) a query sees all before it.

    Args:
        tstep_dim: width of the input.
        max_seq_len: timesteps that an actor's cache holds.
        d_model: D.
        n_heads: attention heads; a divisor of ``d_model``.
        d_ff: hidden width of the feed-forward part, usually four times ``d_model``.
        n_layers: blocks.
        dropout_ff: dropout after each feed-forward part.
        dropout_emb: dropout of the embedded input.
        dropout_attn: dropout of attention weights.
        dropout_qkv: dropout of queries, keys and values.
        activation: name of the activation.
        norm: kind of normalisation.
        pos_emb: "fixed" (sinusoids), "learnable" (then configure ``LearnablePosEmb.max_time_idx``), "rope".
        sigma_reparam: learned spectral norm of every linear layer inside blocks (arXiv 2303.06296).
        normformer_norms: the two extra norms of arXiv 2110.09456.
        head_scaling: a learned factor for each head.
        attention_type: a :class:`amago.nets.transformer.SelfAttention`.

    Raises:
        ConfigurationError: sizes that do not go together; see :mod:`amago.nets.transformer`.
    """

    def __init__(
        self,
        tstep_dim: int,
        max_seq_len: int,
        d_model: int = 256,
        n_heads: int = 8,
        d_ff: int = 1024,
        n_layers: int = 3,
        dropout_ff: float = 0.05,
        dropout_emb: float = 0.05,
        dropout_attn: float = 0.0,
        dropout_qkv: float = 0.0,
        activation: str = "leaky_relu",
        norm: str | None = "layer",
        pos_emb: str = "fixed",
        sigma_reparam: bool = True,
        normformer_norms: bool = True,
        head_scaling: bool = True,
        attention_type: type[transformer.SelfAttention] = transformer.FlashAttention,
    ) -> None:
        super().__init__(tstep_dim, max_seq_len)
        at_least_one("TformerTrajEncoder", d_model=d_model, d_ff=d_ff, n_layers=n_layers)
        layers = []
        for _ in range(n_layers):
            attention_layer = transformer.AttentionLayer(
                self._build_attention(attention_type, dropout_attn),
                d_model=d_model,
                n_heads=n_heads,
                dropout_qkv=dropout_qkv,
                head_scaling=head_scaling,
                sigma_reparam=sigma_reparam,
            )
            layers.append(
                transformer.TransformerLayer(
                    attention_layer,
                    d_model=d_model,
                    d_ff=d_ff,
                    dropout_ff=dropout_ff,
                    activation=activation,
                    norm=norm,
                    sigma_reparam=sigma_reparam,
                    normformer_norms=normformer_norms,
                )
            )
        reach = layers[0].attention_layer.self_attention.reach()
        if reach is not None and reach > max_seq_len:
            raise ConfigurationError(
                f"{attention_type.__name__}.window_size is {reach}, more than max_seq_len = {max_seq_len}: "
                "there is nothing to limit; make it smaller, or use VanillaAttention or FlashAttention"
            )
        self.tformer = transformer.Transformer(
            inp_dim=tstep_dim,
            d_model=d_model,
            layers=layers,
            dropout_emb=dropout_emb,
            norm=norm,
            pos_emb=pos_emb,
        )
        self._emb_dim = d_model

    def _build_attention(
        self, attention_type: type[transformer.SelfAttention], dropout: float
    ) -> transformer.SelfAttention:
        if not (isinstance(attention_type, type) and issubclass(attention_type, transformer.SelfAttention)):
            raise ConfigurationError(
                f"TformerTrajEncoder.attention_type is {attention_type!r}; give a subclass of SelfAttention"
            )
        try:
            attention = attention_type(causal=True, dropout=dropout)
        except TypeError as error:
            raise ConfigurationError(
                f"{attention_type.__name__} cannot be built: {str(error).strip().splitlines()[0]}; "
                f"set its parameters in gin ({attention_type.__name__}.<parameter> = ...)"
            ) from error
        attention.context = self.max_seq_len
        return attention

    @property
    def emb_dim(self) -> int:
        """Size D of the output."""
        return self._emb_dim

    def init_hidden_state(
        self, batch_size: int, device: torch.device | str
    ) -> transformer.TformerHiddenState:
        """Empty caches."""
        return self.tformer.init_hidden_state(batch_size, self.max_seq_len, device)

    def reset_hidden_state(
        self, hidden_state: transformer.TformerHiddenState, dones: Tensor
    ) -> transformer.TformerHiddenState:
        """Empties the caches of the actors where ``dones`` (B,) is True."""
        hidden_state.reset(dones)
        return hidden_state

    def forward(
        self,
        seq: Tensor,
        time_idxs: Tensor,
        hidden_state: transformer.TformerHiddenState | None = None,
        log_dict: dict[str, Any] | None = None,
    ) -> tuple[Tensor, transformer.TformerHiddenState | None]:
        """(B, L, tstep_dim) -> (B, L, D); see :meth:`TrajEncoder.forward`."""
        if hidden_state is None or seq.shape[1] == 1:
            return self.tformer(seq, time_idxs, hidden_state)
        steps = []
        for x, t in zip(seq.split(1, dim=1), time_idxs.split(1, dim=1), strict=True):
            out, hidden_state = self.tformer(x, t, hidden_state)
            steps.append(out)
        return torch.cat(steps, dim=1), hidden_state


@register_traj_encoder("mamba")
@gin.configurable
class MambaTrajEncoder(TrajEncoder):
    """Mamba, a selective state-space model (arXiv 2312.00752): memory of constant size.

    Args:
        tstep_dim: width of the input.
        max_seq_len: not used: the state remembers for as long as it can.
        d_model: D.
        d_state: size N of the state of each channel.
        d_conv: width of the causal convolution.
        expand: channels inside a block, in multiples of ``d_model``.
        n_layers: blocks.
        norm: normalisation before each block and of the output.
    """

    def __init__(
        self,
        tstep_dim: int,
        max_seq_len: int,
        d_model: int = 256,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        n_layers: int = 3,
        norm: str | None = "layer",
    ) -> None:
        super().__init__(tstep_dim, max_seq_len)
        at_least_one(
            "MambaTrajEncoder",
            d_model=d_model,
            d_state=d_state,
            d_conv=d_conv,
            expand=expand,
            n_layers=n_layers,
        )
        self.inp = nn.Linear(tstep_dim, d_model)
        self.mambas = nn.ModuleList(
            [mamba.MambaBlock(d_model, d_state, d_conv, expand, norm) for _ in range(n_layers)]
        )
        self.out_norm = Normalization(norm, d_model)
        self._emb_dim = d_model

    @property
    def emb_dim(self) -> int:
        """Size D of the output."""
        return self._emb_dim

    def init_hidden_state(self, batch_size: int, device: torch.device | str) -> list[mamba.MambaState]:
        """Zero states, one a block."""
        return [block.mamba.init_state(batch_size, device) for block in self.mambas]  # type: ignore[union-attr, operator]

    def reset_hidden_state(
        self, hidden_state: list[mamba.MambaState], dones: Tensor
    ) -> list[mamba.MambaState]:
        """Zeros where ``dones`` (B,) is True."""
        return [state.reset(dones) for state in hidden_state]

    def forward(
        self,
        seq: Tensor,
        time_idxs: Tensor,
        hidden_state: list[mamba.MambaState] | None = None,
        log_dict: dict[str, Any] | None = None,
    ) -> tuple[Tensor, list[mamba.MambaState] | None]:
        """(B, L, tstep_dim) -> (B, L, D); see :meth:`TrajEncoder.forward`."""
        x = self.inp(seq)
        if hidden_state is None:
            for block in self.mambas:
                x = block(x)
            return self.out_norm(x), None
        steps = []
        for step in x.split(1, dim=1):
            states = []
            for block, state in zip(self.mambas, hidden_state, strict=True):
                step, state = block.step(step, state)  # type: ignore[operator]
                states.append(state)
            steps.append(step)
            hidden_state = states
        return self.out_norm(torch.cat(steps, dim=1)), hidden_state
