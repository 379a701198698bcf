"""Ensembles of critics, evaluated in one batch of matrix products.

Shapes: B sequences, L timesteps, G discounts, C critics, K action samples, A action size, D state size.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import gin
import torch
import torch.nn.functional as F
from gymnasium import spaces
from torch import Tensor, nn
from torch import distributions as pyd

from amago.envs.spaces import action_size
from amago.errors import ConfigurationError
from amago.nets.utils import activation_switch, symexp, symlog


class _EnsembleLinear(nn.Module):
    """C linear layers: weight (C, in, out), bias (1, 1, C, out)."""

    def __init__(self, num: int, d_inp: int, d_out: int) -> None:
        super().__init__()
        # the same starting range as a single linear layer of torch
        bound = 1.0 / math.sqrt(d_inp)
        self.weight = nn.Parameter(torch.empty(num, d_inp, d_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(1, 1, num, d_out).uniform_(-bound, bound))

    def held(self, frozen: bool) -> tuple[Tensor, Tensor]:
        """Weight (C, in, out) and bias (C, 1, out), cut from the graph when ``frozen``."""
        weight, bias = self.weight, self.bias[0, 0].unsqueeze(1)
        return (weight.detach(), bias.detach()) if frozen else (weight, bias)

    def forward(self, x: Tensor, frozen: bool = False) -> Tensor:
        """(C, N, in) -> (C, N, out)."""
        weight, bias = self.held(frozen)
        return torch.baddbmm(bias, x, weight)


class EnsembleMLP(nn.Module):
    """C multi-layer perceptrons that share their input.

    Args:
        num: C.
        d_inp: input width.
        d_hidden: hidden width.
        n_layers: hidden layers, at least 1.
        d_output: output width.
        activation: name of the activation.
        dropout_p: dropout probability.

    Raises:
        ConfigurationError: no hidden layer, or no critic.
    """

    def __init__(
        self,
        num: int,
        d_inp: int,
        d_hidden: int,
        n_layers: int,
        d_output: int,
        activation: str = "leaky_relu",
        dropout_p: float = 0.0,
    ) -> None:
        super().__init__()
        if n_layers < 1 or num < 1:
            raise ConfigurationError(
                f"critics need num_critics >= 1 and n_layers >= 1, not {num}, {n_layers}"
            )
        self.num = num
        self.inp_layer = _EnsembleLinear(num, d_inp, d_hidden)
        self.core_layers = nn.ModuleList(
            [_EnsembleLinear(num, d_hidden, d_hidden) for _ in range(n_layers - 1)]
        )
        self.output_layer = _EnsembleLinear(num, d_hidden, d_output)
        self.activation = activation_switch(activation)
        self.dropout = nn.Dropout(dropout_p)

    def forward(self, x: Tensor, frozen: bool = False) -> Tensor:
        """(..., d_inp) -> (..., C, d_output), float32.

        Args:
            x: the input of every member.
            frozen: no gradient reaches the weights; the gradient of ``x`` is the same.
        """
        flat = x.reshape(1, -1, x.shape[-1]).expand(self.num, -1, -1)
        h = self._after_first(self.inp_layer(flat, frozen), frozen)
        return h.movedim(0, 1).unflatten(0, x.shape[:-1])

    def forward_parts(self, state: Tensor, gamma: Tensor, action: Tensor, frozen: bool = False) -> Tensor:
        """The same for inputs [state, gamma, action], without repeating the state for every action.

        The first layer is linear, so the state's share of it is computed once per timestep.

        Args:
            state: (B, L, D).
            gamma: (G, 1).
            action: (K, B, L, G, A).
            frozen: as in :meth:`forward`.

        Returns:
            (K, B, L, C, G, d_output), float32.
        """
        weight, bias = self.inp_layer.held(frozen)
        by_state, by_gamma, by_action = weight.split([state.shape[-1], 1, action.shape[-1]], dim=1)
        k, g = action.shape[0], gamma.shape[0]
        num, hidden = self.num, weight.shape[-1]
        flat_state = state.reshape(1, -1, state.shape[-1]).expand(num, -1, -1)
        flat_action = action.reshape(1, -1, action.shape[-1]).expand(num, -1, -1)
        # (C, 1, B*L, 1, H) + (C, 1, 1, G, H) + (C, K, B*L, G, H)
        from_state = torch.baddbmm(bias, flat_state, by_state).view(num, 1, -1, 1, hidden)
        from_gamma = (gamma * by_gamma).view(num, 1, 1, g, hidden)
        from_action = torch.bmm(flat_action, by_action).view(num, k, -1, g, hidden)
        h = (from_state + from_gamma + from_action).view(num, -1, hidden)
        h = self._after_first(h, frozen).view(num, *action.shape[:-1], -1)
        return h.movedim(0, 3)

    def _after_first(self, h: Tensor, frozen: bool) -> Tensor:
        """What follows the first linear layer: (C, N, hidden) -> (C, N, d_output)."""
        h = self.dropout(self.activation(h))
        for layer in self.core_layers:
            h = self.dropout(self.activation(layer(h, frozen)))
        return self.output_layer(h, frozen).float()


class BaseCriticHead(nn.Module, ABC):
    """State and action -> the value of each critic at each discount.

    A subclass defines :meth:`critic_network_forward`.

    Args:
        state_dim: D.
        action_space: ``Discrete``, ``MultiBinary`` or ``Box``.
        gammas: (G,) discounts.
        num_critics: C.
    """

    gamma_feature: Tensor

    def __init__(self, state_dim: int, action_space: spaces.Space, gammas: Tensor, num_critics: int) -> None:
        super().__init__()
        self.state_dim = state_dim
        self.action_space = action_space
        self.num_gammas = len(gammas)
        self.num_critics = num_critics
        self.discrete = isinstance(action_space, spaces.Discrete)
        self.action_dim = action_size(action_space)
        gammas = torch.as_tensor(gammas, dtype=torch.float32)
        self.most_gamma = float(gammas.max())
        # derived from settings: not part of a policy file
        feature = symlog(1.0 / (1.0 - gammas)).unsqueeze(-1)
        self.register_buffer("gamma_feature", feature, persistent=False)

    def _check_gamma_feature(self) -> None:
        """For critics that read ``gamma_feature``, which is infinite for a discount of 1."""
        if self.most_gamma >= 1.0:
            raise ConfigurationError(
                f"{type(self).__name__} reads 1 / (1 - gamma), so every discount must be below 1, not "
                f"{self.most_gamma:g}: change gamma of the agent, or Multigammas"
            )

    @abstractmethod
    def critic_network_forward(
        self, state: Tensor, action: Tensor, log_dict: dict[str, Any] | None = None
    ) -> Tensor:
        """Values (K, B, L, C, G, 1) of actions (K, B, L, G, A) in states (B, L, D)."""

    def forward(
        self,
        state: Tensor,
        action: Tensor,
        log_dict: dict[str, Any] | None = None,
        frozen: bool = False,
    ) -> Any:
        """:meth:`critic_network_forward`, or what a subclass makes of it.

        Args:
            state: (B, L, D).
            action: (K, B, L, G, A); probabilities or clipped one-hot for a discrete value critic.
            log_dict: if given, receives detached scalar tensors.
            frozen: hold the weights fixed: gradients reach ``state`` and ``action`` but no parameter.
        """
        if frozen:
            fixed = {name: p.detach() for name, p in self.named_parameters()}
            return torch.func.functional_call(self, fixed, (state, action, log_dict))
        return self.critic_network_forward(state, action, log_dict=log_dict)


def _continuous_action(action: Tensor) -> Tensor:
    """Actions as critics see them: never quite at the bounds, where the policy's density is unbounded."""
    return action.clamp(-0.999, 0.999)


