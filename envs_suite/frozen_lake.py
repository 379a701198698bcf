"""Meta-FrozenLake: k attempts at an unknown lake (after AMAGO's toy environment).

A task is an n x n map with holes, start (0, 0) and goal (n - 1, n - 1), always solvable. An attempt ends
at the goal, in a hole, or after ``attempt_limit`` steps; then the agent is back at the start, within
the same step, and after ``k`` attempts the episode terminates.

* **Actions**: 0 stay, then (x, y) += 1: (1, 0), 2: (-1, 0), 3: (0, 1), 4: (0, -1); walls stop a move.
* **Observation** float32 (4,): ``[x / n, y / n, an attempt has just begun, attempts done / k]``.
* **Reward**: 1 for reaching the goal. With ``recover_mode`` a hole costs 0.1 and the agent stays where
  it was, instead of ending the attempt.
* **Hard mode**: with probability 1/2 actions 1 and 3 are swapped for the whole task; each observation is
  displaced with probability 1/4, by -1, 0 or 1 in either coordinate, within the map; each move opens a
  hole, with probability 1/3 and until the attempt ends, in the cell that it leaves.
* **Slip**: each move goes, with probability ``slip``, in one of the four directions at random instead.
* **Attempt limit**: n^2 steps, 2 n^2 in hard mode, divided by 1 - slip and rounded up.
* **Metrics**: ``success_attempt_0`` ..., their mean ``success``, and ``success_last``.

Maps: every cell but start and goal is frozen with probability 0.8, drawn again until the goal can be
reached, as in gymnasium's FrozenLake. Maps whose hash falls in the evaluation part are never used in
training; evaluation task i is always the same map, and in hard mode odd i are the swapped ones. Every cell tells
maps apart, also one that holes shut off: of evaluation's episodes, the share on a map that plays like one of 100,000
of training's is 2.6 % for n = 3, 6.4 % for 4, 4.6 % for 5, 0.2 % for 6 and nothing for 8.

Differences from AMAGO's environment: it has no attempt limit and no slip; it also opens a hole below
an agent that stood still or was stopped by a wall (a slip in its condition), which here takes a real
move; it swaps, displaces and opens holes from a global generator, here from tables drawn at the reset.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from amago.errors import ConfigurationError
from envs_suite.tasks import draw_until, eval_generator, is_eval_task
from envs_suite.vector import metric_key, single_task_index

#: Change of (x, y) for each action, and the same with actions 1 and 3 swapped.
_MOVES = np.array([(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)])
_SWAPPED = _MOVES[[0, 3, 2, 1, 4]]
MOVES = np.stack([_MOVES, _SWAPPED])

_P_FROZEN = 0.8
_P_SWAP = 0.5
_P_DISPLACED = 0.25
_P_HOLE = 1.0 / 3.0
HOLE_COST = -0.1


@dataclass(frozen=True)
class LakeRules:
    """What a lake's dynamics depend on; checked and shared by both forms.

    Raises:
        ConfigurationError: a size below 3, no attempt, or a slip outside [0, 0.9].
    """

    size: int
    k_episodes: int = 10
    hard_mode: bool = False
    recover_mode: bool = False
    slip: float = 0.0
    split: str = "train"

    def __post_init__(self) -> None:
        if self.size < 3:
            raise ConfigurationError(f"MetaFrozenLake.size must be at least 3, got {self.size}")
        if self.k_episodes < 1:
            raise ConfigurationError(f"MetaFrozenLake.k_episodes must be at least 1, got {self.k_episodes}")
        if not 0.0 <= self.slip <= 0.9:
            raise ConfigurationError(f"MetaFrozenLake.slip must be from 0 to 0.9, got {self.slip}")

    @property
    def attempt_limit(self) -> int:
        """Steps after which an attempt ends."""
        steps = self.size**2 * (2 if self.hard_mode else 1)
        return math.ceil(steps / (1.0 - self.slip) - 1e-9)

    @property
    def horizon(self) -> int:
        """The most steps of an episode."""
        return self.k_episodes * self.attempt_limit


@dataclass
class Episode:
    """Everything random about one episode, drawn at its reset (T = the horizon).

    Attributes:
        holes: (n, n) bool.
        swapped: actions 1 and 3 are swapped.
        slips: (T,) int8: the action (1..4) that replaces a move at each step, or 0 for none.
        opens: (T,) bool: a move at this step opens a hole behind.
        displaced: (T + 1, 2) int8: displacement of the observation after t steps.
    """

    holes: np.ndarray
    swapped: bool
    slips: np.ndarray
    opens: np.ndarray
    displaced: np.ndarray


def solvable(holes: np.ndarray) -> bool:
    """Whether a path without holes leads from (0, 0) to (n - 1, n - 1); ``holes`` is (n, n) bool."""
    n = len(holes)
    frozen = [not cell for cell in holes.ravel().tolist()]
    goal = n * n - 1
    stack = [0]
    frozen[0] = False  # also marks a cell as seen
    while stack:
        cell = stack.pop()
        if cell == goal:
            return True
        column = cell % n
        for other, inside in (
            (cell + n, cell + n <= goal),
            (cell + 1, column < n - 1),
            (cell - n, cell >= n),
            (cell - 1, column > 0),
        ):
            if inside and frozen[other]:
                frozen[other] = False
                stack.append(other)
    return False


def is_eval_map(holes: np.ndarray) -> bool:
    """Whether a map belongs to the evaluation split."""
    return is_eval_task(b"frozen-lake", np.packbits(holes).tobytes(), bytes([len(holes)]))


def draw_map(rng: np.random.Generator, size: int, split: str) -> np.ndarray:
    """A solvable map of a split: (n, n) bool, True where there is a hole."""

    wanted = split == "eval"
    return draw_until(
        lambda: draw_candidates(rng, size, 1)[0],
        lambda m: is_eval_map(m) == wanted and solvable(m),
        f"{size} x {size} lake",
    )


def draw_candidates(rng: np.random.Generator, size: int, count: int) -> np.ndarray:
    """Maps of any split, solvable or not: (count, n, n) bool; the same as ``count`` draws of one."""
    holes = rng.random((count, size, size)) >= _P_FROZEN
    holes[:, 0, 0] = holes[:, -1, -1] = False
    return holes


def draw_episode(rules: LakeRules, rng: np.random.Generator, task_index: int | None) -> Episode:
    """Draw an episode; the task comes from ``task_index`` when given, the noise always from ``rng``."""
    task_rng = rng if task_index is None else eval_generator(task_index, rules.size)
    holes = draw_map(task_rng, rules.size, rules.split)
    swapped = False
    if rules.hard_mode:
        swapped = bool(rng.random() < _P_SWAP) if task_index is None else task_index % 2 == 1
    horizon = rules.horizon
    slips = np.zeros(horizon, dtype=np.int8)
    if rules.slip > 0:
        slips = rng.integers(1, 5, size=horizon, dtype=np.int8)
        slips[rng.random(horizon) >= rules.slip] = 0
    opens = np.zeros(horizon, dtype=bool)
    displaced = np.zeros((horizon + 1, 2), dtype=np.int8)
    if rules.hard_mode:
        opens = rng.random(horizon) < _P_HOLE
        displaced = rng.integers(-1, 2, size=(horizon + 1, 2), dtype=np.int8)
        displaced[rng.random(horizon + 1) >= _P_DISPLACED] = 0
    return Episode(holes, swapped, slips, opens, displaced)


def observation_space() -> spaces.Box:
    """Of one lake."""
    return spaces.Box(0.0, 1.0, (4,), dtype=np.float32)


class MetaFrozenLake(gym.Env):
    """One Meta-FrozenLake; see the module's docstring.

    Args:
        size: n, cells to a side (at least 3).
        k_episodes: attempts at each lake.
        hard_mode: swapped actions, displaced observations, holes behind the agent.
        recover_mode: a hole costs 0.1 instead of ending the attempt.
        slip: probability that a move goes astray, in [0, 0.9].
        split: "train" or "eval": which maps are used.

    Raises:
        ConfigurationError: see :class:`LakeRules`.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]
    takes_task_index = True

    def __init__(
        self,
        size: int,
        k_episodes: int = 10,
        hard_mode: bool = False,
        recover_mode: bool = False,
        slip: float = 0.0,
        split: str = "train",
    ) -> None:
        self.rules = LakeRules(size, k_episodes, hard_mode, recover_mode, slip, split)
        self.observation_space = observation_space()
        self.action_space = spaces.Discrete(5)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode = draw_episode(self.rules, self.np_random, single_task_index(options))
        self.t = 0
        self.successes: list[float] = []
        self._begin_attempt()
        return self._observation(), {}

    def _begin_attempt(self) -> None:
        self.x, self.y, self.attempt_steps = 0, 0, 0
        self.holes = self.episode.holes.copy()

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        rules, t, n = self.rules, self.t, self.rules.size
        slip = self.episode.slips[t]
        dx, dy = MOVES[int(self.episode.swapped)][slip if slip and action != 0 else action]
        x = min(max(self.x + int(dx), 0), n - 1)
        y = min(max(self.y + int(dy), 0), n - 1)
        self.t += 1
        self.attempt_steps += 1
        reward = 0.0
        fell = bool(self.holes[x, y]) and (x, y) != (self.x, self.y)
        if fell and rules.recover_mode:
            reward, x, y = HOLE_COST, self.x, self.y
        if (x, y) != (self.x, self.y) and self.episode.opens[t]:
            self.holes[self.x, self.y] = True
        self.x, self.y = x, y
        reached = x == n - 1 and y == n - 1
        if reached:
            reward = 1.0
        over = reached or (fell and not rules.recover_mode) or self.attempt_steps >= rules.attempt_limit
        if over:
            self.successes.append(float(reached))
            self._begin_attempt()
        terminated = len(self.successes) >= rules.k_episodes
        return self._observation(), reward, terminated, False, self._metrics() if terminated else {}

    def _metrics(self) -> dict[str, Any]:
        named = {f"success_attempt_{i}": s for i, s in enumerate(self.successes)}
        named |= {"success": float(np.mean(self.successes)), "success_last": self.successes[-1]}
        return {metric_key(name): value for name, value in named.items()}

    def _observation(self) -> np.ndarray:
        n = self.rules.size
        shift = self.episode.displaced[self.t]
        x = min(max(self.x + int(shift[0]), 0), n - 1)
        y = min(max(self.y + int(shift[1]), 0), n - 1)
        return np.array(
            [x / n, y / n, self.attempt_steps == 0, len(self.successes) / self.rules.k_episodes],
            dtype=np.float32,
        )
