"""Dark key-to-door (Laskin et al. 2022, arXiv 2210.14215; AMAGO's room version).

A task is a start, a key and a door, each a cell of an n x n room, drawn independently. The agent gets 1 for
stepping on the key's cell and, having the key, 1 for stepping on the door's. The door, or
``max_episode_steps`` steps, ends the inner episode: the *next* step is a reset step, whose action is
ignored and which puts the agent back on the start without the key. After ``meta_rollout_horizon`` steps
in all the environment terminates.

* **Actions**: (x, y) += 0: (0, -1), 1: (-1, 0), 2: (0, 1), 3: (1, 0), 4: (0, 0); walls stop a move. With
  ``randomize_actions`` their order is shuffled for each task.
* **Observation** float32: ``[x / n, y / n, has the key, inner steps / max_episode_steps]``; with
  ``dark=False`` also ``[door x / n, door y / n, key x / n, key y / n]``.
* **Metrics**: ``doors`` and ``keys`` reached in the whole rollout (the return is their sum).

Tasks are split between training and evaluation by the pair (key, door). Differences from AMAGO: the
end is reported as terminated only; tasks come from the reset's generator; there is no fixed start or
key location.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from amago.errors import ConfigurationError
from envs_suite.ahead import Ahead
from envs_suite.tasks import draw_until, eval_generator, is_eval_task
from envs_suite.vector import BatchedEnv, Moved, metric_key, single_task_index

MOVES = np.array([(0, -1), (-1, 0), (0, 1), (1, 0), (0, 0)])
#: Rooms that an instance of the vectorised form draws at once, of either split.
_ROOMS_AHEAD = 16


@dataclass(frozen=True)
class RoomRules:
    """What a room's dynamics depend on; checked and shared by both forms.

    Raises:
        ConfigurationError: a size below 3, or a horizon below 1.
    """

    dark: bool = True
    size: int = 9
    max_episode_steps: int = 50
    meta_rollout_horizon: int = 500
    randomize_actions: bool = False
    split: str = "train"

    def __post_init__(self) -> None:
        if self.size < 3:
            raise ConfigurationError(f"RoomKeyDoor.size must be at least 3, got {self.size}")
        for name in ("max_episode_steps", "meta_rollout_horizon"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"RoomKeyDoor.{name} must be at least 1, got {getattr(self, name)}")

    @property
    def observation_space(self) -> spaces.Box:
        return spaces.Box(0.0, 1.0, (4 if self.dark else 8,), dtype=np.float32)


@dataclass
class Task:
    """One room: ``places`` (3, 2) are the cells of start, key and door; ``order`` (5,) permutes actions."""

    places: np.ndarray
    order: np.ndarray


def is_eval_room(places: np.ndarray, size: int) -> bool:
    """Whether a room belongs to the evaluation split (decided by its key and door)."""
    return is_eval_task(b"key-door", places[1:].astype(np.uint16).tobytes(), bytes([size % 256]))


def draw_task(rules: RoomRules, rng: np.random.Generator, task_index: int | None) -> Task:
    """Draw a room of the rules' split, from ``rng`` or, when given, as fixed by ``task_index``."""
    if task_index is not None:
        rng = eval_generator(task_index, rules.size)
    wanted = rules.split == "eval"
    places = draw_until(
        lambda: rng.integers(rules.size, size=(3, 2)),
        lambda p: is_eval_room(p, rules.size) == wanted,
        f"{rules.size} x {rules.size} room",
    )
    order = rng.permutation(5) if rules.randomize_actions else np.arange(5)
    return Task(places, order)


