"""Dark key-to-door: tasks, and dynamics against a second implementation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import envs_suite
from envs_suite.key_door import RoomKeyDoor, RoomKeyDoorVector, RoomRules, best_doors, draw_task


def _naive_rollout(places: np.ndarray, order: np.ndarray, actions: list[int], n: int, inner: int) -> list:
    """Rows of (x, y, key, inner steps, reward): the rules told as a story, not as a state machine."""
    start, key, door = (tuple(p) for p in places)
    offsets = [(0, -1), (-1, 0), (0, 1), (1, 0), (0, 0)]
    rows: list[tuple] = []
    queue = list(actions)
    while queue:
        me, has = start, False
        for step in range(1, inner + 1):
            if not queue:
                return rows
            dx, dy = offsets[order[queue.pop(0)]]
            if 0 <= me[0] + dx < n and 0 <= me[1] + dy < n:
                me = (me[0] + dx, me[1] + dy)
            reward = 0.0
            entered = has
            if me == key and not has:
                has, reward = True, 1.0
            elif me == door and has:
                reward = 1.0
            rows.append((*me, has, step, reward))
            if entered and reward:
                break
        if queue:
            queue.pop(0)
            rows.append((*start, False, 0, 0.0))
    return rows


@pytest.mark.parametrize("shuffle", [False, True])
def test_dynamics(shuffle: bool) -> None:
    """Guards moves, walls, key, door, inner ends and reset steps against a naive story."""
    n, inner, total = 4, 11, 90
    rules = RoomRules(size=n, max_episode_steps=inner, meta_rollout_horizon=total, randomize_actions=shuffle)
    env = RoomKeyDoor(size=n, max_episode_steps=inner, meta_rollout_horizon=total, randomize_actions=shuffle)
    rng = np.random.default_rng(0)
    doors = 0
    for seed in range(60):
        env.reset(seed=seed)
        task = draw_task(rules, np.random.default_rng(seed), None)
        actions = rng.integers(5, size=total).tolist()
        wanted = _naive_rollout(task.places, task.order, actions, n, inner)
        assert len(wanted) == total
        for t, (action, (x, y, has, step, want)) in enumerate(zip(actions, wanted, strict=True)):
            obs, reward, terminated, _, info = env.step(action)
            np.testing.assert_allclose(obs, [x / n, y / n, has, step / inner], rtol=1e-6)
            assert reward == want
            assert terminated == (t == total - 1)
        rewards = sum(row[4] for row in wanted)
        assert info["AMAGO_LOG_METRIC doors"] + info["AMAGO_LOG_METRIC keys"] == rewards
        doors += info["AMAGO_LOG_METRIC doors"]
    assert doors > 10


def test_splits_share_no_room() -> None:
    """Guards that no (key, door) pair of training occurs in evaluation, and that both splits are used."""
    pairs = {}
    for split in ("train", "eval"):
        env = RoomKeyDoorVector(400, size=5, split=split)
        env.reset(seed=list(range(400)))
        pairs[split] = set(zip(env.key.tolist(), env.door.tolist(), strict=True))
    assert len(pairs["train"]) > 200
    assert len(pairs["eval"]) > 60
    assert not pairs["train"] & pairs["eval"]


def test_evaluation_tasks_are_fixed() -> None:
    """Guards that evaluation task i is one room (start, key, door, order of actions) whatever the seed."""
    env = RoomKeyDoorVector(40, randomize_actions=True, split="eval")
    tasks = []
    for seed in (0, 5):
        env.reset(seed=seed, options={"task_index": np.arange(40)})
        tasks.append([a.copy() for a in (env.start, env.key, env.door, env.moves)])
    for one, other in zip(*tasks, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len({r.tobytes() for r in np.stack(tasks[0][:3], axis=1)}) == 40


def test_light_room_shows_the_places() -> None:
    """Guards the light variant's observation: door, then key."""
    env = RoomKeyDoor(dark=False, size=5)
    obs, _ = env.reset(seed=3)
    np.testing.assert_allclose(obs[4:], np.array([*env.door, *env.key]) / 5, rtol=1e-6)


@pytest.mark.parametrize(("size", "attempt", "total"), [(3, 12, 60), (4, 4, 25), (5, 50, 7)])
def test_best_score_by_walking(size: int, attempt: int, total: int) -> None:
    """Guards the upper bound: the mean over all rooms, each walked step by step by an agent that knows it."""
    doors = []
    for places in itertools.product(range(size * size), repeat=3):
        start, key, door = (divmod(place, size) for place in places)
        at, has_key, over, inner, found = start, False, False, 0, 0
        for _ in range(total):
            if over:
                at, has_key, over, inner = start, False, False, 0
                continue
            goal = door if has_key else key
            axis = int(at[0] == goal[0])
            way = (goal[axis] > at[axis]) - (goal[axis] < at[axis])
            at = (at[0] + way, at[1]) if axis == 0 else (at[0], at[1] + way)
            inner += 1
            if at == goal:
                found, over, has_key = found + has_key, has_key, True
            over = over or inner >= attempt
        doors.append(found)
    assert best_doors(size, attempt, total) == pytest.approx(np.mean(doors))


def test_best_score_of_the_default() -> None:
    """Guards the registry's bound, which is the same number rounded."""
    assert round(best_doors(9, 50, 500), 1) == envs_suite.get("dark-key-to-door").best_possible
