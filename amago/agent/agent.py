"""The AMAGO agent: off-policy actor-critic over whole sequences and many discounts at once.

One pass of the encoders feeds everything. Shapes: B sequences, L transitions, C critics,
G discounts (the last one acts), A action dimension, K sampled actions, D embedding size.
AMAGO: arXiv 2310.09971; AMAGO-2: arXiv 2411.11188.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from numbers import Integral
from typing import Any

import gin
import gymnasium as gym
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from amago.agent.base import masked_mean
from amago.agent.filters import binary_filter
from amago.agent.registry import Multigammas, register_agent
from amago.agent.targets import n_step_targets
from amago.agent.values import CriticValues, gives_all_values_at_once
from amago.errors import ConfigurationError
from amago.gin_names import explain_required, without_gin
from amago.loading import Batch
from amago.nets import actor_critic
from amago.nets.policy_dists import greedy_action, stored_log_prob


@gin.configurable(module="amago.agent")
@register_agent("agent")
class Agent(CriticValues):
    """Actor-critic with PopArt values, an online (policy-gradient) and an offline (filtered cloning) term.

    Args:
        obs_space: see :class:`BaseAgent`.
        rl2_space: see :class:`BaseAgent`.
        action_space: see :class:`BaseAgent`.
        tstep_encoder_type: builds the timestep encoder from (obs_space, rl2_space).
        traj_encoder_type: builds the trajectory encoder from (tstep_dim, max_seq_len).
        max_seq_len: see :class:`BaseAgent`.
        num_critics: critics in the ensemble, C.
        num_critics_td: target critics, drawn with replacement, whose minimum is the target value.
        online_coeff: weight of - Q(s, a ~ pi). With 0, targets use the mean of all critics.
        offline_coeff: weight of - filter(advantage) * log pi(stored action).
        critic_loss_weight: weight of the critic loss.
        gamma: the discount that acts.
        reward_multiplier: scale of rewards inside the update.
        tau: step of target networks towards the learned ones, at every update.
        fake_filter: clone every action (behaviour cloning); without an online term, critics are skipped.
        num_actions_for_value_in_critic_loss: K in the target's expectation over actions.
        num_actions_for_value_in_actor_loss: K in the advantage's. Both unused where the
            expectation is exact (discrete actions).
        fbc_filter_func: advantages to weights; see :mod:`amago.agent.filters`.
        popart: normalise values by running statistics.
        use_target_actor: choose the target's actions by a slow copy of the actor.
        use_multigamma: learn the discounts of :class:`Multigammas` too.
        n_step: rewards in a target before it bootstraps.
        actor_type: builds the actor from (state_dim, action_space, gammas).
        critic_type: builds the critics from (state_dim, action_space, gammas, num_critics).
        pass_obs_keys_to_actor: observations that the actor also gets directly.

    Raises:
        ConfigurationError: an online term for actions without a gradient, unknown observation keys,
            a missing required setting, a discount outside 0 to 1, critics of the other kind.
    """

    #: whether critics classify returns into bins
    critics_have_bins = False

    def __init__(
        self,
        obs_space: gym.spaces.Dict,
        rl2_space: gym.spaces.Box,
        action_space: gym.Space,
        tstep_encoder_type: Callable[..., Any],
        traj_encoder_type: Callable[..., Any],
        max_seq_len: int,
        num_critics: int = 4,
        num_critics_td: int = 2,
        online_coeff: float = 1.0,
        offline_coeff: float = 0.1,
        critic_loss_weight: float = 10.0,
        gamma: float = 0.999,
        reward_multiplier: float = 10.0,
        tau: float = 0.003,
        fake_filter: bool = False,
        num_actions_for_value_in_critic_loss: int = 1,
        num_actions_for_value_in_actor_loss: int = 1,
        fbc_filter_func: Callable[[Tensor], Tensor] = binary_filter,
        popart: bool = True,
        use_target_actor: bool = True,
        use_multigamma: bool = True,
        n_step: int = 1,
        actor_type: Callable[..., Any] = actor_critic.Actor,
        critic_type: Callable[..., Any] = actor_critic.NCritics,
        pass_obs_keys_to_actor: Sequence[str] | None = None,
    ) -> None:
        super().__init__(obs_space, rl2_space, action_space, max_seq_len)
        self.num_critics = num_critics
        self.num_critics_td = num_critics_td
        self.online_coeff = online_coeff
        self.offline_coeff = offline_coeff
        self.critic_loss_weight = critic_loss_weight
        self.gamma = gamma
        self.reward_multiplier = reward_multiplier
        self.tau = tau
        self.fake_filter = fake_filter
        self.num_actions_for_value_in_critic_loss = num_actions_for_value_in_critic_loss
        self.num_actions_for_value_in_actor_loss = num_actions_for_value_in_actor_loss
        if not callable(fbc_filter_func):
            raise ConfigurationError(
                f"{type(self).__name__}.fbc_filter_func is {fbc_filter_func!r}; give a function, such as @exp_filter"
            )
        fbc_filter_func(torch.zeros(1, 1, 1, 1))  # so that config.txt has the filter's settings
        self.fbc_filter_func = without_gin(fbc_filter_func)
        self.use_target_actor = use_target_actor
        self.use_multigamma = use_multigamma
        self.n_step = n_step
        self.pass_obs_keys_to_actor = list(pass_obs_keys_to_actor or ())
        self._check_settings()

        self.gammas: Tensor
        self.register_buffer("gammas", torch.tensor(self._all_gammas()), persistent=False)
        with explain_required():
            self.tstep_encoder = tstep_encoder_type(obs_space, rl2_space)
            self.traj_encoder = traj_encoder_type(self.tstep_encoder.emb_dim, max_seq_len)
            state_dim = self.traj_encoder.emb_dim
            self.actor = actor_type(state_dim, action_space, self.gammas)
            self.critics = critic_type(state_dim, action_space, self.gammas, num_critics)
        self._all_values_at_once = self.discrete and gives_all_values_at_once(self.critics)
        self.popart = actor_critic.PopArtLayer(len(self.gammas), enabled=popart)
        self._check_online_term()
        self._check_critics()
        self.init_extra_networks()
        self.target_critics = _frozen_copy(self.critics)
        if use_target_actor:
            self.target_actor = _frozen_copy(self.actor)

    def _check_settings(self) -> None:
        name = type(self).__name__
        for key in self.pass_obs_keys_to_actor:
            if key not in self.obs_space.spaces:
                raise ConfigurationError(
                    f"{name}.pass_obs_keys_to_actor names {key!r}; observations are {', '.join(self.obs_space)}"
                )
        for setting in (
            "num_critics",
            "num_critics_td",
            "n_step",
            "num_actions_for_value_in_critic_loss",
            "num_actions_for_value_in_actor_loss",
        ):
            value = getattr(self, setting)
            if not isinstance(value, Integral) or value < 1:
                raise ConfigurationError(f"{name}.{setting} must be at least 1 and whole, got {value!r}")
        if not math.isfinite(self.reward_multiplier):
            raise ConfigurationError(f"{name}.reward_multiplier must be finite, got {self.reward_multiplier}")
        for setting in ("online_coeff", "offline_coeff", "critic_loss_weight"):
            if getattr(self, setting) < 0:
                raise ConfigurationError(f"{name}.{setting} must be 0 or more, got {getattr(self, setting)}")
        for setting, value in ((f"{name}.tau", self.tau), (f"{name}.gamma", self.gamma)):
            if not 0.0 <= value <= 1.0:
                raise ConfigurationError(f"{setting} must be from 0 to 1, got {value}")
        for value in self._all_gammas():
            if not 0.0 <= value <= 1.0:
                kind = "discrete" if self.discrete else "continuous"
                raise ConfigurationError(f"Multigammas.{kind} must hold discounts from 0 to 1, got {value}")

    def _check_critics(self) -> None:
        """Critics of values for `Agent`, of bins for `MultiTaskAgent`."""
        if not hasattr(self.critics, "critic_network_forward"):
            raise ConfigurationError(
                f"{type(self).__name__}.critic_type is {type(self.critics).__name__}, which is no BaseCriticHead"
            )
        if hasattr(self.critics, "bin_dist_to_raw_vals") != self.critics_have_bins:
            name, other = type(self).__name__, "NCriticsTwoHot" if self.critics_have_bins else "NCritics"
            raise ConfigurationError(
                f"{name}.critic_type is {type(self.critics).__name__}, whose critics "
                f"{'put out values' if self.critics_have_bins else 'put out bins'}; {name} learns with "
                f"{'bins' if self.critics_have_bins else 'values'}: use one like {other}, or another agent"
            )

    def _check_online_term(self) -> None:
        if self.online_coeff > 0 and not (self.actor.actions_differentiable or self.multibinary):
            name, dist = type(self).__name__, type(self.actor.policy_dist).__name__
            raise ConfigurationError(
                f"actions of {dist} have no gradient, which {name}'s online term needs; "
                f"set `{name}.online_coeff = 0.0` or choose another policy distribution"
            )

    def _all_gammas(self) -> list[float]:
        if not self.use_multigamma:
            return [self.gamma]
        extra = Multigammas()
        return [*(extra.discrete if self.discrete else extra.continuous), self.gamma]

    # -- parameters and targets ----------------------------------------------------------------

    @property
    def trainable_params(self) -> list[nn.Parameter]:
        """Parameters of the encoders, the actor and the critics. Override it to add extra networks."""
        modules = (self.tstep_encoder, self.traj_encoder, self.actor, self.critics)
        return [p for m in modules for p in m.parameters() if p.requires_grad]

    def _target_pairs(self) -> tuple[list[Tensor], list[Tensor]]:
        pairs = [(self.target_critics, self.critics)]
        if self.use_target_actor:
            pairs.append((self.target_actor, self.actor))
        targets: list[Tensor] = [p for t, _ in pairs for p in t.parameters()]
        return targets, [p for _, o in pairs for p in o.parameters()]

    @torch.no_grad()
    def soft_sync_targets(self) -> None:
        """Polyak step of all target networks: target <- target + tau (online - target)."""
        torch._foreach_lerp_(*self._target_pairs(), self.tau)

    @torch.no_grad()
    def hard_sync_targets(self) -> None:
        """Copy the learned networks into their targets."""
        torch._foreach_copy_(*self._target_pairs())

    # -- acting --------------------------------------------------------------------------------

    def get_state_embedding(
        self, obs: dict[str, Tensor], rl2s: Tensor, time_idxs: Tensor, hidden_state: Any = None
    ) -> tuple[Tensor, Any]:
        """Both encoders: state embeddings (B, L, D) and the next hidden state."""
        embedding = self.tstep_encoder(obs, rl2s)
        return self.traj_encoder(embedding, time_idxs, hidden_state)

    def get_actions(
        self,
        obs: dict[str, Tensor],
        rl2s: Tensor,
        time_idxs: Tensor,
        hidden_state: Any = None,
        sample: bool = True,
    ) -> tuple[Tensor, Any]:
        """Actions for the last discount; see :meth:`BaseAgent.get_actions`."""
        state, hidden_state = self.get_state_embedding(obs, rl2s, time_idxs, hidden_state)
        params = self.actor.actor_network_forward(state, straight_from_obs=self._straight_from(obs))
        dist = self.actor.policy_dist(params[..., -1:, :])
        actions = dist.sample() if sample else greedy_action(dist)
        if self.discrete:
            return actions, hidden_state
        return actions[..., 0, :].to(torch.int8 if self.multibinary else torch.float32), hidden_state

    @torch.no_grad()
    def get_values(
        self, obs: dict[str, Tensor], rl2s: Tensor, time_idxs: Tensor, hidden_state: Any = None
    ) -> tuple[Tensor, Any]:
        """State values V(s) under the current policy, one for each discount.

        Args:
            obs: each (B, L, ...).
            rl2s: (B, L, 1 + A).
            time_idxs: (B, L, 1) int64.
            hidden_state: as in :meth:`get_actions`.

        Returns:
            (B, L, G) mean over critics, in the environment's unit of return (``reward_multiplier``
            is divided out); and the next hidden state.
        """
        state, hidden_state = self.get_state_embedding(obs, rl2s, time_idxs, hidden_state)
        policy = self._policy(self.actor, state, obs, slice(None))
        k = self.num_actions_for_value_in_actor_loss
        values = self._expected_values(self.critics, state, policy, k).mean(2)
        return self._as_returns(values) / self.reward_multiplier, hidden_state

    def _policy(
        self,
        actor: Any,
        state: Tensor,
        obs: dict[str, Tensor],
        rows: slice,
        log_dict: dict[str, Tensor] | None = None,
    ) -> Distribution:
        """The policy of all discounts in states (B, L, D), which are ``rows`` of the observations."""
        return actor(state, log_dict=log_dict, straight_from_obs=self._straight_from(obs, rows))

    def _straight_from(self, obs: dict[str, Tensor], rows: slice = slice(None)) -> dict[str, Tensor] | None:
        if not self.pass_obs_keys_to_actor:
            return None
        return {k: obs[k][:, rows] for k in self.pass_obs_keys_to_actor}

    # -- learning --------------------------------------------------------------------------------

    def forward(self, batch: Batch, log_step: bool) -> Tensor:
        """Total loss, a scalar; see :meth:`BaseAgent.forward`."""
        loss, self.update_info = self.compute_loss(batch, log_step)
        return loss

    def compute_loss(self, batch: Batch, log_step: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch and its metrics (detached 0-d tensors; few unless ``log_step``).

        Changes nothing but running statistics (registered buffers, in training mode only), and
        never looks at a tensor's value, so that it runs under ``torch.func.functional_call``.
        """
        batch = batch.with_zeros_in_padding()
        assert batch.mask is not None
        info: dict[str, Tensor] = {}
        log_dict = info if log_step else None
        valid = batch.mask.unsqueeze(-1)  # (B, L, 1, 1)

        embedding = self.tstep_encoder(batch.obs, batch.rl2s, log_dict=log_dict, mask=batch.obs_mask)
        states, _ = self.traj_encoder(embedding, batch.time_idxs, None, log_dict)
        state, next_state = states[:, :-1], states[:, 1:]
        policy = self._policy(self.actor, state, batch.obs, slice(0, -1), log_dict)

        critic_loss = actor_loss = states.new_zeros(())
        advantage = expected = None
        if not self.fake_filter or self.online_coeff > 0:
            target = self._td_targets(batch, next_state, valid)
            if self.training:
                self.popart.update_stats(target, valid)
            prediction, stored, expected = self._critic_pass(state, batch.actions, policy)
            per_entry = self._critic_loss(prediction, stored, target)  # (B, L, C, G, 1)
            critic_loss = self._masked(self.edit_critic_mask, batch, per_entry, valid.unsqueeze(-1))
            if expected is not None:
                advantage = (stored.detach().mean(2) - expected.detach().mean(2)).unsqueeze(-1)
            if log_step:
                info.update(self._value_metrics(stored.detach(), target, valid))

        policy_loss = self._actor_loss(batch, policy, advantage, expected, info, log_step)
        if policy_loss is not None:  # (B, L, G, 1)
            actor_loss = self._masked(self.edit_actor_mask, batch, policy_loss, valid)
        loss = actor_loss + self.critic_loss_weight * critic_loss
        info["Loss"] = loss.detach()
        info["Actor Loss"] = actor_loss.detach()
        info["Critic Loss"] = critic_loss.detach()
        return loss, info

    @staticmethod
    def _masked(edit: Callable[..., Tensor], batch: Batch, loss: Tensor, valid: Tensor) -> Tensor:
        """Mean of a loss over the entries that count, after the user's hook had its say."""
        default = valid.expand_as(loss)
        mask = edit(batch, loss, default)
        return masked_mean(loss, valid if mask is default else mask)

    # Targets: no gradient, and everything of them from before this batch's statistics.

    @torch.no_grad()
    def _td_targets(self, batch: Batch, next_state: Tensor, valid: Tensor) -> Tensor:
        """Targets (B, L, G, 1) of all discounts, in the unit of (multiplied) returns."""
        actor = self.target_actor if self.use_target_actor else self.actor
        policy = self._policy(actor, next_state, batch.obs, slice(1, None))
        k = self.num_actions_for_value_in_critic_loss
        values = self._expected_values(self.target_critics, next_state, policy, k)
        next_value = self._as_returns(self._reduce_ensemble(values)).unsqueeze(-1)
        reward = self.reward_multiplier * batch.rews.unsqueeze(-1)
        gamma = self.gammas.unsqueeze(-1)
        return n_step_targets(reward, batch.dones.unsqueeze(-1), next_value, gamma, valid, self.n_step)

    def _actor_loss(
        self,
        batch: Batch,
        policy: Distribution,
        advantage: Tensor | None,
        expected: Tensor | None,
        info: dict[str, Tensor],
        log_step: bool,
    ) -> Tensor | None:
        """online_coeff * online + offline_coeff * offline for every entry, (B, L, G, 1)."""
        assert batch.mask is not None
        valid = batch.mask.unsqueeze(-1)
        loss = None
        if self.online_coeff > 0:
            assert expected is not None
            online = -self._as_objective(expected.amin(2)).unsqueeze(-1)
            loss = self.online_coeff * online
            if log_step:
                info["Online Actor Loss"] = masked_mean(online.detach(), valid)
        if self.offline_coeff > 0:
            offline = -stored_log_prob(policy, batch.actions.unsqueeze(2))  # (B, L, G, 1)
            if not self.fake_filter:
                assert advantage is not None
                weight = self.fbc_filter_func(advantage)
                offline = weight * offline
                if log_step:
                    info["Filter Weight"] = masked_mean(weight, valid)
                    info["Advantage"] = masked_mean(advantage, valid)
                    info["Advantages > 0"] = masked_mean((advantage > 0).float(), valid)
            loss = self.offline_coeff * offline + (0.0 if loss is None else loss)
            if log_step:
                info["Offline Actor Loss"] = masked_mean(offline.detach(), valid)
        return loss

    def _value_metrics(self, stored: Tensor, target: Tensor, valid: Tensor) -> dict[str, Tensor]:
        """Values and targets of the discount that acts, in the unit of (multiplied) returns."""
        acting, target = self._as_returns(stored.mean(2))[..., -1:], target[..., -1, :]
        mask = valid[..., 0]
        info = {
            "Q(s, a)": masked_mean(acting, mask),
            "TD Target": masked_mean(target, mask),
            "Q(s, a) Ensemble Std": masked_mean(stored[..., -1:].std(2, correction=0), mask),
        }
        if self.popart.enabled:
            info["PopArt mu"] = self.popart.mu[-1, 0].clone()
            info["PopArt sigma"] = self.popart.sigma[-1, 0]
        return info


def _frozen_copy(network: nn.Module) -> nn.Module:
    return deepcopy(network).requires_grad_(False)
