"""Meta-FrozenLake: maps, splits, and dynamics against a second implementation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from envs_suite import frozen_lake
from envs_suite.frozen_lake import (
    LakeRules,
    MetaFrozenLake,
    draw_episode,
    draw_map,
    is_eval_map,
    solvable,
)
from envs_suite.frozen_lake_vector import MetaFrozenLakeVector, all_solvable


def _reached(holes: np.ndarray) -> np.ndarray:
    """(n, n) bool: by spreading over the grid until nothing changes: slow, and unlike the real search."""
    n = len(holes)
    wet = np.zeros((n, n), dtype=bool)
    wet[0, 0] = True
    for _ in range(n * n):
        grown = wet.copy()
        grown[1:] |= wet[:-1]
        grown[:-1] |= wet[1:]
        grown[:, 1:] |= wet[:, :-1]
        grown[:, :-1] |= wet[:, 1:]
        wet = grown & ~holes
    return wet


def _reachable(holes: np.ndarray) -> bool:
    return bool(_reached(holes)[-1, -1])


def test_solvable_on_every_small_map() -> None:
    """Guards the search for a path on all 3 x 3 maps and on random larger ones."""
    for bits in itertools.product([False, True], repeat=7):
        holes = np.array([False, *bits, False]).reshape(3, 3)
        assert solvable(holes) == _reachable(holes) == all_solvable(holes[None])[0]
    rng = np.random.default_rng(0)
    for n in (4, 6, 8, 9):  # from 9 on a map has more cells than a word has bits
        maps = rng.random((100, n, n)) < 0.4
        maps[:, 0, 0] = maps[:, -1, -1] = False
        wanted = [_reachable(holes) for holes in maps]
        assert [solvable(holes) for holes in maps] == wanted == all_solvable(maps).tolist()
        assert 5 < sum(wanted) < 95


@pytest.mark.parametrize("size", [3, 5, 10])
def test_splits_are_disjoint_and_solvable(size: int) -> None:
    """Guards that a map is drawn in training or in evaluation, never both, and always solvable."""
    rng = np.random.default_rng(size)
    drawn = {s: [draw_map(rng, size, s) for _ in range(200)] for s in ("train", "eval")}
    keys = {s: {m.tobytes() for m in maps} for s, maps in drawn.items()}
    assert not keys["train"] & keys["eval"]
    assert all(_reachable(m) for maps in drawn.values() for m in maps)
    assert all(is_eval_map(m) for m in drawn["eval"])
    if size > 3:
        frozen = 1 - np.mean([m.mean() for m in drawn["train"]])
        assert 0.75 < frozen < 0.95


def test_as_many_maps_have_a_twin_as_the_docstring_says() -> None:
    """Guards the note on maps that play alike, by all maps of side 3 and how often each is drawn."""
    shares: dict[str, dict[bytes, float]] = {"train": {}, "eval": {}}  # what can be reached -> how often
    for cells in itertools.product([False, True], repeat=7):
        holes = np.array([False, *cells, False]).reshape(3, 3)
        if _reachable(holes):
            part = shares["eval" if is_eval_map(holes) else "train"]
            plays = _reached(holes).tobytes()
            part[plays] = part.get(plays, 0.0) + 0.2 ** sum(cells) * 0.8 ** (7 - sum(cells))
    twins = sum(share for plays, share in shares["eval"].items() if plays in shares["train"])
    assert twins / sum(shares["eval"].values()) == pytest.approx(0.026, abs=0.0005)
    assert "2.6 % for n = 3" in (frozen_lake.__doc__ or "")


def test_the_split_is_stable() -> None:
    """Guards the hash: another Python or numpy must not move maps between the splits."""
    empty = [np.zeros((n, n), dtype=bool) for n in range(3, 13)]
    assert [is_eval_map(m) for m in empty] == EMPTY_MAPS_IN_EVAL


#: n = 3 .. 12, from blake2b; a change here silently mixes training and evaluation of older runs.
EMPTY_MAPS_IN_EVAL = [False, True, False, True, False, False, False, False, False, True]


def test_evaluation_tasks_are_fixed() -> None:
    """Guards that evaluation task i is one map whatever the seed, that tasks differ, and swaps alternate."""
    env = MetaFrozenLakeVector(30, 6, hard_mode=True, split="eval")
    env.reset(seed=1, options={"task_index": np.arange(30)})
    lakes, swaps = env.lake.copy(), env.swapped.copy()
    env.reset(seed=99, options={"task_index": np.arange(30)})
    np.testing.assert_array_equal(env.lake, lakes)
    np.testing.assert_array_equal(swaps, np.arange(30) % 2)
    assert len({m.tobytes() for m in lakes}) == 30


def test_different_actors_get_different_tasks() -> None:
    """Guards sampling in training: actors with different seeds do not share a map, nor do episodes."""
    env = MetaFrozenLakeVector(50, 8)
    env.reset(seed=list(range(50)))
    first = {m.tobytes() for m in env.lake}
    env.reset()
    second = {m.tobytes() for m in env.lake}
    assert len(first) > 45
    assert len(first & second) < 5


class NaiveLake:
    """A lake as a set of open cells; told what chance decided at every step."""

    def __init__(self, rules: LakeRules, holes: np.ndarray, swapped: bool) -> None:
        n = rules.size
        self.rules, self.first_holes = rules, {(x, y) for x in range(n) for y in range(n) if holes[x, y]}
        down, right = (1, 3) if not swapped else (3, 1)
        self.arrows = {0: "stay", down: "down", 2: "up", right: "right", 4: "left"}
        self.done_attempts: list[bool] = []
        self.restart()

    def restart(self) -> None:
        self.me, self.used, self.holes = (0, 0), 0, set(self.first_holes)

    def act(self, action: int, slip: int, opens: bool) -> float:
        if slip and action:
            action = slip
        n, (x, y) = self.rules.size, self.me
        to = {"stay": (x, y), "down": (x + 1, y), "up": (x - 1, y), "right": (x, y + 1), "left": (x, y - 1)}
        target = to[self.arrows[action]]
        if not (0 <= target[0] < n and 0 <= target[1] < n):
            target = self.me
        self.used += 1
        limit = n * n * (2 if self.rules.hard_mode else 1) / (1 - self.rules.slip)
        if target != self.me and target in self.holes:
            if self.rules.recover_mode:
                if self.used >= limit:
                    self.end(False)
                return -0.1
            self.end(False)
            return 0.0
        if target != self.me and opens:
            self.holes.add(self.me)
        self.me = target
        if target == (n - 1, n - 1):
            self.end(True)
            return 1.0
        if self.used >= limit:
            self.end(False)
        return 0.0

    def end(self, success: bool) -> None:
        self.done_attempts.append(success)
        self.restart()


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("recover", [False, True])
@pytest.mark.parametrize("slip", [0.0, 0.25])
def test_dynamics(hard: bool, recover: bool, slip: float) -> None:
    """Guards moves, holes, rewards, limits, resets and metrics against a naive lake, in every mode."""
    rules = LakeRules(3, 4, hard, recover, slip)
    env = MetaFrozenLake(3, 4, hard, recover, slip)
    rng = np.random.default_rng(7)
    reached = 0
    for seed in range(60):
        obs, _ = env.reset(seed=seed)
        chance = draw_episode(rules, np.random.default_rng(seed), None)
        naive = NaiveLake(rules, chance.holes, chance.swapped)
        for t in range(rules.horizon):
            before = len(naive.done_attempts)
            if not hard or not chance.displaced[t].any():
                np.testing.assert_allclose(obs[:2], np.array(naive.me) / 3)
            else:
                assert np.abs(obs[:2] - np.array(naive.me) / 3).max() < 0.34
            action = int(rng.integers(5)) if rng.random() < 0.4 else int(rng.choice([1, 3]))
            want = naive.act(action, int(chance.slips[t]), bool(chance.opens[t]))
            obs, reward, terminated, _, info = env.step(action)
            assert reward == want
            assert obs[2] == (len(naive.done_attempts) > before)
            assert obs[3] == pytest.approx(len(naive.done_attempts) / 4)
            assert terminated == (len(naive.done_attempts) == 4)
            if terminated:
                break
        assert terminated
        logged = {k.removeprefix("AMAGO_LOG_METRIC "): v for k, v in info.items()}
        assert [logged[f"success_attempt_{i}"] for i in range(4)] == naive.done_attempts
        assert logged["success"] == np.mean(naive.done_attempts)
        assert logged["success_last"] == naive.done_attempts[-1]
        reached += sum(naive.done_attempts)
    assert reached > 0


def test_limits() -> None:
    """Guards attempt limits: n^2, twice that in hard mode, divided by 1 - slip; horizon = k times that."""
    assert LakeRules(5, 3).attempt_limit == 25
    assert LakeRules(5, 3, hard_mode=True).attempt_limit == 50
    assert LakeRules(5, 3, slip=0.5).attempt_limit == 50
    assert LakeRules(3, 2, slip=0.1).horizon == 20
    env = MetaFrozenLakeVector(2, 5, 3)
    env.reset(seed=0)
    steps = 1
    while not env.step(np.zeros(2, dtype=int))[2].all():
        steps += 1
    assert steps == 75


def test_chances() -> None:
    """Guards the probabilities: swap 1/2, displacement 1/4, holes behind 1/3, slip as asked."""
    rules = LakeRules(4, 10, hard_mode=True, slip=0.2)
    episodes = [draw_episode(rules, np.random.default_rng(i), None) for i in range(300)]
    assert np.mean([e.swapped for e in episodes]) == pytest.approx(0.5, abs=0.09)
    assert np.mean([e.opens.mean() for e in episodes]) == pytest.approx(1 / 3, abs=0.01)
    assert np.mean([(e.slips > 0).mean() for e in episodes]) == pytest.approx(0.2, abs=0.01)
    # A displacement of (0, 0) is one of the nine that are drawn.
    moved = np.mean([e.displaced.any(axis=1).mean() for e in episodes])
    assert moved == pytest.approx(0.25 * 8 / 9, abs=0.01)
