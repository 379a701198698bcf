"""What every agent offers to the training loop and to rollouts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn

from amago.loading import Batch
from amago.parallel import mean_over_processes


class BaseAgent(nn.Module, ABC):
    """A policy that acts on sequences and can compute its own training loss.

    Args:
        obs_space: observations, a ``Dict`` of boxes.
        rl2_space: previous reward and action, a ``Box`` of shape (1 + A,).
        action_space: ``Discrete``, ``MultiBinary``, or a ``Box`` over [-1, 1].
        max_seq_len: longest sequence in a batch, and the memory of rollouts, in timesteps.

    Attributes:
        update_info: metrics of the last :meth:`forward`: detached 0-d tensors by name.
        discrete: whether the action space is ``Discrete``.
        multibinary: whether it is ``MultiBinary``.
        action_dim: length of one action vector (one-hot when discrete).
    """

    def __init__(
        self, obs_space: gym.spaces.Dict, rl2_space: gym.spaces.Box, action_space: gym.Space, max_seq_len: int
    ) -> None:
        super().__init__()
        self.obs_space = obs_space
        self.rl2_space = rl2_space
        self.action_space = action_space
        self.max_seq_len = max_seq_len
        self.discrete = isinstance(action_space, gym.spaces.Discrete)
        self.multibinary = isinstance(action_space, gym.spaces.MultiBinary)
        self.action_dim = gym.spaces.flatdim(action_space)
        self.update_info: dict[str, Tensor] = {}

    @property
    @abstractmethod
    def trainable_params(self) -> list[nn.Parameter]:
        """Parameters that the optimiser changes and the gradient clip measures."""

    @abstractmethod
    def forward(self, batch: Batch, log_step: bool) -> Tensor:
        """The training loss, a scalar.

        Args:
            batch: sequences of L transitions.
            log_step: whether metrics are wanted in ``update_info``.
        """

    @abstractmethod
    def get_actions(
        self,
        obs: dict[str, Tensor],
        rl2s: Tensor,
        time_idxs: Tensor,
        hidden_state: Any = None,
        sample: bool = True,
    ) -> tuple[Tensor, Any]:
        """Actions for a rollout.

        Args:
            obs: each (B, L, ...).
            rl2s: (B, L, 1 + A) float32.
            time_idxs: (B, L, 1) int64, timesteps since each actor's reset.
            hidden_state: of the trajectory encoder; ``None`` when the whole history is given.
            sample: draw from the policy, or take its most likely (discrete) or mean action.

        Returns:
            Actions: (B, L, 1) int64 when discrete, (B, L, A) int8 when multibinary, else
            (B, L, A) float32; and the next hidden state.
        """

    def init_extra_networks(self) -> None:
        """Build more networks; called when the agent's own exist, before targets are copied."""
        return None

    def on_checkpoint_loaded(self, is_resume: bool = False) -> None:
        """Called after weights were loaded from a checkpoint.

        Args:
            is_resume: the same run goes on; otherwise the weights begin another run.
        """
        return None

    def soft_sync_targets(self) -> None:
        """Move target networks towards the learned ones; called after every optimiser step."""
        return None

    def hard_sync_targets(self) -> None:
        """Make target networks equal to the learned ones."""
        return None

    def edit_actor_mask(self, batch: Batch, actor_loss: Tensor, pad_mask: Tensor) -> Tensor:
        """Which entries of the actor loss count; by default all that are not padding.

        Args:
            batch: the batch.
            actor_loss: (B, L, G, 1).
            pad_mask: (B, L, G, 1) bool, true where real. A view: do not change it in place.

        Returns:
            A mask of the same shape (or one that broadcasts to it): bool, or numbers that weigh the entries.
        """
        return pad_mask

    def edit_critic_mask(self, batch: Batch, critic_loss: Tensor, pad_mask: Tensor) -> Tensor:
        """Which entries of the critic loss (B, L, C, G, 1) count; as :meth:`edit_actor_mask`."""
        return pad_mask


def masked_mean(loss: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``loss`` over the entries that ``mask`` (broadcastable) keeps; 0 if it keeps none.

    Args:
        loss: any shape.
        mask: bool, or numbers that are not negative: weights.
    """
    weights, least = mask, 1.0
    if mask.dtype != torch.bool:
        mask, loss, least = mask != 0, loss * mask, torch.finfo(loss.dtype).tiny
    # where, not a product: what lies in padding may be huge.
    kept = torch.where(mask, loss, 0.0).sum()
    # The processes' gradients are averaged, so each divides by the mean of their counts.
    return kept / mean_over_processes(weights.sum() * (loss.numel() / mask.numel())).clamp(min=least)
