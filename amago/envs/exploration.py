"""Exploration noise for training rollouts, for all actors at once.

An exploration object sees the actions that the policy chose for N actors and returns the
actions that are taken. It draws only from ``self.rng``, which the rollout places at a named
stream when a segment begins.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import gin
import numpy as np

from amago.errors import ConfigurationError
from amago.gin_names import explains_required
from amago.registry import Registry

_explorations: Registry[type[ExplorationWrapper]]


class ExplorationWrapper(ABC):
    """Adds noise to the policy's actions.

    Args:
        amago_env: the environment (or group of actors) that acts: read for ``action_space``,
            ``batched_envs``, ``discrete`` and ``multibinary``.

    Attributes:
        global_step: steps of one actor since training began; annealing schedules count this.
        rng: the generator that every draw must come from.
    """

    def __init__(self, amago_env: Any) -> None:
        self.env = amago_env
        self.batched_envs = int(amago_env.batched_envs)
        self.discrete = bool(amago_env.discrete)
        self.multibinary = bool(amago_env.multibinary)
        self.global_step = 0
        self.rng = np.random.default_rng(0)

    @abstractmethod
    def add_exploration_noise(self, action: np.ndarray, local_step: np.ndarray) -> np.ndarray:
        """The actions to take.

        Args:
            action: (N, 1) int64 when discrete, else (N, A).
            local_step: (N,) steps since each actor's last reset.

        Returns:
            Actions of the same shape.
        """

    def on_reset(self, mask: np.ndarray) -> None:
        """Called after the actors of ``mask`` (N,) bool were reset."""
        return None

    def __call__(self, action: np.ndarray, local_step: np.ndarray) -> np.ndarray:
        noisy = self.add_exploration_noise(action, local_step)
        self.global_step += 1
        return noisy

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must keep (JSON values). A segment's start redraws the rest."""
        return {"global_step": self.global_step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.global_step = int(state["global_step"])


class NoExploration(ExplorationWrapper):
    """Takes the policy's actions as they are (validation and tests)."""

    def add_exploration_noise(self, action: np.ndarray, local_step: np.ndarray) -> np.ndarray:
        return action


_explorations = Registry("exploration strategy")


def register_exploration(name: str) -> Any:
    """Class decorator: make an exploration strategy known to ``switch_exploration`` by ``name``."""
    return _explorations.register(name)


def get_exploration_cls(name: str) -> type[ExplorationWrapper]:
    """The strategy registered as ``name``; an unknown name is an error with the nearest ones."""
    return _explorations.get(name)


def list_registered_explorations() -> list[str]:
    """Names of all registered strategies, sorted."""
    return _explorations.names()


class _EpsilonNoise(ExplorationWrapper):
    """Noise of a strength epsilon that a subclass schedules, times a multiplier per actor."""

    def __init__(self, amago_env: Any, randomize_eps: bool) -> None:
        super().__init__(amago_env)
        self.randomize_eps = randomize_eps
        self.multiplier = np.ones(self.batched_envs)
        self._one_by_one = False

    def on_reset(self, mask: np.ndarray) -> None:
        if self.randomize_eps:
            self.multiplier[mask] = self.rng.random(int(mask.sum()))

    @abstractmethod
    def current_eps(self, local_step: np.ndarray) -> np.ndarray:
        """Epsilon for each actor, (N,), before its random multiplier.

        Args:
            local_step: (N,). One actor's alone, (1,), where an override is written for one: with
                ``if local_step > 10:``, which no array of several can answer.
        """

    def _eps_of_all(self, local_step: np.ndarray) -> np.ndarray:
        if not self._one_by_one:
            try:
                return self.current_eps(local_step)
            except ValueError as error:
                if len(local_step) == 1 or "truth value" not in str(error):
                    raise
                self._one_by_one = True
        return np.concatenate([np.broadcast_to(self.current_eps(one), 1) for one in local_step[:, None]])

    def add_exploration_noise(self, action: np.ndarray, local_step: np.ndarray) -> np.ndarray:
        eps = self.multiplier * self._eps_of_all(local_step)
        if self.discrete:
            random_action = self.rng.integers(0, self.env.action_space.n, size=action.shape)
            use_random = self.rng.random(len(action)) < eps
            return np.where(use_random[:, None], random_action, action)
        if self.multibinary:
            random_action = self.rng.integers(0, 2, size=action.shape)
            use_random = self.rng.random(len(action)) < eps
            return np.where(use_random[:, None], random_action, action)
        noisy = action + eps[:, None] * self.rng.standard_normal(action.shape)
        return np.clip(noisy, -1.0, 1.0).astype(np.float32)


@gin.configurable
@register_exploration("egreedy")
class EpsilonGreedy(_EpsilonNoise):
    """Epsilon-greedy (discrete) or Gaussian (continuous) noise with linear annealing.

    Epsilon falls from ``eps_start`` to ``eps_end`` over ``steps_anneal`` steps of one actor.

    Args:
        amago_env: see :class:`ExplorationWrapper`.
        eps_start: epsilon at the first step of training.
        eps_end: epsilon once annealed.
        steps_anneal: steps of one actor over which it falls.
        randomize_eps: multiply by U[0, 1), drawn anew for an actor at each of its resets.
    """

    def __init__(
        self,
        amago_env: Any,
        eps_start: float = 1.0,
        eps_end: float = 0.05,
        steps_anneal: int = 1_000_000,
        randomize_eps: bool = True,
    ) -> None:
        super().__init__(amago_env, randomize_eps)
        _check_anneal("EpsilonGreedy", steps_anneal)
        self.eps_start, self.eps_end, self.steps_anneal = eps_start, eps_end, steps_anneal

    def current_eps(self, local_step: np.ndarray) -> np.ndarray:
        done = min(self.global_step / self.steps_anneal, 1.0)
        eps = self.eps_start + (self.eps_end - self.eps_start) * done
        return np.full(np.shape(local_step), eps)


@explains_required
@gin.configurable
@register_exploration("bilevel")
class BilevelEpsilonGreedy(_EpsilonNoise):
    """Epsilon that anneals over training and also changes within a rollout.

    At any moment of training, epsilon goes linearly from a start-of-rollout value to an
    end-of-rollout value; both anneal over training (AMAGO, arXiv 2310.09971, appendix).

    Args:
        amago_env: see :class:`ExplorationWrapper`.
        rollout_horizon: steps over which epsilon changes within a rollout.
        eps_start_start: start of rollout, start of training.
        eps_start_end: start of rollout, end of training.
        eps_end_start: end of rollout, start of training.
        eps_end_end: end of rollout, end of training.
        steps_anneal: steps of one actor over which both values anneal.
        randomize_eps: multiply by U[0, 1), drawn anew for an actor at each of its resets.
    """

    def __init__(
        self,
        amago_env: Any,
        rollout_horizon: int = gin.REQUIRED,
        eps_start_start: float = 1.0,
        eps_start_end: float = 0.05,
        eps_end_start: float = 0.8,
        eps_end_end: float = 0.01,
        steps_anneal: int = 1_000_000,
        randomize_eps: bool = True,
    ) -> None:
        super().__init__(amago_env, randomize_eps)
        _check_anneal("BilevelEpsilonGreedy", steps_anneal)
        if rollout_horizon <= 0:
            raise ConfigurationError(
                f"BilevelEpsilonGreedy.rollout_horizon must be positive, got {rollout_horizon}"
            )
        self.rollout_horizon = rollout_horizon
        self.steps_anneal = steps_anneal
        self.start = (eps_start_start, eps_start_end)
        self.end = (eps_end_start, eps_end_end)

    def current_eps(self, local_step: np.ndarray) -> np.ndarray:
        done = min(self.global_step / self.steps_anneal, 1.0)
        start = self.start[0] + (self.start[1] - self.start[0]) * done
        end = self.end[0] + (self.end[1] - self.end[0]) * done
        within = np.minimum(local_step / self.rollout_horizon, 1.0)
        return start + (end - start) * within


def _check_anneal(name: str, steps_anneal: int) -> None:
    if steps_anneal <= 0:
        raise ConfigurationError(f"{name}.steps_anneal must be positive, got {steps_anneal}")
