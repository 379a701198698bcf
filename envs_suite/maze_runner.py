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

Mazes are those of :mod:`envs_suite.mazes`, split between training and evaluation by their walls.

Differences from AMAGO: the end at the time limit is reported as terminated only; tasks come from the
reset's generator; goals are always in the observation (:mod:`envs_suite.maze_goals` has them apart).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from amago.errors import ConfigurationError
from envs_suite.key_door import MOVES
from envs_suite.mazes import draw_walls, sight
from envs_suite.tasks import draw_until, eval_generator, is_eval_task
from envs_suite.vector import BatchedEnv, Moved, metric_key, single_task_index

_SEEN = 7  # numbers in an observation before the goals
#: Six of them belong to the cell; they are looked up as one thing.
_VIEW = np.dtype((np.void, 6 * 4))


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


class MazeRunnerGymEnv(gym.Env):
    """One maze; see the module's docstring.

    Args:
        maze_dim: side n, odd and at least 9.
        min_num_goals, max_num_goals: how many goals a task has.
        time_limit: steps after which the episode ends.
        goal_in_obs: only True; AMAGO's other form is for relabelling, which here reads the observation.
        randomized_action_space: shuffle the order of actions for each task.
        split: "train" or "eval": which mazes are used.

    Raises:
        ConfigurationError: see :class:`MazeRules`; or goals that are not to be seen.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]
    takes_task_index = True

    def __init__(
        self,
        maze_dim: int,
        min_num_goals: int,
        max_num_goals: int,
        time_limit: int,
        goal_in_obs: bool = True,
        randomized_action_space: bool = False,
        split: str = "train",
    ) -> None:
        if not goal_in_obs:
            raise ConfigurationError(
                "MazeRunner's goals are always in the observation: leave goal_in_obs out; "
                "envs_suite.maze_hindsight.MazeGoalRelabeler relabels them there, and MazeRunnerAMAGOEnv has them apart"
            )
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
    """N mazes with the dynamics of :class:`MazeRunnerGymEnv`; its arguments, but for ``goal_in_obs``, after ``num_envs``."""

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
        cells, slots = maze_dim * maze_dim, 2 * max_num_goals
        # Flat arrays, and where an instance's part of each begins. A cell is row * n + column.
        self._cell_row, self._goal_row = np.arange(n) * cells, np.arange(n) * max_num_goals
        self._order_row = 5 * np.arange(n)
        self._start = rules.start[0] * maze_dim + rules.start[1]
        self._change = MOVES @ (maze_dim, 1)
        self._fractions = (np.arange(time_limit + 1) / time_limit).astype(np.float32)
        self.walls = np.zeros((n, maze_dim, maze_dim), dtype=bool)
        # The first six numbers of an observation for every cell, as three complex64 to look up at once.
        self._views = np.zeros((n, maze_dim, maze_dim, 6), dtype=np.float32)
        row, column = np.indices((maze_dim, maze_dim)) / maze_dim
        self._views[..., 0], self._views[..., 1] = row, column
        self._view = self._views.reshape(-1).view(_VIEW)
        self._order = np.tile(np.arange(5), (n, 1))
        self.cell, self.t, self.next, self.count = (np.zeros(n, dtype=np.int64) for _ in range(4))
        # Goals stand at the end of their row, and `next` points at the current one; gone ones are -1.
        self._goals = np.full((n, max_num_goals), -1)
        self._goals_seen = np.zeros((n, slots), dtype=np.float32)

    @property
    def goals(self) -> np.ndarray:
        """(N, max_goals, 2): row and column of each goal ahead, at the end of its row; -1 for what is not there."""
        place = np.stack(np.divmod(self._goals, self.rules.size), axis=-1)
        place[self._goals < 0] = -1
        return place

    @property
    def moves(self) -> np.ndarray:
        """(N, 5, 2): change of (row, column) for each action."""
        return MOVES[self._order]

    def _draw(self, i: int, rng: np.random.Generator, task_index: int | None) -> None:
        rules = self.rules
        task = draw_task(rules, rng, task_index)
        self.walls[i] = task.walls
        self._order[i] = task.order
        self.count[i] = len(task.goals)
        self.next[i] = first = rules.max_goals - len(task.goals)
        self._goals[i, :first] = -1
        self._goals[i, first:] = task.goals @ (rules.size, 1)
        self._goals_seen[i, : 2 * first] = -1 / rules.size
        self._goals_seen[i, 2 * first :] = (task.goals / rules.size).ravel()

    def _begin(self, who: np.ndarray) -> None:
        self._views[who, ..., 2:] = np.divide(sight(self.walls[who]), self.rules.size, dtype=np.float64)
        self.cell[who] = self._start
        self.t[who] = 0
        self._set_deadline(who, self.rules.time_limit)

    def _move(self, actions: np.ndarray) -> Moved:
        rules = self.rules
        if rules.shuffle_actions:
            actions = self._order.reshape(-1)[self._order_row + actions]
        target = self._change[actions]
        target += self.cell
        blocked = self.walls.reshape(-1)[self._cell_row + target]
        np.copyto(target, self.cell, where=blocked)
        self.cell = target
        self.t += 1
        reached = target == self._goals.reshape(-1)[self._goal_row + self.next]
        rewards = reached.astype(np.float32)
        ended = self._time_up()
        if np.count_nonzero(reached):
            who = np.flatnonzero(reached)
            slot = self.next[who]
            self._goals[who, slot] = -1
            self._goals_seen[who, 2 * slot] = self._goals_seen[who, 2 * slot + 1] = -1 / rules.size
            self.next[who] += 1
            success = self.next == rules.max_goals
            ended = success if ended is None else ended | success
        if ended is None or not np.count_nonzero(ended):
            return rewards, None, {}
        missing = rules.max_goals - self.next
        metrics = {
            "goal_fraction": (self.count - missing) / self.count,
            "success": (missing == 0).astype(np.float64),
        }
        return rewards, ended, metrics

    def _observe(self) -> np.ndarray:
        obs = np.empty((self.num_envs, _SEEN + 2 * self.rules.max_goals), dtype=np.float32)
        seen = self._view[self._cell_row + self.cell]
        obs[:, :6] = seen.view(np.float32).reshape(-1, 6)
        obs[:, 6] = self._fractions[self.t]
        obs[:, _SEEN:] = self._goals_seen
        return obs
