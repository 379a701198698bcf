"""HalfCheetah with a hidden target velocity (Finn et al. 2017; rewards of VariBAD and AMAGO).

gymnasium's HalfCheetah (17 observations, 6 torques in [-1, 1], 0.05 s a step) runs for 1,000 steps; each
episode has a target velocity from [0, 3) m/s that is never shown. The reward of a step is
``-|velocity - target| - 0.05 * sum of squared torques``; rewards are the only hint at the task.

* **Metrics**: ``velocity_error`` is the distance (m/s) of the target from the mean velocity of the last 50
  steps, ``mean_velocity`` that of the whole episode, ``target_velocity`` the task.
* **Ends**: truncated after ``steps``; nothing terminates.

Targets are split by their cells of 0.01 m/s: a cell belongs to training or to evaluation. Evaluation task i
has a fixed target and start; any run of consecutive i covers the range evenly.

Differences from AMAGO's ``HalfCheetahV4_MetaVelocity``: the simulation is gymnasium's v5 (the same model and
step, tested against v4), targets and starts come from the reset's generator, observations are float32, and
evaluation tasks are kept apart.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from amago.errors import ConfigurationError
from envs_suite.optional import need
from envs_suite.tasks import draw_until, eval_generator, is_eval_task
from envs_suite.vector import BatchedEnv, Moved, metric_key, single_task_index

OBSERVATION_SIZE, ACTION_SIZE = 17, 6
#: Steps at the end of an episode over which the velocity error is taken.
LAST_STEPS = 50
#: Cells of target velocity, in m/s, that belong to one split each.
_CELL = 0.01
_GOLDEN = 0.618033988749895


def is_eval_velocity(velocity: float) -> bool:
    """Whether a target belongs to the evaluation split."""
    return _is_eval_cell(int(np.floor(velocity / _CELL)))


@functools.cache
def _is_eval_cell(cell: int) -> bool:
    return is_eval_task(b"half-cheetah-velocity", str(cell).encode())


@functools.cache
def _eval_cells(first: int, last: int) -> tuple[int, ...]:
    return tuple(cell for cell in range(first, last) if _is_eval_cell(cell))


def check_range(low: float, high: float) -> None:
    """See that both splits have targets in [low, high).

    Raises:
        ConfigurationError: one has none.
    """
    cells = range(int(np.floor(low / _CELL)), int(np.ceil(high / _CELL)))
    trained = any(not _is_eval_cell(cell) for cell in cells)
    if not trained or not _eval_whole_cells(low, high):
        raise ConfigurationError(
            f"HalfCheetahVelocity: no target velocity from {low:g} to {high:g} m/s belongs to "
            f"{'evaluation' if trained else 'training'} (one in five cells of {_CELL} m/s is evaluation's); widen the range"
        )


def _eval_whole_cells(low: float, high: float) -> tuple[int, ...]:
    """The cells of evaluation that lie within [low, high) as a whole."""
    return _eval_cells(int(np.ceil(low / _CELL)), int(np.floor(high / _CELL)))


def draw_velocity(
    rng: np.random.Generator, low: float, high: float, split: str, task_index: int | None
) -> float:
    """A target in [low, high) of a split; evaluation task ``task_index`` when given."""
    if task_index is None:
        wanted = split == "eval"
        return draw_until(
            lambda: float(rng.uniform(low, high)), lambda v: is_eval_velocity(v) == wanted, "target velocity"
        )
    cells = _eval_whole_cells(low, high)
    if not cells:
        check_range(low, high)  # raises, and says why
    # Multiples of the golden ratio spread evenly over the cells, however many tasks there are.
    cell = cells[int((task_index * _GOLDEN) % 1.0 * len(cells))]
    return (cell + rng.uniform(0.05, 0.95)) * _CELL


class _Cheetah:
    """One simulated cheetah with a target; what both forms share.

    Args: see :class:`HalfCheetahV4_MetaVelocity`.
    """

    def __init__(
        self,
        ctrl_cost_weight: float,
        velocity_reward_weight: float,
        low: float,
        high: float,
        steps: int,
        split: str,
    ) -> None:
        if not 0.0 <= low < high:
            raise ConfigurationError(
                f"HalfCheetahVelocity: target velocities must satisfy 0 <= minimum < maximum, got {low} and {high}"
            )
        if steps < 1:
            raise ConfigurationError(f"HalfCheetahVelocity.steps must be at least 1, got {steps}")
        check_range(low, high)
        need("mujoco", "half-cheetah-velocity")
        from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv

        self.env = HalfCheetahEnv()
        self.costs = ctrl_cost_weight, velocity_reward_weight
        self.range = low, high
        self.target = low
        self.steps, self.split = steps, split
        self.velocities = np.zeros(steps)

    def begin(
        self,
        rng: np.random.Generator,
        task_index: int | None,
        sample: Callable[[], float] | None = None,
    ) -> np.ndarray:
        """Start an episode, its target from ``sample`` where that is given; returns the observation (17,)."""
        if task_index is not None:
            rng = eval_generator(task_index, 1000)
        if task_index is None and sample is not None:
            self.target = float(sample())
        else:
            self.target = draw_velocity(rng, *self.range, self.split, task_index)
        self.t = 0
        self.env.np_random = rng
        obs, _ = self.env.reset()
        return obs.astype(np.float32)

    def move(self, action: np.ndarray) -> tuple[np.ndarray, float, bool]:
        """One step with torques (6,): observation, reward, whether time is up."""
        control, forward = self.costs
        action = np.asarray(action, dtype=np.float64)
        obs, _, _, _, info = self.env.step(action)
        velocity = float(info["x_velocity"])
        self.velocities[self.t] = velocity
        self.t += 1
        reward = -forward * abs(velocity - self.target) - control * float(np.square(action).sum())
        return obs.astype(np.float32), reward, self.t >= self.steps

    def metrics(self) -> dict[str, float]:
        """Metrics of the episode so far."""
        ran = self.velocities[: self.t]
        return {
            "velocity_error": float(abs(self.target - ran[-LAST_STEPS:].mean())) if self.t else 0.0,
            "mean_velocity": float(ran.mean()) if self.t else 0.0,
            "target_velocity": self.target,
        }


def _spaces() -> tuple[spaces.Box, spaces.Box]:
    return (
        spaces.Box(-np.inf, np.inf, (OBSERVATION_SIZE,), dtype=np.float32),
        spaces.Box(-1.0, 1.0, (ACTION_SIZE,), dtype=np.float32),
    )


class HalfCheetahV4_MetaVelocity(gym.Env):
    """One cheetah with a hidden target velocity; see the module's docstring.

    Args:
        ctrl_cost_weight: cost of a squared torque.
        velocity_reward_weight: cost of a m/s off the target.
        task_min_velocity, task_max_velocity: range of targets, m/s.
        steps: length of an episode.
        split: "train" or "eval": which targets are used.

    Raises:
        ConfigurationError: a range without targets, no step, or mujoco is not installed.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]
    takes_task_index = True

    def __init__(
        self,
        ctrl_cost_weight: float = 0.05,
        velocity_reward_weight: float = 1.0,
        task_min_velocity: float = 0.0,
        task_max_velocity: float = 3.0,
        steps: int = 1000,
        split: str = "train",
    ) -> None:
        self.cheetah = _Cheetah(
            ctrl_cost_weight, velocity_reward_weight, task_min_velocity, task_max_velocity, steps, split
        )
        self.observation_space, self.action_space = _spaces()
        self.task_min_velocity, self.task_max_velocity = task_min_velocity, task_max_velocity
        self.split = split

    @property
    def target_velocity(self) -> float:
        """Of the present episode, m/s; the least one before the first."""
        return self.cheetah.target

    def sample_target_velocity(self) -> float:
        """The next episode's target, m/s, where no fixed task is asked for; override it for tasks of your own.

        Draw from ``self.np_random``, which a reset seeds.
        """
        return draw_velocity(self.np_random, self.task_min_velocity, self.task_max_velocity, self.split, None)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        task_index = single_task_index(options)
        return self.cheetah.begin(self.np_random, task_index, self.sample_target_velocity), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        obs, reward, over = self.cheetah.move(action)
        info = {metric_key(k): v for k, v in self.cheetah.metrics().items()} if over else {}
        return obs, reward, False, over, info

    def close(self) -> None:
        self.cheetah.env.close()