@gin.configurable(module="amago.nets.actor_critic")
class NCritics(BaseCriticHead):
    """Ensemble of scalar critics.

    Discrete: the network gives the values of all A actions at all discounts, and an action is a vector
    of weights over them (probabilities, or a one-hot). Otherwise: the network takes
    ``[state, symlog(1 / (1 - gamma)), action]``.

    Args:
        state_dim: D.
        action_space: as in :class:`BaseCriticHead`.
        gammas: (G,).
        num_critics: C.
        d_hidden: hidden width.
        n_layers: hidden layers.
        dropout_p: dropout probability.
        activation: name of the activation.
    """

    def __init__(
        self,
        state_dim: int,
        action_space: spaces.Space,
        gammas: Tensor,
        num_critics: int,
        d_hidden: int = 256,
        n_layers: int = 2,
        dropout_p: float = 0.0,
        activation: str = "leaky_relu",
    ) -> None:
        super().__init__(state_dim, action_space, gammas, num_critics)
        if not self.discrete:
            self._check_gamma_feature()
        d_inp = state_dim if self.discrete else state_dim + 1 + self.action_dim
        d_out = self.num_gammas * self.action_dim if self.discrete else 1
        self.net = EnsembleMLP(num_critics, d_inp, d_hidden, n_layers, d_out, activation, dropout_p)

    def all_action_values(self, state: Tensor, frozen: bool = False) -> Tensor:
        """Values of every action in one pass: (B, L, D) -> (B, L, C, G, A). Discrete only.

        Args:
            state: (B, L, D).
            frozen: as in :meth:`BaseCriticHead.forward`.
        """
        return self.net(state, frozen).unflatten(-1, (self.num_gammas, self.action_dim))

    def critic_network_forward(
        self, state: Tensor, action: Tensor, log_dict: dict[str, Any] | None = None
    ) -> Tensor:
        if self.discrete:
            values = self.all_action_values(state)
            return (values * action.unsqueeze(-3)).sum(-1, keepdim=True)
        return self.net.forward_parts(state, self.gamma_feature, _continuous_action(action))


