"""What only the family ``jax`` has: rooms and puzzles that are solved by those who know them (run by its own Python)."""

from __future__ import annotations

import itertools
from collections import deque
from typing import Any

import jax
import numpy as np
from run_checks import refused, run_checks

import envs_suite
from envs_suite.catalogue_jax import GYMNAX
from envs_suite.jumanji_envs import JumanjiVector
from envs_suite.navix_envs import NavixVector
from envs_suite.xland_rulesets import TILES

Cell = tuple[int, int]
LEFT, RIGHT, FORWARD, PICK_UP, _, TOGGLE, DONE = range(7)
#: navix: east, south, west, north; jumanji: up, right, down, left.
COMPASS = ((0, 1), (1, 0), (0, -1), (-1, 0))
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))


def _single(env_id: str) -> Any:
    return envs_suite.get(env_id).make(num_envs=1).env


def _first(env: Any) -> Any:
    """The state of the only instance."""
    return jax.tree.map(lambda array: np.asarray(array)[0], env._state)


def _way(start: Cell, goal: Cell, blocked: np.ndarray) -> list[Cell]:
    """Cells from start to goal, shortest; ``goal`` itself may be blocked.

    Raises:
        AssertionError: there is no way.
    """
    before: dict[Cell, Cell | None] = {start: None}
    waiting = deque([start])
    while waiting:
        here = waiting.popleft()
        if here == goal:
            way = []
            at: Cell | None = goal
            while at is not None:
                way.append(at)
                at = before[at]
            return way[::-1]
        for step in COMPASS:
            there = here[0] + step[0], here[1] + step[1]
            if there not in before and (there == goal or not blocked[there]):
                before[there] = here
                waiting.append(there)
    raise AssertionError(f"no way from {start} to {goal}")


class Walker:
    """Plays a room of navix; stops where the episode does."""

    def __init__(self, env: NavixVector, seed: int) -> None:
        self.env = env
        env.reset(seed=seed)
        state = _first(env).state
        entities = state.entities
        self.blocked = state.grid != 0
        for kind in ("wall", "lava", "door", "key"):
            if kind in entities:
                self.blocked[tuple(entities[kind].position.T)] = True
        player = entities["player"]
        self.at, self.facing = tuple(player.position[0].tolist()), int(player.direction[0])
        self.entities = entities
        self.reward, self.over = 0.0, False

    def place(self, kind: str) -> Cell:
        return tuple(self.entities[kind].position[0].tolist())

    def act(self, action: int) -> None:
        if not self.over:
            _, reward, terminated, truncated, _ = self.env.step(np.array([action]))
            self.reward += float(reward[0])
            self.over = bool(terminated[0] or truncated[0])

    def face(self, cell: Cell) -> None:
        wanted = COMPASS.index((cell[0] - self.at[0], cell[1] - self.at[1]))
        for _ in range((wanted - self.facing) % 4):
            self.act(RIGHT)
        self.facing = wanted

    def walk(self, goal: Cell, beside: bool = False) -> None:
        """To ``goal``, or to face it from the cell beside it."""
        for cell in _way(self.at, goal, self.blocked)[1:]:
            self.face(cell)
            if not (beside and cell == goal):
                self.act(FORWARD)
                self.at = cell


def check_rooms_can_be_solved() -> None:
    """Goals are reached along the shortest way, keys fetched and doors opened, with the actions as documented."""
    for name in ("empty-random-8x8", "simple-crossing-s9n3", "lava-gap-s7", "door-key-random-8x8"):
        env = _single(f"navix-{name}")
        for seed in range(25):
            walker = Walker(env, seed)
            if "door" in walker.entities:
                key, door = walker.place("key"), walker.place("door")
                walker.walk(key, beside=True)
                walker.act(PICK_UP)
                walker.blocked[key] = False
                assert np.asarray(env._observation)[0, -1] == 1.0, "what is carried is not shown"
                walker.walk(door, beside=True)
                walker.act(TOGGLE)
                walker.blocked[door] = False
            if walker.at == walker.place("goal"):  # who begins on it must leave and come back
                row, column = walker.at
                walker.walk(
                    next((row + r, column + c) for r, c in COMPASS if not walker.blocked[row + r, column + c])
                )
            walker.walk(walker.place("goal"))
            assert (walker.over, walker.reward) == (True, 1.0), (name, seed)


