"""Feed-forward pieces: normalisation by name, residual block, multi-layer perceptron."""

from __future__ import annotations

from collections.abc import Callable

import gin
import torch.nn.functional as F
from torch import Tensor, nn

from amago.errors import ConfigurationError
from amago.nets.utils import activation_switch
from amago.registry import nearest

LayerType = Callable[[int, int], nn.Module]


@gin.configurable
class SimNorm(nn.Module):
    """Softmax within groups of neighbouring features (TD-MPC2, arXiv 2310.16828, eq. 5).

    Args:
        dim: features per group; the input's last dimension must be a multiple of it.
    """

    def __init__(self, dim: int = 8) -> None:
        super().__init__()
        if dim < 1:
            raise ConfigurationError(f"SimNorm.dim is {dim}; use a positive group size")
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D); every group of ``dim`` features sums to 1."""
        return F.softmax(x.unflatten(-1, (-1, self.dim)), dim=-1).flatten(-2)


class _BatchNorm(nn.BatchNorm1d):
    """Batch normalisation over all leading dimensions of (..., D); padding counts as data."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.reshape(-1, x.shape[-1])).view_as(x)


def _simnorm(d_model: int) -> nn.Module:
    norm = SimNorm()
    if d_model % norm.dim:
        raise ConfigurationError(
            f"simnorm needs a width that is a multiple of SimNorm.dim: {d_model} is not one of {norm.dim}"
        )
    return norm


_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "layer": lambda d: nn.LayerNorm(d, eps=1e-5),
    "rmsnorm": lambda d: nn.RMSNorm(d, eps=1e-5),
    "batch": _BatchNorm,
    "simnorm": _simnorm,
    "none": lambda d: nn.Identity(),
}


class Normalization(nn.Module):
    """A normalisation layer chosen by name; its parameters, if any, are under ``norm``.

    Args:
        method: "layer", "rmsnorm", "simnorm", "batch", or "none" (also None). "batch" uses statistics
            of the whole batch, padding included: the others are what sequence models want.
        d_model: width D.

    Raises:
        ConfigurationError: an unknown method, or a width that it cannot have.
    """

    def __init__(self, method: str | None, d_model: int) -> None:
        super().__init__()
        name = "none" if method is None else method
        if name not in _NORMS:
            raise ConfigurationError(f"unknown normalization {name!r}; {nearest(name, sorted(_NORMS))}")
        self.norm = _NORMS[name](d_model)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.norm(x)


class FFBlock(nn.Module):
    """Residual block ``x + drop(act(norm2(ff2(drop(act(norm1(ff1 x)))))))``.

    Args:
        d_model: width D in and out.
        d_ff: hidden width.
        dropout: probability, after each activation.
        activation: name for :func:`amago.nets.utils.activation_switch`.
        norm: name for :class:`Normalization`.
        layer_type: what builds a layer from (inputs, outputs).
    """

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        dropout: float = 0.0,
        activation: str = "leaky_relu",
        norm: str | None = None,
        layer_type: LayerType = nn.Linear,
    ) -> None:
        super().__init__()
        self.ff1 = layer_type(d_model, d_ff)
        self.ff2 = layer_type(d_ff, d_model)
        self.norm1 = Normalization(norm, d_ff)
        self.norm2 = Normalization(norm, d_model)
        self.dropout = nn.Dropout(dropout)
        self.activation = activation_switch(activation)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        h = self.dropout(self.activation(self.norm1(self.ff1(x))))
        return x + self.dropout(self.activation(self.norm2(self.ff2(h))))


class MLP(nn.Module):
    """``n_layers`` times linear, normalisation, activation, dropout; then a bare linear output.

    Args:
        d_inp: input width.
        d_hidden: width of the hidden layers.
        n_layers: number of hidden layers, at least 1.
        d_output: output width.
        activation: name for :func:`amago.nets.utils.activation_switch`.
        normalization: name for :class:`Normalization`.
        dropout_p: dropout probability.
        layer_type: what builds a layer from (inputs, outputs).

    Raises:
        ConfigurationError: ``n_layers`` < 1.
    """

    def __init__(
        self,
        d_inp: int,
        d_hidden: int,
        n_layers: int,
        d_output: int,
        activation: str = "leaky_relu",
        normalization: str | None = None,
        dropout_p: float = 0.0,
        layer_type: LayerType = nn.Linear,
    ) -> None:
        super().__init__()
        if n_layers < 1:
            raise ConfigurationError(f"an MLP needs n_layers >= 1, not {n_layers}")
        self.in_layer = layer_type(d_inp, d_hidden)
        self.layers = nn.ModuleList([layer_type(d_hidden, d_hidden) for _ in range(n_layers - 1)])
        self.out_layer = layer_type(d_hidden, d_output)
        self.norms = nn.ModuleList([Normalization(normalization, d_hidden) for _ in range(n_layers)])
        self.dropout = nn.Dropout(dropout_p)
        self.activation = activation_switch(activation)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d_inp) -> (..., d_output)."""
        for layer, norm in zip([self.in_layer, *self.layers], self.norms, strict=True):
            x = self.dropout(self.activation(norm(layer(x))))
        return self.out_layer(x)
