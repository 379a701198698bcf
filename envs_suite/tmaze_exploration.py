"""Exploration for the T-Maze: noise where there is something to find out, hardly any between.

The corridor asks for H times the same action, which makes plain epsilon-greedy a test of luck: one
random action in H spoils an episode. The maze is meant to test memory, so exploration is kept to its
ends (AMAGO, arXiv 2310.09971; the difficulty was reported by users of Ni et al.'s code).
"""

from __future__ import annotations

from typing import Any

import gin
import numpy as np

from amago.envs.exploration import EpsilonGreedy, register_exploration
from amago.errors import ConfigurationError


@gin.configurable
@register_exploration("tmaze")
class TMazeExploration(EpsilonGreedy):
    """Epsilon-greedy in the first steps and the last, ``0.5 / horizon`` in the corridor between.

    Args:
        amago_env: see :class:`~amago.envs.exploration.ExplorationWrapper`.
        start_window: full epsilon while ``local_step <= start_window``.
        end_window: full epsilon once ``local_step >= horizon - end_window``.
        horizon: the corridor's length H; None takes it from the environment.
        eps_start: full epsilon at the first step of training.
        eps_end: full epsilon once annealed.
        steps_anneal: steps of one actor over which it falls.
        randomize_eps: multiply either epsilon by U[0, 1), drawn anew for an actor at each reset.

    Raises:
        ConfigurationError: the horizon is neither given nor known to the environment.
    """

    def __init__(
        self,
        amago_env: Any,
        start_window: int = 0,
        end_window: int = 3,
        horizon: int | None = None,
        eps_start: float = 1.0,
        eps_end: float = 0.01,
        steps_anneal: int = 100_000,
        randomize_eps: bool = True,
    ) -> None:
        super().__init__(amago_env, eps_start, eps_end, steps_anneal, randomize_eps)
        self.start_window, self.end_window = start_window, end_window
        if horizon is None:
            horizon = _corridor_of(amago_env)
        if horizon is None or horizon < 1:
            raise ConfigurationError(
                f"TMazeExploration.horizon is {horizon} and no corridor is found in the environment; "
                "set TMazeExploration.horizon = <corridor length>"
            )
        self.horizon = horizon

    def current_eps(self, local_step: np.ndarray) -> np.ndarray:
        """Epsilon for each actor (N,), before its random multiplier; ``local_step`` is (N,)."""
        between = (local_step > self.start_window) & (local_step < self.horizon - self.end_window)
        return np.where(between, 0.5 / self.horizon, super().current_eps(local_step))


def _corridor_of(env: Any) -> int | None:
    """The corridor's length of the maze inside ``env``, which may be a group of actors."""
    for _ in range(10):  # deeper nesting than this is a cycle
        corridor = getattr(env, "corridor", None)
        if corridor is not None:
            return int(corridor)
        inner = getattr(env, "envs", None)
        env = inner[0] if isinstance(inner, list) and inner else getattr(env, "env", None)
        if env is None:
            return None
    return None
