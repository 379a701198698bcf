"""Embeddings of goal sequences, for encoders whose observations hold goals.

Goals come as (B, L, goal_length, goal_dim): at every timestep, a short list of goals of fixed size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from amago.errors import ConfigurationError
from amago.nets import ff


class GoalEmbedder(nn.Module, ABC):
    """(B, L, goal_length, goal_dim) -> (B, L, goal_emb_dim).

    Args:
        goal_length: goals per timestep.
        goal_dim: numbers per goal.
        goal_emb_dim: output width.
        zero_embedding: put out zeros, to hide the goal from the agent.
    """

    def __init__(
        self, goal_length: int, goal_dim: int, goal_emb_dim: int = 32, zero_embedding: bool = False
    ) -> None:
        super().__init__()
        self.goal_length, self.goal_dim = goal_length, goal_dim
        self.goal_emb_dim, self.zero_embedding = goal_emb_dim, zero_embedding

    @abstractmethod
    def embed(self, goals: Tensor) -> Tensor:
        """(N, goal_length, goal_dim) -> (N, goal_emb_dim)."""

    def forward(self, goals: Tensor) -> Tensor:
        """(..., goal_length, goal_dim) -> (..., goal_emb_dim); the leading dimensions are kept."""
        if self.zero_embedding:
            return goals.new_zeros((*goals.shape[:-2], self.goal_emb_dim), dtype=self._dtype)
        return self.embed(goals.flatten(0, -3)).unflatten(0, goals.shape[:-2])

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype


class FFGoalEmb(GoalEmbedder):
    """Goals of real numbers, through a perceptron with one hidden layer.

    Args:
        goal_length: goals per timestep.
        goal_dim: numbers per goal.
        goal_emb_dim: output width.
        zero_embedding: put out zeros.
    """

    def __init__(
        self, goal_length: int, goal_dim: int, goal_emb_dim: int = 32, zero_embedding: bool = False
    ) -> None:
        super().__init__(goal_length, goal_dim, goal_emb_dim, zero_embedding)
        self.base = ff.MLP(goal_length * goal_dim, d_hidden=64, n_layers=1, d_output=goal_emb_dim)

    def embed(self, goals: Tensor) -> Tensor:
        return self.base(goals.flatten(1).to(self._dtype))


class TokenGoalEmb(GoalEmbedder):
    """Goals of whole numbers, each number a token; a GRU reads them in order.

    Args:
        goal_length: goals per timestep.
        goal_dim: tokens per goal.
        min_token: least token; smaller ones count as it.
        max_token: greatest token; larger ones count as it.
        goal_emb_dim: output width.
        embedding_dim: width of a token's embedding.
        hidden_size: width of the GRU.
        zero_embedding: put out zeros.

    Raises:
        ConfigurationError: ``max_token`` < ``min_token``.
    """

    def __init__(
        self,
        goal_length: int,
        goal_dim: int,
        min_token: int = -128,
        max_token: int = 128,
        goal_emb_dim: int = 32,
        embedding_dim: int = 16,
        hidden_size: int = 64,
        zero_embedding: bool = False,
    ) -> None:
        super().__init__(goal_length, goal_dim, goal_emb_dim, zero_embedding)
        min_token, max_token = int(min_token), int(max_token)  # they may come from a space's bounds
        if max_token < min_token:
            raise ConfigurationError(
                f"TokenGoalEmb needs min_token <= max_token, not {min_token}, {max_token}"
            )
        self.min_token, self.max_token = min_token, max_token
        self.token_emb = nn.Embedding(max_token - min_token + 1, embedding_dim)
        self.rnn = nn.GRU(embedding_dim, hidden_size, batch_first=True)
        self.out = nn.Linear(hidden_size, goal_emb_dim)

    def embed(self, goals: Tensor) -> Tensor:
        tokens = goals.flatten(1).long().clamp(self.min_token, self.max_token) - self.min_token
        _, last = self.rnn(self.token_emb(tokens))
        return self.out(last[0])
