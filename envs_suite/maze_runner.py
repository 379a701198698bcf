"""MazeRunner (AMAGO, arXiv 2310.09971): visit hidden-maze goals in order, seeing only what is near.

A task is a maze of odd side n, drawn with the goals. The agent starts in a pocket at the bottom; the goals
(from ``min_goals`` to ``max_goals`` different free cells) count only in their order. The episode terminates
when the last one is reached, or after ``time_limit`` steps.

* **Actions**: (row, column) += 0: (0, -1), 1: (-1, 0), 2: (0, 1), 3: (1, 0), 4: (0, 0); walls stop a move. With
  ``shuffle_actions`` their order is shuffled for each task.
* **Observation** float32 (7 + 2 * max_goals,): ``[row, column, free cells to the west, north, east, south] / n``,
  ``steps / time_limit``, then the goals' cells / n in order; a goal that was visited, or is not there
  (those come first), shows as -1 / n twice.
* **Reward**: 1 for each goal reached in turn.
* **Metrics**: ``goal_fraction`` (goals reached of those there were) and ``success`` (all of them).

Mazes: walls run between pillars, the cells with even coordinates. From ``density`` (m / 2)^2 random
pillars in turn, a wall grows by trying ``complexity`` * 10 n random neighbours and joining those that
are free, so that no wall ever closes a room; m = n - 1 and both factors are 0.75. The bottom five rows are then cleared
and the start's pocket is walled in. Mazes are split between training and evaluation by their walls.

Differences from AMAGO: the end at the time limit is reported as terminated only; tasks come from the
reset's generator; goals are always in the observation (its relabelling variant has them apart).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from amago.errors import ConfigurationError
from envs_suite.key_door import MOVES
from envs_suite.tasks import draw_until, eval_generator, is_eval_task
from envs_suite.vector import BatchedEnv, Moved, metric_key, single_task_index

_DENSITY = _COMPLEXITY = 0.75
_SEEN = 7  # numbers in an observation before the goals


@dataclass(frozen=True)
class MazeRules:
    """What a maze's dynamics depend on; checked and shared by both forms.

    Raises:
        ConfigurationError: a side that is even or below 9, or an impossible number of goals or steps.
    """

    size: int = 15
    min_goals: int = 1
    max_goals: int = 3
    time_limit: int = 400
    shuffle_actions: bool = False
    split: str = "train"

    def __post_init__(self) -> None:
        if self.size < 9 or self.size % 2 == 0:
            raise ConfigurationError(f"MazeRunner.size must be odd and at least 9, got {self.size}")
        if not 1 <= self.min_goals <= self.max_goals <= 10:
            raise ConfigurationError(
                "MazeRunner needs 1 <= min_goals <= max_goals <= 10, "
                f"got min_goals={self.min_goals} and max_goals={self.max_goals}"
            )
        if self.time_limit < 1:
            raise ConfigurationError(f"MazeRunner.time_limit must be at least 1, got {self.time_limit}")

    @property
    def start(self) -> tuple[int, int]:
        """Row and column of the start."""
        return self.size - 2, self.size // 2

    @property
    def observation_space(self) -> spaces.Box:
        width = _SEEN + 2 * self.max_goals
        low = np.zeros(width, dtype=np.float32)
        low[_SEEN:] = -1.0
        return spaces.Box(low, np.ones(width, dtype=np.float32), dtype=np.float32)


@dataclass
class Task:
    """One maze: ``walls`` (n, n) bool, ``goals`` (g, 2) in order, ``order`` (5,) permutes actions."""

    walls: np.ndarray
    goals: np.ndarray
    order: np.ndarray


def draw_walls(rng: np.random.Generator, size: int) -> np.ndarray:
    """A maze of odd side ``size``: (n, n) bool, True where there is wall; free cells are connected."""
    walls = np.zeros((size, size), dtype=bool)
    walls[[0, -1], :] = walls[:, [0, -1]] = True
    last = size // 2  # pillars have coordinates 0 .. last, cells twice that
    pillars = [[r in (0, last) or c in (0, last) for c in range(last + 1)] for r in range(last + 1)]
    tries = int(_COMPLEXITY * 10 * size)
    seeds = rng.integers(last + 1, size=(int(_DENSITY * last**2), 2)).tolist()
    for row, column in seeds:
        pillars[row][column] = True
        walls[2 * row, 2 * column] = True
        _grow(rng, walls, pillars, row, column, tries)
    walls[size - 5 : size - 1, 1:-1] = False
    for side in (-1, 1):
        walls[size - 4 : size - 1, size // 2 + side] = True
    return walls


def _grow(
    rng: np.random.Generator, walls: np.ndarray, pillars: list[list[bool]], row: int, column: int, tries: int
) -> None:
    """Grow a wall from a pillar, changing ``walls`` and ``pillars``."""
    last = len(pillars) - 1
    while tries > 0:
        around = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
        around = [(r, c) for r, c in around if 0 <= r <= last and 0 <= c <= last]
        if all(pillars[r][c] for r, c in around):
            return
        to_row, to_column = around[int(rng.integers(len(around)))]
        tries -= 1
        if not pillars[to_row][to_column]:
            pillars[to_row][to_column] = True
            walls[2 * to_row, 2 * to_column] = walls[row + to_row, column + to_column] = True
            row, column = to_row, to_column


def is_eval_maze(walls: np.ndarray) -> bool:
    """Whether a maze belongs to the evaluation split."""
    return is_eval_task(b"maze", np.packbits(walls).tobytes(), bytes([len(walls)]))


def draw_task(rules: MazeRules, rng: np.random.Generator, task_index: int | None) -> Task:
    """Draw a maze of the rules' split, from ``rng`` or, when given, as fixed by ``task_index``."""
    if task_index is not None:
        rng = eval_generator(task_index, rules.size)
    wanted = rules.split == "eval"
    walls = draw_until(
        lambda: draw_walls(rng, rules.size), lambda w: is_eval_maze(w) == wanted, f"maze of side {rules.size}"
    )
    free = ~walls
    free[rules.start] = False
    cells = np.argwhere(free)
    count = int(rng.integers(rules.min_goals, rules.max_goals + 1))
    goals = cells[rng.choice(len(cells), size=count, replace=False)]
    order = rng.permutation(5) if rules.shuffle_actions else np.arange(5)
    return Task(walls, goals, order)


