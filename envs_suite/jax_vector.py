"""Base of the environments that are compiled by jax: all instances move in one call, resets are masked.

Each episode has a key, drawn from the generator that its reset was seeded with; whatever jax draws later in
that episode comes from this key and the step's number alone, so that an instance plays the same episode
whoever plays beside it.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from typing import Any

import gymnasium as gym
import numpy as np

from envs_suite.vector import BatchedEnv, Moved

# Torch has the accelerator; jax would take most of its memory as soon as it is imported.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

_COMPILED: dict[tuple[Any, ...], tuple[Any, Any, Any]] = {}


def _compile(start: Any, advance: Any) -> tuple[Any, Any, Any]:
    """Start all instances, start some of them, move all; of functions of one instance."""
    import jax

    def start_all(keys: Any, task: Any) -> Any:
        return jax.vmap(lambda key, one: start(jax.random.fold_in(key, 0), one))(keys, task)

    def start_some(keys: Any, task: Any, new: Any, old: Any) -> Any:
        def choose(fresh: Any, kept: Any) -> Any:
            return jax.numpy.where(new.reshape(new.shape + (1,) * (fresh.ndim - 1)), fresh, kept)

        return jax.tree.map(choose, start_all(keys, task), old)

    def advance_all(keys: Any, times: Any, task: Any, state: Any, actions: Any) -> Any:
        def one(key: Any, time: Any, own: Any, before: Any, action: Any) -> Any:
            return advance(jax.random.fold_in(key, time), own, before, action)

        return jax.vmap(one)(keys, times, task, state, actions)

    return jax.jit(start_all), jax.jit(start_some), jax.jit(advance_all)


class JaxVector(BatchedEnv):
    """N instances whose dynamics are two functions of jax.

    A subclass writes `start` and `advance`, of one instance and without a batch axis, and may draw a task:
    arrays that both functions are given.

    Args:
        num_envs: N.
        observation_space: of one instance, float32.
        action_space: of one instance.
        task: arrays (N, ...) that `_draw` fills; empty where episodes differ by their key alone.
    """

    def __init__(
        self,
        num_envs: int,
        observation_space: gym.Space,
        action_space: gym.Space,
        task: tuple[np.ndarray, ...] = (),
    ) -> None:
        super().__init__(num_envs, observation_space, action_space)
        self._task = task
        self._keys = np.zeros((num_envs, 2), dtype=np.uint32)
        self._times = np.zeros(num_envs, dtype=np.uint32)
        self._state: Any = None
        self._observation: Any = None
        self._timed_out = np.zeros(num_envs, dtype=bool)

        self._start_all, self._start_some, self._advance_all = self._compiled()

    @abstractmethod
    def same_as(self) -> tuple[Any, ...]:
        """What the dynamics depend on: environments that are alike in it are compiled once."""

    def _compiled(self) -> tuple[Any, Any, Any]:
        key = (type(self).__name__, *self.same_as())
        if key not in _COMPILED:
            _COMPILED[key] = _compile(self.start, self.advance)
        return _COMPILED[key]

    @abstractmethod
    def start(self, key: Any, task: Any) -> tuple[Any, Any]:
        """Observation and state of a new episode."""

    @abstractmethod
    def advance(self, key: Any, task: Any, state: Any, action: Any) -> tuple[Any, Any, Any, Any, Any, Any]:
        """Observation, state, reward, terminated, truncated, and arrays for `metrics`."""

    def metrics(self, extras: Any) -> dict[str, np.ndarray]:
        """Metrics of ended episodes, name -> (N,)."""
        return {}

    def _draw(self, i: int, rng: np.random.Generator, task_index: int | None) -> None:
        self._keys[i] = rng.integers(2**32, size=2, dtype=np.uint32)
        self._times[i] = 0

    def _begin(self, who: np.ndarray) -> None:
        if self._state is None:
            self._observation, self._state = self._start_all(self._keys, self._task)
            return
        new = np.zeros(self.num_envs, dtype=bool)
        new[who] = True
        old = (self._observation, self._state)
        self._observation, self._state = self._start_some(self._keys, self._task, new, old)

    def _observe(self) -> np.ndarray:
        return np.array(self._observation, dtype=np.float32)

    def _move(self, actions: np.ndarray) -> Moved:
        self._times += 1
        self._observation, self._state, rewards, terminated, truncated, extras = self._advance_all(
            self._keys, self._times, self._task, self._state, self._actions(actions)
        )
        terminated, truncated = np.asarray(terminated, dtype=bool), np.asarray(truncated, dtype=bool)
        self._timed_out = truncated & ~terminated
        ended = terminated | truncated
        return np.asarray(rewards), ended, self.metrics(extras) if ended.any() else {}

    def _actions(self, actions: np.ndarray) -> np.ndarray:
        """Actions as `advance` takes them, one dtype for ever: another would be compiled for again."""
        kind = np.int32 if isinstance(self.single_action_space, gym.spaces.Discrete) else np.float32
        return actions.astype(kind)

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """As the base's; here some instances may terminate while others run out of time."""
        obs, rewards, ended, _, info = super().step(actions)
        return obs, rewards, ended & ~self._timed_out, ended & self._timed_out, info