class HalfCheetahVelocityVector(BatchedEnv):
    """N cheetahs with the dynamics of :class:`HalfCheetahV4_MetaVelocity`, simulated one after the other.

    Args:
        num_envs: N.
        ctrl_cost_weight, velocity_reward_weight, task_min_velocity, task_max_velocity, steps, split: see
            :class:`HalfCheetahV4_MetaVelocity`.
    """

    ends_by_time = True

    def __init__(
        self,
        num_envs: int,
        ctrl_cost_weight: float = 0.05,
        velocity_reward_weight: float = 1.0,
        task_min_velocity: float = 0.0,
        task_max_velocity: float = 3.0,
        steps: int = 1000,
        split: str = "train",
    ) -> None:
        self.cheetahs = [
            _Cheetah(
                ctrl_cost_weight, velocity_reward_weight, task_min_velocity, task_max_velocity, steps, split
            )
            for _ in range(num_envs)
        ]
        for cheetah in self.cheetahs[1:]:
            # One description of the body for all: 256 of them do not fit a processor's cache.
            cheetah.env.model = self.cheetahs[0].env.model
        super().__init__(num_envs, *_spaces())
        self._seen = np.zeros((num_envs, OBSERVATION_SIZE), dtype=np.float32)

    def _draw(self, i: int, rng: np.random.Generator, task_index: int | None) -> None:
        self._seen[i] = self.cheetahs[i].begin(rng, task_index)

    def _move(self, actions: np.ndarray) -> Moved:
        rewards, over = np.zeros(self.num_envs), np.zeros(self.num_envs, dtype=bool)
        for i, cheetah in enumerate(self.cheetahs):
            self._seen[i], rewards[i], over[i] = cheetah.move(actions[i])
        if not over.any():
            return rewards, over, {}
        every = [cheetah.metrics() for cheetah in self.cheetahs]
        return rewards, over, {name: np.array([m[name] for m in every]) for name in every[0]}

    def _observe(self) -> np.ndarray:
        return self._seen.copy()

    def close_extras(self, **kwargs: Any) -> None:
        for cheetah in self.cheetahs:
            cheetah.env.close()