def sight(walls: np.ndarray) -> np.ndarray:
    """Free cells in a row to the west, north, east and south of every cell: (n, n, 4) int."""
    n = len(walls)
    seen = np.zeros((n, n, 4), dtype=np.int64)
    free = ~walls
    for k in range(1, n):
        seen[:, k, 0] = np.where(free[:, k - 1], seen[:, k - 1, 0] + 1, 0)
        seen[k, :, 1] = np.where(free[k - 1], seen[k - 1, :, 1] + 1, 0)
        seen[:, n - 1 - k, 2] = np.where(free[:, n - k], seen[:, n - k, 2] + 1, 0)
        seen[n - 1 - k, :, 3] = np.where(free[n - k], seen[n - k, :, 3] + 1, 0)
    return seen


class MazeRunnerGymEnv(gym.Env):
    """One maze; see the module's docstring.

    Args:
        maze_dim: side n, odd and at least 9.
        min_num_goals, max_num_goals: how many goals a task has.
        time_limit: steps after which the episode ends.
        randomized_action_space: shuffle the order of actions for each task.
        split: "train" or "eval": which mazes are used.

    Raises:
        ConfigurationError: see :class:`MazeRules`.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]
    takes_task_index = True

    def __init__(
        self,
        maze_dim: int,
        min_num_goals: int,
        max_num_goals: int,
        time_limit: int,
        randomized_action_space: bool = False,
        split: str = "train",
    ) -> None:
        self.rules = MazeRules(
            maze_dim, min_num_goals, max_num_goals, time_limit, randomized_action_space, split
        )
        self.observation_space = self.rules.observation_space
        self.action_space = spaces.Discrete(5)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        task = draw_task(self.rules, self.np_random, single_task_index(options))
        self.walls = task.walls
        self.goals = [tuple(goal) for goal in task.goals.tolist()]
        self.moves = MOVES[task.order].tolist()
        self.position = self.rules.start
        self.t = self.reached = 0
        return self._observation(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.t += 1
        row, column = self.position[0] + self.moves[action][0], self.position[1] + self.moves[action][1]
        if not self.walls[row, column]:
            self.position = (row, column)
        reward = float(self.position == self.goals[self.reached])
        self.reached += int(reward)
        success = self.reached == len(self.goals)
        terminated = success or self.t >= self.rules.time_limit
        info = {}
        if terminated:
            fraction = self.reached / len(self.goals)
            info = {metric_key("goal_fraction"): fraction, metric_key("success"): float(success)}
        return self._observation(), reward, terminated, False, info

    def _free_cells(self, row_step: int, column_step: int) -> int:
        row, column = self.position
        count = 0
        while not self.walls[row := row + row_step, column := column + column_step]:
            count += 1
        return count

    def _observation(self) -> np.ndarray:
        n, rules = self.rules.size, self.rules
        seen = [*self.position, *(self._free_cells(*way) for way in MOVES[:4].tolist())]
        absent = rules.max_goals - len(self.goals)
        shown = [(-1, -1)] * (absent + self.reached) + self.goals[self.reached :]
        flat = [coordinate for goal in shown for coordinate in goal]
        return np.array(
            [*(v / n for v in seen), self.t / rules.time_limit, *(v / n for v in flat)], dtype=np.float32
        )


class MazeRunnerVector(BatchedEnv):
    """N mazes with the dynamics of :class:`MazeRunnerGymEnv`; same arguments after ``num_envs``."""

    def __init__(
        self,
        num_envs: int,
        maze_dim: int,
        min_num_goals: int,
        max_num_goals: int,
        time_limit: int,
        randomized_action_space: bool = False,
        split: str = "train",
    ) -> None:
        self.rules = rules = MazeRules(
            maze_dim, min_num_goals, max_num_goals, time_limit, randomized_action_space, split
        )
        super().__init__(num_envs, rules.observation_space, spaces.Discrete(5))
        n = num_envs
        self._rows = np.arange(n)
        self.walls = np.zeros((n, maze_dim, maze_dim), dtype=bool)
        self.sight = np.zeros((n, maze_dim, maze_dim, 4), dtype=np.int64)
        self.moves = np.zeros((n, 5, 2), dtype=np.int64)
        self.position = np.zeros((n, 2), dtype=np.int64)
        # Goals stand at the end of their row, and `next` points at the current one.
        self.goals = np.full((n, max_num_goals, 2), -1)
        self.next, self.count, self.t = (np.zeros(n, dtype=np.int64) for _ in range(3))

    def _draw(self, i: int, rng: np.random.Generator, task_index: int | None) -> None:
        task = draw_task(self.rules, rng, task_index)
        self.walls[i], self.sight[i] = task.walls, sight(task.walls)
        self.moves[i] = MOVES[task.order]
        self.position[i] = self.rules.start
        self.count[i] = len(task.goals)
        self.next[i] = self.rules.max_goals - len(task.goals)
        self.goals[i] = -1
        self.goals[i, self.next[i] :] = task.goals
        self.t[i] = 0

    def _move(self, actions: np.ndarray) -> Moved:
        rules, rows = self.rules, self._rows
        target = self.position + self.moves[rows, actions]
        blocked = self.walls[rows, target[:, 0], target[:, 1]]
        self.position = np.where(blocked[:, None], self.position, target)
        reached = (self.position == self.goals[rows, self.next]).all(axis=1)
        who = np.flatnonzero(reached)
        self.goals[who, self.next[who]] = -1
        self.next = self.next + reached
        self.t = self.t + 1
        success = self.next == rules.max_goals
        terminated = success | (self.t >= rules.time_limit)
        metrics = {}
        if terminated.any():
            missing = rules.max_goals - self.next
            metrics = {
                "goal_fraction": (self.count - missing) / self.count,
                "success": success.astype(np.float64),
            }
        return reached.astype(np.float64), terminated, metrics

    def _observe(self) -> np.ndarray:
        n, rows = self.rules.size, self._rows
        row, column = self.position[:, 0], self.position[:, 1]
        obs = np.empty((self.num_envs, _SEEN + 2 * self.rules.max_goals), dtype=np.float32)
        obs[:, :2] = self.position / n
        obs[:, 2:6] = self.sight[rows, row, column] / n
        obs[:, 6] = self.t / self.rules.time_limit
        obs[:, _SEEN:] = self.goals.reshape(self.num_envs, -1) / n
        return obs
