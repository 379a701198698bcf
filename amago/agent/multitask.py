"""The agent for many tasks at once: no term of its loss scales with the size of returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gin
import gymnasium as gym
import torch
from torch import Tensor
from torch.distributions import Distribution

from amago.agent.agent import Agent
from amago.agent.filters import binary_filter
from amago.agent.registry import register_agent
from amago.nets import actor_critic
from amago.nets.policy_dists import DiscreteLikeContinuous


@gin.configurable(module="amago.agent")
@register_agent("multitask")
class MultiTaskAgent(Agent):
    """Critics that classify returns, and an actor that clones what the critics approve (AMAGO-2).

    Differs from :class:`Agent` (whose parameters it shares) in three things: the critic loss is
    a cross-entropy over bins; discrete actions are one-hot vectors for critics of (state, action),
    sampled K times; and there is no online term by default. PopArt only keeps statistics.
    AMAGO-2: arXiv 2411.11188.
    """

    critics_have_bins = True

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
        online_coeff: float = 0.0,
        offline_coeff: float = 1.0,
        critic_loss_weight: float = 10.0,
        gamma: float = 0.999,
        reward_multiplier: float = 10.0,
        tau: float = 0.003,
        fake_filter: bool = False,
        num_actions_for_value_in_critic_loss: int = 1,
        num_actions_for_value_in_actor_loss: int = 3,
        fbc_filter_func: Callable[[Tensor], Tensor] = binary_filter,
        popart: bool = True,
        use_target_actor: bool = True,
        use_multigamma: bool = True,
        n_step: int = 1,
        actor_type: Callable[..., Any] = actor_critic.Actor,
        critic_type: Callable[..., Any] = actor_critic.NCriticsTwoHot,
        pass_obs_keys_to_actor: Sequence[str] | None = None,
    ) -> None:
        super().__init__(
            obs_space,
            rl2_space,
            action_space,
            tstep_encoder_type,
            traj_encoder_type,
            max_seq_len,
            num_critics=num_critics,
            num_critics_td=num_critics_td,
            online_coeff=online_coeff,
            offline_coeff=offline_coeff,
            critic_loss_weight=critic_loss_weight,
            gamma=gamma,
            reward_multiplier=reward_multiplier,
            tau=tau,
            fake_filter=fake_filter,
            num_actions_for_value_in_critic_loss=num_actions_for_value_in_critic_loss,
            num_actions_for_value_in_actor_loss=num_actions_for_value_in_actor_loss,
            fbc_filter_func=fbc_filter_func,
            popart=popart,
            use_target_actor=use_target_actor,
            use_multigamma=use_multigamma,
            n_step=n_step,
            actor_type=actor_type,
            critic_type=critic_type,
            pass_obs_keys_to_actor=pass_obs_keys_to_actor,
        )

    def _policy(
        self,
        actor: Any,
        state: Tensor,
        obs: dict[str, Tensor],
        rows: slice,
        log_dict: dict[str, Tensor] | None = None,
    ) -> Distribution:
        policy: Any = super()._policy(actor, state, obs, rows, log_dict)
        return DiscreteLikeContinuous(policy) if self.discrete else policy

    def _critic_pass(
        self, state: Tensor, actions: Tensor, policy: Distribution
    ) -> tuple[Any, Tensor, Tensor | None]:
        bins = _Bins(self.critics.critic_network_forward(state, self._for_all_gammas(actions)))
        # Only the cross-entropy teaches these critics: their values carry no gradient.
        stored = self.critics.bin_dist_to_raw_vals(bins.detached())[0, ..., 0]
        if not self._needs_on_policy_values:
            return bins, stored, None
        with torch.set_grad_enabled(self.online_coeff > 0 and torch.is_grad_enabled()):
            sampled = self._sample(policy, self.num_actions_for_value_in_actor_loss)
            values = self._sample_values(self.critics, state.detach(), sampled, frozen=True)
            above = stored - values  # (K, B, L, C, G)
            if self.discrete:
                # The same action has the same value: what is left of the difference is rounding, and
                # a filter that asks for its sign would toss a coin.
                same = (sampled == actions.unsqueeze(2)).all(-1).unsqueeze(3)
                above = above - torch.where(same, above, 0.0).detach()
            return bins, stored, stored - above.mean(0)

    def _expected_values(
        self, critics: Any, state: Tensor, policy: Distribution, k: int, frozen: bool = False
    ) -> Tensor:
        return self._sample_values(critics, state, self._sample(policy, k), frozen).mean(0)

    @staticmethod
    def _sample_values(critics: Any, state: Tensor, actions: Tensor, frozen: bool) -> Tensor:
        """Values (K, B, L, C, G) of actions (K, B, L, G, A)."""
        if frozen and torch.is_grad_enabled():
            bins = critics(state, actions, frozen=True)
        else:
            bins = _Bins(critics.critic_network_forward(state, actions))
        return critics.bin_dist_to_raw_vals(bins)[..., 0]

    def _critic_loss(self, prediction: Any, stored: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy (B, L, C, G, 1) with the labels of the target's bin."""
        labels = self.critics.raw_vals_to_labels(target).unsqueeze(2)  # (B, L, 1, G, bins)
        return self.critics.cross_entropy(prediction, labels)[0]

    def _as_returns(self, values: Tensor) -> Tensor:
        return values

    def _as_objective(self, values: Tensor) -> Tensor:
        return values

    def _sample(self, policy: Any, k: int) -> Tensor:
        if not self.discrete:
            return super()._sample(policy, k)
        if torch.is_grad_enabled() and self.online_coeff > 0:
            return policy.rsample((k,))  # straight-through Gumbel-softmax
        return policy.sample((k,))


class _Bins:
    """A categorical over bins that normalises only what is asked for.

    Bins are the largest tensors of the update. ``probs`` and ``logits`` are those of
    ``torch.distributions.Categorical``, without its normalising pass before either.

    Args:
        raw: unnormalised logits (K, B, L, C, G, bins).
    """

    def __init__(self, raw: Tensor) -> None:
        self._raw = raw.movedim(3, 0)  # as critics compute them: C first is contiguous

    @property
    def logits(self) -> Tensor:
        """Log-probabilities (K, B, L, C, G, bins)."""
        return torch.log_softmax(self._raw, dim=-1).movedim(0, 3)

    @property
    def probs(self) -> Tensor:
        """Probabilities (K, B, L, C, G, bins)."""
        return torch.softmax(self._raw, dim=-1).movedim(0, 3)

    def detached(self) -> _Bins:
        """The same without a gradient."""
        return _Bins(self._raw.detach().movedim(0, 3))