def check_balls_can_be_dodged() -> None:
    """Walking straight on reaches the goal among moving balls now and then, and is mostly stopped by one."""
    env = _single("navix-dynamic-obstacles-8x8")
    rewards = []
    for seed in range(60):
        walker = Walker(env, seed)
        walker.walk(walker.place("goal"))
        rewards.append(walker.reward)
    assert 0.0 < np.mean(rewards) < 1.0, np.mean(rewards)


def check_time_runs_out_as_in_minigrid() -> None:
    env = _single("navix-empty-random-8x8")
    env.reset(seed=0)
    ends = [[bool(end[0]) for end in env.step(np.array([DONE]))[2:4]] for _ in range(4 * 8 * 8)]
    assert ends == [[False, False]] * (4 * 8 * 8 - 1) + [[False, True]]


def check_horizons_are_reached() -> None:
    """A declared horizon is the length of an episode that nothing ends earlier, not just some bound."""
    for name in (*GYMNAX, "memory-chain"):
        if name == "cartpole":  # ends where the pole falls
            continue
        env, steps, over = _single(f"gymnax-{name}"), 0, False
        env.reset(seed=1)
        while not over:
            steps += 1
            _, _, terminated, truncated, _ = env.step(np.zeros_like(env.action_space.sample()))
            over = bool(terminated[0] or truncated[0])
        assert steps == envs_suite.get(f"gymnax-{name}").horizon(), (name, steps)


def check_levels_begin_on_the_floor() -> None:
    """XLand: with the most things and the least room, all of them are there and the agent stands on no wall."""
    for size, rooms in ((7, "1"), (7, "2"), (9, "4")):
        params = {"size": size, "rooms": rooms, "depth": 2, "distractors": 8}
        env = envs_suite.get("xland").make(params, num_envs=64).env
        env.reset(seed=0)
        state = env._state[0].state
        tiles, at = np.asarray(state.grid)[..., 0], np.asarray(state.agent.position)
        assert (tiles[np.arange(64), at[:, 0], at[:, 1]] == 1).all(), "not on the floor"
        lie = np.isin(tiles, [shape for shape, _ in TILES]).sum(axis=(1, 2))
        np.testing.assert_array_equal(lie, (env._task[2][..., 0] > 0).sum(axis=1))


def check_mazes_can_be_solved() -> None:
    env = _single("jumanji-maze")
    for seed in range(25):
        env.reset(seed=seed)
        state = _first(env)
        places = [(int(p.row), int(p.col)) for p in (state.agent_position, state.target_position)]
        way = _way(places[0], places[1], np.pad(state.walls, ((0, 1), (0, 1)), constant_values=True))
        for here, there in itertools.pairwise(way):
            action = MOVES.index((there[0] - here[0], there[1] - here[1]))
            _, reward, terminated, _, _ = env.step(np.array([action]))
        assert (float(reward[0]), bool(terminated[0])) == (1.0, True), seed


def check_minesweeper_is_numbered_row_by_row() -> None:
    """Whoever knows the mines opens all other cells: one for each, and the last one ends it."""
    env = _single("jumanji-minesweeper")
    env.reset(seed=4)
    mines = set(_first(env).flat_mine_locations.tolist())
    safe = [cell for cell in range(100) if cell not in mines]
    played = [env.step(np.array([cell])) for cell in safe]
    assert sum(float(reward[0]) for _, reward, *_ in played) == 90.0
    assert [bool(terminated[0]) for _, _, terminated, _, _ in played] == [False] * 89 + [True]
    env.reset(seed=4)
    _, reward, terminated, _, _ = env.step(np.array([min(mines)]))
    assert (float(reward[0]), bool(terminated[0])) == (0.0, True)


def check_cube_turns_have_inverses() -> None:
    """Actions of several parts are numbered with the last part fastest: a turn and its inverse are neighbours."""
    env = _single("jumanji-rubiks-cube-7")
    for face in range(6):
        before = env.reset(seed=face)[0][0, :-1]
        turned = env.step(np.array([3 * face]))[0][0, :-1]
        assert not np.array_equal(before, turned)
        np.testing.assert_array_equal(env.step(np.array([3 * face + 1]))[0][0, :-1], before)


def check_bad_input_is_one_line() -> None:
    refused(lambda: envs_suite.get("navix-lava-gap-s7").make({"size": 3}), "size", "takes none")
    refused(lambda: envs_suite.get("jumanji-maze").make(num_envs=0), "num_envs")
    assert isinstance(_single("jumanji-snake"), JumanjiVector)


if __name__ == "__main__":
    run_checks(globals())
