"""Actors, critics and value normalisation: everything after the sequence model.

Shapes: B sequences, L timesteps, G discounts, C critics, K action samples, A action size, D state size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import gin
from gymnasium import spaces
from torch import Tensor, nn
from torch import distributions as pyd

from amago.envs.spaces import action_size
from amago.errors import ConfigurationError
from amago.nets import ff, policy_dists
from amago.nets._critics import BaseCriticHead, EnsembleMLP, NCritics, NCriticsTwoHot
from amago.nets._popart import PopArtLayer
from amago.nets.utils import activation_switch

__all__ = [
    "Actor",
    "BaseActorHead",
    "BaseCriticHead",
    "EnsembleMLP",
    "NCritics",
    "NCriticsTwoHot",
    "PopArtLayer",
    "ResidualActor",
]

PolicyType = type[policy_dists.PolicyOutput]


class BaseActorHead(nn.Module, ABC):
    """State -> a distribution over actions for every discount.

    A subclass defines :meth:`actor_network_forward`, and puts out
    ``policy_dist.input_dimension`` numbers per discount.

    Args:
        state_dim: D.
        action_space: ``Discrete``, ``MultiBinary`` or ``Box``.
        gammas: (G,) discounts.
        continuous_dist_type: policy for ``Box``.
        discrete_dist_type: policy for ``Discrete``; ``MultiBinary`` always has independent bits.

    Raises:
        ConfigurationError: another action space.
    """

    def __init__(
        self,
        state_dim: int,
        action_space: spaces.Space,
        gammas: Tensor,
        continuous_dist_type: PolicyType,
        discrete_dist_type: PolicyType = policy_dists.Discrete,
    ) -> None:
        super().__init__()
        self.state_dim = state_dim
        self.action_space = action_space
        self.num_gammas = len(gammas)
        if isinstance(action_space, spaces.Discrete):
            self.policy_dist = discrete_dist_type(action_size(action_space))
        elif isinstance(action_space, spaces.MultiBinary):
            self.policy_dist = policy_dists.Multibinary(action_size(action_space))
        elif isinstance(action_space, spaces.Box):
            self.policy_dist = continuous_dist_type(action_size(action_space))
        else:
            raise ConfigurationError(
                f"an actor cannot act in {action_space}; offer Discrete, MultiBinary or Box"
            )
        self._check_kind()

    def _check_kind(self) -> None:
        """Refuse a distribution of another kind of actions."""
        dist, box = self.policy_dist, isinstance(self.action_space, spaces.Box)
        bits = isinstance(dist, policy_dists.Multibinary)
        if dist.is_discrete is box or (bits and isinstance(self.action_space, spaces.Discrete)):
            setting = "continuous_dist_type" if box else "discrete_dist_type"
            raise ConfigurationError(
                f"{type(self).__name__}.{setting} is {type(dist).__name__}, which is for another kind of actions than "
                f"{self.action_space}"
            )

    @property
    def actions_differentiable(self) -> bool:
        """See :attr:`amago.nets.policy_dists.PolicyOutput.actions_differentiable`."""
        return self.policy_dist.actions_differentiable

    @abstractmethod
    def actor_network_forward(
        self,
        state: Tensor,
        log_dict: dict[str, Any] | None = None,
        straight_from_obs: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """(B, L, D) -> (B, L, G, P), the numbers that ``policy_dist`` takes.

        Args:
            state: output of the sequence model.
            log_dict: if given, receives detached scalar tensors.
            straight_from_obs: observations (B, L, ...) named by ``Agent.pass_obs_keys_to_actor``.
        """

    def forward(
        self,
        state: Tensor,
        log_dict: dict[str, Any] | None = None,
        straight_from_obs: dict[str, Tensor] | None = None,
    ) -> pyd.Distribution:
        """The policy at every timestep and discount: batch shape (B, L, G) or (B, L, G, A)."""
        params = self.actor_network_forward(state, log_dict=log_dict, straight_from_obs=straight_from_obs)
        return self.policy_dist(params, log_dict=log_dict)


@gin.configurable
class Actor(BaseActorHead):
    """An MLP that puts out the policies of all discounts at once.

    Args:
        state_dim: D.
        action_space: as in :class:`BaseActorHead`.
        gammas: (G,).
        n_layers: hidden layers.
        d_hidden: their width.
        activation: name of the activation.
        dropout_p: dropout probability.
        continuous_dist_type: policy for ``Box``.
        discrete_dist_type: policy for ``Discrete``.
    """

    def __init__(
        self,
        state_dim: int,
        action_space: spaces.Space,
        gammas: Tensor,
        n_layers: int = 2,
        d_hidden: int = 256,
        activation: str = "leaky_relu",
        dropout_p: float = 0.0,
        continuous_dist_type: PolicyType = policy_dists.TanhGaussian,
        discrete_dist_type: PolicyType = policy_dists.Discrete,
    ) -> None:
        super().__init__(state_dim, action_space, gammas, continuous_dist_type, discrete_dist_type)
        self.base = ff.MLP(
            state_dim,
            d_hidden,
            n_layers,
            self.num_gammas * self.policy_dist.input_dimension,
            activation=activation,
            dropout_p=dropout_p,
        )

    def actor_network_forward(
        self,
        state: Tensor,
        log_dict: dict[str, Any] | None = None,
        straight_from_obs: dict[str, Tensor] | None = None,
    ) -> Tensor:
        return self.base(state).unflatten(-1, (self.num_gammas, -1))


@gin.configurable
class ResidualActor(BaseActorHead):
    """Linear, normalisation, activation, residual blocks, linear (after BRO, arXiv 2405.16158).

    Args:
        state_dim: D.
        action_space: as in :class:`BaseActorHead`.
        gammas: (G,).
        feature_dim: width of the residual stream.
        residual_ff_dim: hidden width of a block.
        residual_blocks: number of blocks.
        activation: name of the activation.
        normalization: name of the normalisation, in blocks and after the first layer.
        dropout_p: dropout probability.
        continuous_dist_type: policy for ``Box``.
        discrete_dist_type: policy for ``Discrete``.
    """

    def __init__(
        self,
        state_dim: int,
        action_space: spaces.Space,
        gammas: Tensor,
        feature_dim: int = 256,
        residual_ff_dim: int = 512,
        residual_blocks: int = 2,
        activation: str = "leaky_relu",
        normalization: str | None = "layer",
        dropout_p: float = 0.0,
        continuous_dist_type: PolicyType = policy_dists.TanhGaussian,
        discrete_dist_type: PolicyType = policy_dists.Discrete,
    ) -> None:
        super().__init__(state_dim, action_space, gammas, continuous_dist_type, discrete_dist_type)
        self.in_layer = nn.Linear(state_dim, feature_dim)
        self.in_norm = ff.Normalization(normalization, feature_dim)
        self.activation = activation_switch(activation)
        self.dropout = nn.Dropout(dropout_p)
        self.blocks = nn.ModuleList(
            ff.FFBlock(feature_dim, residual_ff_dim, dropout_p, activation, normalization)
            for _ in range(residual_blocks)
        )
        self.out_layer = nn.Linear(feature_dim, self.num_gammas * self.policy_dist.input_dimension)

    def actor_network_forward(
        self,
        state: Tensor,
        log_dict: dict[str, Any] | None = None,
        straight_from_obs: dict[str, Tensor] | None = None,
    ) -> Tensor:
        x = self.dropout(self.activation(self.in_norm(self.in_layer(state))))
        for block in self.blocks:
            x = block(x)
        return self.out_layer(x).unflatten(-1, (self.num_gammas, -1))
