"""What the update asks of the critics: values of stored actions and of the policy's own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from amago.agent.base import BaseAgent
from amago.nets import actor_critic


def gives_all_values_at_once(critics: Any) -> bool:
    """Whether one pass of discrete critics, ``all_action_values``, gives what ``critic_network_forward`` does.

    Not where a subclass changed the second alone.
    """
    for cls in type(critics).__mro__:
        if "all_action_values" in vars(cls):
            return True
        if "critic_network_forward" in vars(cls):
            return False
    return False


class CriticValues(BaseAgent):
    """Values (B, L, C, G) of critics, and their loss: what `MultiTaskAgent` does differently from `Agent`.

    The attributes are those of `Agent`, whose constructor sets them.
    """

    gammas: Tensor
    actor: Any
    critics: Any
    popart: actor_critic.PopArtLayer
    online_coeff: float
    offline_coeff: float
    fake_filter: bool
    num_critics_td: int
    num_actions_for_value_in_actor_loss: int
    _all_values_at_once: bool

    def _critic_pass(
        self, state: Tensor, actions: Tensor, policy: Distribution
    ) -> tuple[Any, Tensor, Tensor | None]:
        """Everything that the update asks of the critics.

        Returns:
            What :meth:`_critic_loss` needs besides; the stored actions' values (B, L, C, G), with
            gradients to critics and state; and the policy's, with gradients to the policy alone
            (``None`` when nothing needs them).
        """
        weights = self.actor.policy_dist.action_from_buffer(actions)  # (B, L, A)
        if not self._all_values_at_once:
            stored = self.critics(state, self._for_all_gammas(weights))[0, ..., 0]
            return None, stored, self._on_policy_values(state, policy)
        values = self.critics.all_action_values(state)  # (B, L, C, G, A)
        stored = (values * weights[:, :, None, None]).sum(-1)
        return None, stored, self._weighted(values.detach(), policy)

    @property
    def _needs_on_policy_values(self) -> bool:
        """Whether a term of the loss looks at the policy's own actions."""
        return self.online_coeff > 0 or (self.offline_coeff > 0 and not self.fake_filter)

    def _on_policy_values(self, state: Tensor, policy: Distribution) -> Tensor | None:
        """Values (B, L, C, G) of the policy's own actions, with a gradient if the online term needs it."""
        if not self._needs_on_policy_values:
            return None
        k = self.num_actions_for_value_in_actor_loss
        with torch.set_grad_enabled(self.online_coeff > 0 and torch.is_grad_enabled()):
            return self._expected_values(self.critics, state.detach(), policy, k, frozen=True)

    def _expected_values(
        self, critics: Any, state: Tensor, policy: Distribution, k: int, frozen: bool = False
    ) -> Tensor:
        """Raw critic outputs (B, L, C, G), averaged over the policy's actions.

        Args:
            critics: the critics or their targets.
            state: (B, L, D).
            policy: batch shape (B, L, G) or (B, L, G, A).
            k: actions to sample where the average is not exact.
            frozen: no gradient to the critics' weights.
        """
        if self._all_values_at_once:
            return self._weighted(critics.all_action_values(state), policy)
        return critics(state, self._sample(policy, k), frozen=frozen)[..., 0].mean(0)

    def _critic_loss(self, prediction: Any, stored: Tensor, target: Tensor) -> Tensor:
        """Squared error (B, L, C, G, 1) on PopArt's scale."""
        normalized = self.popart.normalize_values(target).unsqueeze(2)
        return (self.popart(stored.unsqueeze(-1)) - normalized).square()

    def _as_returns(self, values: Tensor) -> Tensor:
        """Raw critic outputs (B, L, G) as (multiplied) returns."""
        return self.popart(values.unsqueeze(-1), normalized=False).squeeze(-1)

    def _as_objective(self, values: Tensor) -> Tensor:
        """Raw critic outputs (B, L, G) on the scale that the online term maximises."""
        return self.popart(values.unsqueeze(-1)).squeeze(-1)

    @staticmethod
    def _weighted(values: Tensor, policy: Any) -> Tensor:
        """Expectation (B, L, C, G) of values (B, L, C, G, A) under a discrete policy."""
        return (values * policy.probs.unsqueeze(2)).sum(-1)

    def _sample(self, policy: Any, k: int) -> Tensor:
        """K actions (K, B, L, G, A), with a gradient when gradients are on and there is one."""
        if self.discrete:  # the critics weigh their values by probabilities: no need to sample
            return policy.probs.unsqueeze(0)
        if not torch.is_grad_enabled() or self.online_coeff == 0:
            return policy.sample((k,))
        if self.multibinary:
            # Bits have no gradient of their own: straight-through, that of their probabilities.
            return policy.probs + (policy.sample((k,)) - policy.probs).detach()
        return policy.rsample((k,))

    def _for_all_gammas(self, actions: Tensor) -> Tensor:
        """Stored actions (B, L, A) as (1, B, L, G, A), without a copy."""
        return actions[None, :, :, None].expand(-1, -1, -1, len(self.gammas), -1)

    def _reduce_ensemble(self, values: Tensor) -> Tensor:
        """(B, L, C, G) -> (B, L, G): pessimistic with an online term, else the mean.

        The minimum is over ``num_critics_td`` members, drawn with replacement for every entry
        (after REDQ, arXiv 2101.05982).
        """
        if self.online_coeff == 0:
            return values.mean(2)
        b, length, c, g = values.shape
        if c == 1:
            return values[:, :, 0]
        members = torch.randint(c, (b, length, self.num_critics_td, g), device=values.device)
        return values.gather(2, members).amin(2)
