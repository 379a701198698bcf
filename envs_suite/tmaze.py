"""Passive and active T-Maze (Ni et al. 2023, arXiv 2307.03864), in AMAGO's "Alt" form.

A corridor of length H ends in a junction; the goal is one cell above or below it, and only the
oracle says which. Positions are x along the corridor and y in {-1, 0, 1}, which is 0 except in the
junction's column:

    oracle ... start ------------------- junction (y = 0), goals at y = +1 and y = -1

* **Actions** (as in the original): 0 right, 1 up, 2 left, 3 down. A move off the map does nothing.
* **Observation** float32 (2,): ``[0, goal side]`` at the oracle on the first visit, ``[0, 0]`` there
  later and everywhere in the corridor, ``[1, y]`` in the junction's column (ambiguous position).
* **Reward**: at the last step 1 if y is the goal's side, else 0. Before it, ``penalty`` for every action
  other than "right" (after step 1 in the active form: it has to go left to the oracle first).
* **Episode**: H + 1 steps in the passive form, which starts on the oracle; H + 3 in the active form,
  which starts one step to its right.

Differences from Ni et al.: they penalise being further left than a perfect agent would be, AMAGO and
this file penalise the action (the "Alt" reward; the optimum is the same). Differences from AMAGO: the
end is reported as terminated only, not also as truncated (bootstrapping stops either way), the unused
``distract_reward`` is gone, and in evaluation the task index decides the side, so that it is balanced.
"""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from amago.errors import ConfigurationError
from envs_suite.vector import BatchedEnv, Moved, metric_key, single_task_index

RIGHT, UP, LEFT, DOWN = range(4)
_DX = np.array([1, 0, -1, 0])
_DY = np.array([0, 1, 0, -1])


def _observation_space() -> spaces.Box:
    return spaces.Box(-1.0, 1.0, (2,), dtype=np.float32)


def _check(corridor_length: int, penalty: float) -> None:
    if corridor_length < 1:
        raise ConfigurationError(f"corridor_length must be at least 1, got {corridor_length}")
    if penalty > 0:
        raise ConfigurationError(f"penalty is a reward and must not be positive, got {penalty}")


def draw_goal(rng: np.random.Generator, task_index: int | None) -> int:
    """The goal's side, +1 or -1. One draw is made in any case, so later draws never shift."""
    drawn = int(rng.integers(2))
    bit = drawn if task_index is None else task_index % 2
    return 1 if bit == 0 else -1


class _TMazeAlt(gym.Env):
    """One T-Maze; see the module's docstring.

    Args:
        corridor_length: H, cells from start to junction.
        goal_reward: reward at the last step on the goal's side.
        penalty: reward (<= 0) for an action other than "right" before the last step.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]
    takes_task_index = True
    oracle_length = 0  # steps from the start, to the left, to the oracle

    def __init__(self, corridor_length: int = 10, goal_reward: float = 1.0, penalty: float = 0.0) -> None:
        _check(corridor_length, penalty)
        self.corridor = corridor_length
        self.goal_reward = goal_reward
        self.penalty = penalty
        self.episode_length = corridor_length + 2 * self.oracle_length + 1
        self.junction = self.oracle_length + corridor_length
        self.observation_space = _observation_space()
        self.action_space = spaces.Discrete(4)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.goal = draw_goal(self.np_random, single_task_index(options))
        self.x, self.y, self.t = self.oracle_length, 0, 0
        self.shown = self.goal if self.x == 0 else 0
        self.visited = self.x == 0
        return self._observation(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.t += 1
        if action in (RIGHT, LEFT):
            if self.y == 0:
                self.x = min(max(self.x + (1 if action == RIGHT else -1), 0), self.junction)
        elif self.x == self.junction:
            self.y = min(max(self.y + (1 if action == UP else -1), -1), 1)
        self.shown = self.goal if self.x == 0 and not self.visited else 0
        self.visited = self.visited or self.x == 0
        if self.t >= self.episode_length:
            success = self.y == self.goal
            return (
                self._observation(),
                success * self.goal_reward,
                True,
                False,
                {metric_key("success"): float(success)},
            )
        wrong = action != RIGHT and self.t > self.oracle_length
        return self._observation(), self.penalty if wrong else 0.0, False, False, {}

    def _observation(self) -> np.ndarray:
        at_junction = self.x == self.junction
        return np.array([at_junction, self.y if at_junction else self.shown], dtype=np.float32)


class TMazeAltPassive(_TMazeAlt):
    """T-Maze that tests recall: the goal's side is shown in the first observation only."""


class TMazeAltActive(_TMazeAlt):
    """T-Maze that tests recall and credit assignment: the oracle is one step to the left."""

    oracle_length = 1


class TMazeVector(BatchedEnv):
    """N T-Mazes; the dynamics of :class:`TMazeAltPassive` or, with ``active``, :class:`TMazeAltActive`.

    Args:
        num_envs: N.
        corridor_length, goal_reward, penalty: see :class:`TMazeAltPassive`.
        active: start one step to the right of the oracle.
    """

    def __init__(
        self,
        num_envs: int,
        corridor_length: int = 10,
        goal_reward: float = 1.0,
        penalty: float = 0.0,
        active: bool = False,
    ) -> None:
        _check(corridor_length, penalty)
        super().__init__(num_envs, _observation_space(), spaces.Discrete(4))
        self.corridor = corridor_length
        self.goal_reward, self.penalty = goal_reward, penalty
        self.oracle_length = int(active)
        self.episode_length = corridor_length + 2 * self.oracle_length + 1
        self.junction = self.oracle_length + corridor_length
        self.goal = np.ones(num_envs, dtype=np.int64)
        self.x, self.y, self.t, self.shown = (np.zeros(num_envs, dtype=np.int64) for _ in range(4))
        self.visited = np.zeros(num_envs, dtype=bool)

    def _draw(self, i: int, rng: np.random.Generator, task_index: int | None) -> None:
        self.goal[i] = draw_goal(rng, task_index)
        self.x[i], self.y[i], self.t[i] = self.oracle_length, 0, 0
        self.visited[i] = self.oracle_length == 0
        self.shown[i] = self.goal[i] if self.visited[i] else 0

    def _move(self, actions: np.ndarray) -> Moved:
        self.t += 1
        # Along the corridor only on its axis, across it only in the junction's column.
        self.x = np.clip(self.x + _DX[actions] * (self.y == 0), 0, self.junction)
        self.y = np.clip(self.y + _DY[actions] * (self.x == self.junction), -1, 1)
        at_oracle = self.x == 0
        self.shown = self.goal * (at_oracle & ~self.visited)
        self.visited |= at_oracle
        ended = self.t >= self.episode_length
        success = (self.y == self.goal) & ended
        wrong = (actions != RIGHT) & (self.t > self.oracle_length) & ~ended
        return (
            success * self.goal_reward + wrong * self.penalty,
            ended,
            {"success": success.astype(np.float64)},
        )

    def _observe(self) -> np.ndarray:
        at_junction = self.x == self.junction
        obs = np.empty((self.num_envs, 2), dtype=np.float32)
        obs[:, 0] = at_junction
        obs[:, 1] = np.where(at_junction, self.y, self.shown)
        return obs


class TMazePassiveVector(TMazeVector):
    """N passive T-Mazes."""


class TMazeActiveVector(TMazeVector):
    """N active T-Mazes."""

    def __init__(
        self, num_envs: int, corridor_length: int = 10, goal_reward: float = 1.0, penalty: float = 0.0
    ) -> None:
        super().__init__(num_envs, corridor_length, goal_reward, penalty, active=True)