@gin.configurable(module="amago.nets.actor_critic")
class NCriticsTwoHot(BaseCriticHead):
    """Ensemble of critics that classify the return into bins.

    ``forward`` gives a ``torch.distributions.Categorical`` of batch shape (K, B, L, C, G) over bins;
    :meth:`bin_dist_to_raw_vals` turns it into values and :meth:`raw_vals_to_labels` makes the targets of
    its cross-entropy. Actions are always vectors (one-hot when discrete).

    Args:
        state_dim: D.
        action_space: as in :class:`BaseCriticHead`.
        gammas: (G,).
        num_critics: C.
        d_hidden: hidden width.
        n_layers: hidden layers.
        dropout_p: dropout probability.
        activation: name of the activation.
        min_return: value of the first bin (None: -100,000).
        max_return: value of the last bin (None: 100,000).
        output_bins: number of bins.
        use_symlog: space bins evenly in symlog of the return, not in the return itself.
        label_type: "twohot" (DreamerV3, arXiv 2301.04104) or "hlgauss" (arXiv 2403.03950).
        sigma: width of the HL-Gauss label, in bins.
        init_value: if given, predictions start near this return.

    Raises:
        ConfigurationError: an impossible range, too few bins, or an unknown label type.
    """

    bin_vals: Tensor

    def __init__(
        self,
        state_dim: int,
        action_space: spaces.Space,
        gammas: Tensor,
        num_critics: int,
        d_hidden: int = 256,
        n_layers: int = 2,
        dropout_p: float = 0.0,
        activation: str = "leaky_relu",
        min_return: float | None = None,
        max_return: float | None = None,
        output_bins: int = 128,
        use_symlog: bool = True,
        label_type: str = "twohot",
        sigma: float = 0.75,
        init_value: float | None = None,
    ) -> None:
        super().__init__(state_dim, action_space, gammas, num_critics)
        self._check_gamma_feature()
        low = -100_000.0 if min_return is None else float(min_return)
        high = 100_000.0 if max_return is None else float(max_return)
        if not low < high or output_bins < 2:
            raise ConfigurationError(
                f"NCriticsTwoHot needs min_return < max_return and output_bins >= 2, not {low}, {high}, {output_bins}"
            )
        if label_type not in ("twohot", "hlgauss"):
            raise ConfigurationError(
                f"NCriticsTwoHot.label_type is {label_type!r}; use 'twohot' or 'hlgauss'"
            )
        self.use_symlog, self.label_type, self.sigma = use_symlog, label_type, sigma
        ends = self._squash(torch.tensor([low, high], dtype=torch.float64)).tolist()
        self.bin_width = (ends[1] - ends[0]) / (output_bins - 1)
        bins = torch.linspace(ends[0], ends[1], output_bins)
        self.register_buffer("bin_vals", bins, persistent=False)
        d_inp = state_dim + 1 + self.action_dim
        self.net = EnsembleMLP(num_critics, d_inp, d_hidden, n_layers, output_bins, activation, dropout_p)
        if init_value is not None:
            self._start_near(init_value)

    def _squash(self, y: Tensor) -> Tensor:
        return symlog(y) if self.use_symlog else y

    def _start_near(self, value: float) -> None:
        """Sets the output bias so that its softmax is a Gaussian, four bins wide, around ``value``."""
        z = self._squash(torch.tensor(float(value)))
        with torch.no_grad():
            log_density = -0.5 * ((self.bin_vals - z) / (4.0 * self.bin_width)).square()
            self.net.output_layer.bias.copy_(log_density.expand_as(self.net.output_layer.bias))

    def critic_network_forward(
        self, state: Tensor, action: Tensor, log_dict: dict[str, Any] | None = None
    ) -> Tensor:
        """Logits over bins (K, B, L, C, G, bins)."""
        return self.net.forward_parts(state, self.gamma_feature, _continuous_action(action))

    def forward(
        self,
        state: Tensor,
        action: Tensor,
        log_dict: dict[str, Any] | None = None,
        frozen: bool = False,
    ) -> pyd.Categorical:
        """The return's distribution over bins: batch shape (K, B, L, C, G). Arguments as in the base."""
        if frozen:
            return super().forward(state, action, log_dict=log_dict, frozen=True)
        logits = self.critic_network_forward(state, action, log_dict=log_dict)
        return pyd.Categorical(logits=logits, validate_args=False)

    def bin_dist_to_raw_vals(self, bin_dist: pyd.Categorical) -> Tensor:
        """Values (..., 1), in the units of returns, of a distribution over bins of batch shape (...)."""
        probs = bin_dist.probs
        if torch.is_autocast_enabled(probs.device.type):
            # half precision has eight bits for a bin's logarithm: an error of several percent of the value
            with torch.autocast(probs.device.type, enabled=False):
                return self._expected_value(probs.float())
        return self._expected_value(probs)

    def _expected_value(self, probs: Tensor) -> Tensor:
        """Values (..., 1) for probabilities over bins (..., bins)."""
        # a product with a vector: the largest tensor of the update is read once and not written again;
        # critics first, as they compute, or the product would begin with a copy
        first = probs.movedim(-3, 0) if probs.dim() > 3 else probs
        value = first @ self.bin_vals.to(probs.dtype)
        value = (value.movedim(0, -2) if probs.dim() > 3 else value).unsqueeze(-1)
        return symexp(value) if self.use_symlog else value

    @torch.no_grad()
    def raw_vals_to_labels(self, raw_vals: Tensor) -> Tensor:
        """Probabilities over bins (..., bins) for returns (..., 1), by ``label_type``."""
        z = self._squash(raw_vals.to(self.bin_vals.dtype)).clamp(self.bin_vals[0], self.bin_vals[-1])
        return self._two_hot(z) if self.label_type == "twohot" else self._hl_gauss(z)

    def _two_hot(self, z: Tensor) -> Tensor:
        bins = self.bin_vals
        lower = (torch.searchsorted(bins, z.contiguous(), right=True) - 1).clamp(0, len(bins) - 2)
        left, right = bins[lower], bins[lower + 1]
        upper_share = (z - left) / (right - left)
        # comparisons, not scatter, which has no batched form for stacked seeds
        index = torch.arange(len(bins), device=z.device)
        is_lower, is_upper = index == lower, index == lower + 1
        return is_lower * (1.0 - upper_share) + is_upper * upper_share

    def _hl_gauss(self, z: Tensor) -> Tensor:
        scale = self.sigma * self.bin_width * math.sqrt(2.0)
        half = 0.5 * self.bin_width
        # the normal distribution function is (1 + erf(x / sqrt 2)) / 2; the rest cancels
        above = torch.erf((self.bin_vals + half - z) / scale)
        below = torch.erf((self.bin_vals - half - z) / scale)
        return F.normalize(above - below, p=1.0, dim=-1)

    def cross_entropy(self, bin_dist: pyd.Categorical, labels: Tensor) -> Tensor:
        """``-sum_i label_i log p_i``: (..., 1) for labels broadcastable to (..., bins)."""
        return -(labels * bin_dist.logits).sum(-1, keepdim=True)
