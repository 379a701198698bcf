"""Base of the vectorised environments: who is reset, from which generator, for which task.

A subclass holds its state in arrays with a leading dimension of ``num_envs`` and writes four
methods: draw one instance's episode, put many at their start, move all instances, observe all instances.
Everything random is drawn when an episode is drawn, so that moving is pure numpy: mostly one look-up
in a table of what follows from what, which costs a fraction of the arithmetic.
"""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from amago.envs.amago_env import AMAGO_ENV_LOG_PREFIX
from amago.errors import EnvironmentFailure

#: One step of all instances: rewards (N,), which episodes ended (N,) or None for none, their metrics.
Moved = tuple[np.ndarray, np.ndarray | None, Mapping[str, np.ndarray]]

_NEVER = np.iinfo(np.int64).max


@functools.cache
def metric_key(name: str) -> str:
    """The ``info`` key under which a metric called ``name`` is logged."""
    return f"{AMAGO_ENV_LOG_PREFIX} {name}"


def single_task_index(options: Mapping[str, Any] | None) -> int | None:
    """``options["task_index"]`` of a single environment: an int, an array of one, or absent."""
    index = (options or {}).get("task_index")
    return None if index is None else int(np.asarray(index).reshape(-1)[0])


class BatchedEnv(VectorEnv):
    """Many instances of one environment, moved together and reset one by one.

    Args:
        num_envs: number of instances N.
        observation_space: of one instance.
        action_space: of one instance.

    ``reset`` takes ``options["reset_mask"]`` ((N,) bool: whom to reset; default all) and
    ``options["task_index"]`` ((N,) int: which fixed task each one plays). An instance that ended
    must be reset before the next step.
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.DISABLED, "render_modes": []}  # noqa: RUF012
    takes_task_index: bool = True
    #: Whether episodes end because time is up (truncated) rather than in a terminal state.
    ends_by_time: bool = False

    def __init__(self, num_envs: int, observation_space: gym.Space, action_space: gym.Space) -> None:
        self.num_envs = num_envs
        self.single_observation_space = observation_space
        self.single_action_space = action_space
        self.observation_space = batch_space(observation_space, num_envs)
        self.action_space = batch_space(action_space, num_envs)
        self._generators: list[np.random.Generator | None] = [None] * num_envs
        self._ended = np.ones(num_envs, dtype=bool)
        self._waiting = True  # whether any instance has ended and was not reset
        self._shape = (num_envs, *(action_space.shape or ()))
        #: Steps since this object was made: what an instance's time is counted from.
        self._clock = 0
        self._deadline = np.full(num_envs, _NEVER)
        self._next_deadline = _NEVER

    # -- for subclasses ------------------------------------------------------------------------

    @abstractmethod
    def _draw(self, i: int, rng: np.random.Generator, task_index: int | None) -> None:
        """Draw everything random about a new episode of instance ``i`` from ``rng``."""

    def _begin(self, who: np.ndarray) -> None:
        """Put the instances ``who`` (K,), whose episodes were just drawn, at their start; nothing by default."""

    @abstractmethod
    def _move(self, actions: np.ndarray) -> Moved:
        """Apply ``actions`` (N, ...) to all instances; the second result says whose episode ended."""

    @abstractmethod
    def _observe(self) -> np.ndarray:
        """Current observations (N, ...), a new array; a function of the state only."""

    # -- time, for subclasses whose episodes have a longest length -------------------------------

    def _set_deadline(self, who: np.ndarray, steps: int) -> None:
        """The time of the instances ``who`` will be up in ``steps`` steps from now."""
        self._deadline[who] = self._clock + steps
        self._next_deadline = int(self._deadline.min())

    def _time_up(self) -> np.ndarray | None:
        """Whose time is up (N,), or None while nobody's is."""
        return self._deadline == self._clock if self._clock >= self._next_deadline else None

    # -- gymnasium's interface -----------------------------------------------------------------

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start new episodes.

        Args:
            seed: one for each instance (entries of instances that are not reset are ignored), or an
                int s meaning s, s + 1, ...; None continues each instance's generator.
            options: see the class.

        Returns:
            observations (N, ...): those that were not reset show their current observation; info.
        """
        options = options or {}
        n = self.num_envs
        mask = np.ones(n, dtype=bool) if options.get("reset_mask") is None else options["reset_mask"]
        mask = np.asarray(mask, dtype=bool)
        if mask.shape != (n,):
            raise EnvironmentFailure(f"reset_mask must have shape ({n},), got {mask.shape}")
        tasks = options.get("task_index")
        if tasks is not None:
            tasks = np.broadcast_to(np.asarray(tasks, dtype=np.int64), (n,))
        seeds = [seed + i for i in range(n)] if isinstance(seed, (int, np.integer)) else seed
        if seeds is not None and len(seeds) != n:
            raise EnvironmentFailure(f"reset got {len(seeds)} seeds for {n} instances")
        who = np.flatnonzero(mask)
        for i in who.tolist():
            own_seed = None if seeds is None else seeds[i]
            rng = self._generators[i]
            if rng is None or own_seed is not None:
                rng = self._generators[i] = np.random.default_rng(own_seed)
            self._draw(i, rng, None if tasks is None else int(tasks[i]))
        if len(who):
            self._begin(who)
        self._ended[mask] = False
        self._waiting = bool(self._ended.any())
        if self._waiting:
            waiting = np.flatnonzero(self._ended).tolist()
            if any(self._generators[i] is None for i in waiting):
                raise EnvironmentFailure(
                    f"instances {waiting} were never reset: the first reset must be of all"
                )
        return self._observe(), {}

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Move every instance.

        Args:
            actions: (N,) integers, or (N, A) floats.

        Returns:
            observations (N, ...), float32 rewards (N,), terminated (N,), truncated (N,), info. One of the two
            ends is always all False: which one says ``ends_by_time``.

        Raises:
            EnvironmentFailure: an instance has ended and was not reset.
        """
        if self._waiting:
            waiting = np.flatnonzero(self._ended).tolist()
            raise EnvironmentFailure(f"instances {waiting} have ended: reset them before the next step")
        self._clock += 1
        rewards, ended, metrics = self._move(np.asarray(actions).reshape(self._shape))
        info: dict[str, Any] = {}
        never = np.zeros(self.num_envs, dtype=bool)
        if ended is None:
            ended = np.zeros(self.num_envs, dtype=bool)
        elif np.count_nonzero(ended):
            self._ended = ended.copy()
            self._waiting = True
            reported = ended.copy()
            for name, values in metrics.items():
                key = metric_key(name)
                info[key] = values
                info["_" + key] = reported
        terminated, truncated = (never, ended) if self.ends_by_time else (ended, never)
        return self._observe(), rewards.astype(np.float32, copy=False), terminated, truncated, info
