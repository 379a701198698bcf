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
from envs_suite.ahead import Ahead
from envs_suite.vector import BatchedEnv, Moved, metric_key, single_task_index

RIGHT, UP, LEFT, DOWN = range(4)


def _observation_space() -> spaces.Box:
    return spaces.Box(-1.0, 1.0, (2,), dtype=np.float32)


def _check(corridor_length: int, penalty: float) -> None:
    if corridor_length < 1:
        raise ConfigurationError(f"corridor_length must be at least 1, got {corridor_length}")
    if penalty > 0:
        raise ConfigurationError(f"penalty is a reward and must not be positive, got {penalty}")


def draw_goal(rng: np.random.Generator, task_index: int | None) -> int:
    """The goal's side, +1 or -1. One draw is made in any case, so later draws never shift."""
    return _side(int(rng.integers(2)), task_index)


def _side(drawn: int, task_index: int | None) -> int:
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


class _Map:
    """The maze as tables over states (S,): what follows from a state and an action, and what it shows.

    A state is a cell and what is known there. Cells: 0 .. junction along the corridor, then the two sides. Every
    cell comes three times, as before the oracle was visited with the goal at +1, at -1, and as afterwards;
    then there are the oracle's first visit and the active form's first step, for each goal.

    Attributes:
        after: (S, 4) what follows, times 4: the place of its row in the flat tables.
        rewards: (S, 4) float32, of any but the last step.
        seen: (S, 4) complex64: the two numbers of an observation, the same for all actions.
        side: (S, 4) y, which the oracle's sign is not.
        starts: goal (+1, -1) -> the state at the start.
    """

    def __init__(self, junction: int, oracle_length: int, penalty: float) -> None:
        cells = junction + 3
        up, down = junction + 1, junction + 2
        walk = np.arange(cells)[:, None].repeat(4, axis=1)
        walk[: junction + 1, RIGHT] = np.minimum(np.arange(junction + 1) + 1, junction)
        walk[: junction + 1, LEFT] = np.maximum(np.arange(junction + 1) - 1, 0)
        walk[junction, [UP, DOWN]] = up, down
        walk[up, DOWN] = walk[down, UP] = junction

        visited, oracle, first = 2 * cells, 3 * cells, 3 * cells + 2  # the latter two: one for each goal
        after = np.empty((3 * cells + 4, 4), dtype=np.int64)
        after[visited:oracle] = walk + visited
        after[oracle:first] = walk[0] + visited
        for goal in range(2):
            after[goal * cells : (goal + 1) * cells] = np.where(walk == 0, oracle + goal, walk + goal * cells)
            after[first + goal] = after[goal * cells + oracle_length]
        self.after = 4 * after.ravel()

        rewards = np.zeros((len(after), 4), dtype=np.float32)
        rewards[:first, [UP, LEFT, DOWN]] = penalty
        self.rewards = rewards.ravel()

        y = np.zeros(cells)
        y[[up, down]] = 1, -1
        of_cell = (np.arange(cells) >= junction) + 1j * y
        start = np.repeat(of_cell[oracle_length], 2)
        seen = np.concatenate([np.tile(of_cell, 3), [1j, complex(0.0, -1.0)], start]).astype(np.complex64)
        self.seen = seen.repeat(4)
        side = np.concatenate([np.tile(y, 3), np.zeros(4)])
        self.side = side.astype(np.int64).repeat(4)
        begin = first if oracle_length else oracle
        self.starts = {1: 4 * begin, -1: 4 * (begin + 1)}


#: Goals that an instance draws at once.
_GOALS_AHEAD = 64


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
        self._map = _Map(self.junction, self.oracle_length, penalty)
        self.goal = np.ones(num_envs, dtype=np.int64)
        self._state = np.zeros(num_envs, dtype=np.int64)  # its row in the flat tables
        self._ahead: Ahead[int] = Ahead(num_envs, lambda rng: rng.integers(2, size=_GOALS_AHEAD).tolist())

    def _draw(self, i: int, rng: np.random.Generator, task_index: int | None) -> None:
        drawn = self._ahead.take(i, rng)
        self.goal[i] = draw_goal(rng, task_index) if drawn is None else _side(drawn, task_index)

    def _begin(self, who: np.ndarray) -> None:
        starts = self._map.starts
        self._state[who] = np.where(self.goal[who] == 1, starts[1], starts[-1])
        self._set_deadline(who, self.episode_length)

    def _move(self, actions: np.ndarray) -> Moved:
        chosen = self._state + actions
        self._state = self._map.after[chosen]
        rewards = self._map.rewards[chosen]
        ended = self._time_up()
        if ended is None:
            return rewards, None, {}
        success = (self._map.side[self._state] == self.goal) & ended
        rewards[ended] = success[ended] * self.goal_reward
        return rewards, ended, {"success": success.astype(np.float64)}

    def _observe(self) -> np.ndarray:
        return self._map.seen[self._state].view(np.float32).reshape(self.num_envs, 2)


class TMazePassiveVector(TMazeVector):
    """N passive T-Mazes."""


class TMazeActiveVector(TMazeVector):
    """N active T-Mazes."""

    def __init__(
        self, num_envs: int, corridor_length: int = 10, goal_reward: float = 1.0, penalty: float = 0.0
    ) -> None:
        super().__init__(num_envs, corridor_length, goal_reward, penalty, active=True)