def best_doors(size: int, attempt_steps: int, total_steps: int) -> float:
    """Mean number of doors, over all rooms, of an agent that knows where key and door are.

    An inner episode takes the way to the key, the way to the door (one step at least for either) and a reset step,
    which the last one need not take.
    """
    line = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    at = [
        np.bincount(row, minlength=size) / size for row in line
    ]  # shares of cells by their distance, in one axis
    reached = np.zeros(4 * size - 3)
    for x in range(size):
        for y in range(size):
            ways = np.convolve(at[x], at[y])
            ways[1] += ways[0]
            ways[0] = 0.0
            reached += np.convolve(ways, ways) / size**2
    steps = np.arange(len(reached))
    doors = np.where(steps <= attempt_steps, (total_steps + 1) // (steps + 1), 0)
    return float(reached @ doors)


class RoomKeyDoor(gym.Env):
    """One room; see the module's docstring.

    Args:
        dark: hide the key's and the door's positions.
        size: n, cells to a side (at least 3).
        max_episode_steps: steps of an inner episode.
        meta_rollout_horizon: steps of the whole rollout.
        randomize_actions: shuffle the order of actions for each task.
        split: "train" or "eval": which rooms are used.

    Raises:
        ConfigurationError: see :class:`RoomRules`.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]
    takes_task_index = True

    def __init__(
        self,
        dark: bool = True,
        size: int = 9,
        max_episode_steps: int = 50,
        meta_rollout_horizon: int = 500,
        randomize_actions: bool = False,
        split: str = "train",
    ) -> None:
        self.rules = RoomRules(dark, size, max_episode_steps, meta_rollout_horizon, randomize_actions, split)
        self.observation_space = self.rules.observation_space
        self.action_space = spaces.Discrete(5)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        task = draw_task(self.rules, self.np_random, single_task_index(options))
        self.start, self.key, self.door = (tuple(place) for place in task.places.tolist())
        self.moves = MOVES[task.order].tolist()
        self.t = self.keys = self.doors = 0
        self._begin_inner()
        return self._observation(), {}

    def _begin_inner(self) -> None:
        self.position = self.start
        self.inner_t = 0
        self.has_key = self.inner_over = False

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        rules = self.rules
        self.t += 1
        reward = 0.0
        if self.inner_over:
            self._begin_inner()
        else:
            self.inner_t += 1
            dx, dy = self.moves[action]
            edge = rules.size - 1
            self.position = (
                min(max(self.position[0] + dx, 0), edge),
                min(max(self.position[1] + dy, 0), edge),
            )
            if self.has_key and self.position == self.door:
                reward, self.inner_over = 1.0, True
                self.doors += 1
            elif not self.has_key and self.position == self.key:
                reward, self.has_key = 1.0, True
                self.keys += 1
            if self.inner_t >= rules.max_episode_steps:
                self.inner_over = True
        terminated = self.t >= rules.meta_rollout_horizon
        info = {metric_key("doors"): self.doors, metric_key("keys"): self.keys} if terminated else {}
        return self._observation(), reward, terminated, False, info

    def _observation(self) -> np.ndarray:
        n = self.rules.size
        seen = [self.position[0] / n, self.position[1] / n, self.has_key]
        seen.append(self.inner_t / self.rules.max_episode_steps)
        if not self.rules.dark:
            seen += [c / n for c in (*self.door, *self.key)]
        return np.array(seen, dtype=np.float32)


class RoomKeyDoorVector(BatchedEnv):
    """N rooms with the dynamics of :class:`RoomKeyDoor`.

    Args:
        num_envs: N.
        dark, size, max_episode_steps, meta_rollout_horizon, randomize_actions, split: see
            :class:`RoomKeyDoor`.
    """

    def __init__(
        self,
        num_envs: int,
        dark: bool = True,
        size: int = 9,
        max_episode_steps: int = 50,
        meta_rollout_horizon: int = 500,
        randomize_actions: bool = False,
        split: str = "train",
    ) -> None:
        self.rules = RoomRules(dark, size, max_episode_steps, meta_rollout_horizon, randomize_actions, split)
        super().__init__(num_envs, self.rules.observation_space, spaces.Discrete(5))
        n = num_envs
        self._width = max_episode_steps + 1  # phases of one stage: one for each number of inner steps
        self._places, self._after, self._phases, self._next = _tables(size, max_episode_steps)
        self.start, self.key, self.door, self.cell, self._wanted = (
            np.zeros(n, dtype=np.int64) for _ in range(5)
        )
        self._phase = np.zeros(n, dtype=np.int64)
        # With shuffled actions every instance has its own row of `_after`.
        self._order = np.tile(np.arange(5), (n, 1))
        self._order_row = 5 * np.arange(n)
        self.keys, self.doors = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
        self._dark = dark
        self._ahead = Ahead(n, self._draw_ahead)

    @property
    def moves(self) -> np.ndarray:
        """(N, 5, 2): change of (x, y) for each action."""
        return MOVES[self._order]

    def _draw(self, i: int, rng: np.random.Generator, task_index: int | None) -> None:
        only_places = not self.rules.randomize_actions and task_index is None
        places = self._ahead.take(i, rng) if only_places else None
        if places is None:
            task = draw_task(self.rules, rng, task_index)
            places = task.places
            self._order[i] = task.order
        self.start[i], self.key[i], self.door[i] = places @ (self.rules.size, 1)

    def _draw_ahead(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Places of the next rooms of the rules' split."""
        size, wanted = self.rules.size, self.rules.split == "eval"

        def draw() -> list[np.ndarray]:
            rooms = rng.integers(size, size=(_ROOMS_AHEAD, 3, 2))
            return [places for places in rooms if is_eval_room(places, size) == wanted]

        return draw_until(draw, bool, f"{size} x {size} room")

    def _begin(self, who: np.ndarray) -> None:
        self.cell[who] = self.start[who]
        self._wanted[who] = self.key[who]
        self._phase[who] = self.keys[who] = self.doors[who] = 0
        self._set_deadline(who, self.rules.meta_rollout_horizon)

    def _move(self, actions: np.ndarray) -> Moved:
        if self.rules.randomize_actions:
            actions = self._order.ravel()[self._order_row + actions]
        chosen = 5 * self.cell
        chosen += actions
        cell = self._after[chosen]
        self._phase = phase = self._next[self._phase]
        back = phase == 0  # these took their reset step
        if np.count_nonzero(back):
            np.copyto(cell, self.start, where=back)
            np.copyto(self._wanted, self.key, where=back)
        self.cell = cell
        hit = cell == self._wanted
        np.greater(hit, back, out=hit)  # a reset step finds nothing
        if np.count_nonzero(hit):
            self._find(np.flatnonzero(hit))
        ended = self._time_up()
        if ended is None:
            return hit.astype(np.float32), None, {}
        metrics = {"doors": self.doors.astype(np.float64), "keys": self.keys.astype(np.float64)}
        return hit.astype(np.float32), ended, metrics

    def _find(self, who: np.ndarray) -> None:
        """Those of ``who`` that seek the key have it now; the others are at the door."""
        opened = self._phase[who] >= self._width
        self.doors[who] += opened
        self.keys[who] += ~opened
        self._wanted[who] = self.door[who]
        self._phase[who] += self._width

    def _observe(self) -> np.ndarray:
        obs = np.empty((self.num_envs, 2 if self._dark else 4), dtype=np.complex64)
        obs[:, 0] = self._places[self.cell]
        obs[:, 1] = self._phases[self._phase]
        if not self._dark:
            obs[:, 2] = self._places[self.door]
            obs[:, 3] = self._places[self.key]
        return obs.view(np.float32)


def _tables(size: int, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What the vectorised form looks up. A cell is x * n + y; a phase is stage * (steps + 1) + inner steps, where
    the stage is 0 without the key, 1 with it and 2 once the door is open.

    Returns:
        (n^2,) complex64: a cell's part of the observation; (n^2 * 5,) the cell after each action; (3 * (steps + 1),)
        complex64: a phase's part of the observation; (3 * (steps + 1),) the next phase if nothing is found.
    """
    x, y = np.divmod(np.arange(size * size), size)
    moved = np.clip(np.stack([x, y], axis=-1)[:, None] + MOVES, 0, size - 1)
    after = (moved @ (size, 1)).ravel()
    inner = np.tile(np.arange(steps + 1), 3)
    stage = np.arange(3).repeat(steps + 1)
    following = np.where((stage == 2) | (inner >= steps), 0, np.arange(len(inner)) + 1)
    phases = (stage > 0) + 1j * (inner / steps)
    return (x / size + 1j * (y / size)).astype(np.complex64), after, phases.astype(np.complex64), following
