"""What only the family ``procgen`` has: levels seen again, a build for every attempt (run by its own Python)."""

from __future__ import annotations

import numpy as np
from gymnasium.utils.env_checker import check_env
from run_checks import refused, run_checks

import envs_suite
from envs_suite.procgen_envs import ACTIONS, ProcgenGames, is_eval_level
from envs_suite.procgen_games import GAMES, MEMORY_GAMES, SETS


def check_numpy_is_the_old_one() -> None:
    """Why this family is apart: all of this runs with numpy 1.26."""
    assert np.__version__ == "1.26.4"


def check_gymnasium_accepts_them() -> None:
    check_env(ProcgenGames(["coinrun", "maze"]), skip_render_check=True)


def check_bad_input_is_one_line() -> None:
    refused(lambda: ProcgenGames(["coinrum"]), "coinrum", "did you mean", "coinrun")
    refused(lambda: ProcgenGames([]), "at least one game")
    refused(lambda: ProcgenGames(["maze"], attempts=0), "attempts")
    refused(lambda: ProcgenGames(["maze"], mode="huge"), "mode", "memory")
    refused(lambda: ProcgenGames(["maze"], levels=3), "levels", "at least 20")


def check_missing_libraries_are_one_line() -> None:
    """A slim system without libGL: what the loader says, and what to install."""
    env = ProcgenGames(["maze"])

    def fail(**keywords: object) -> None:
        raise OSError("libGL.so.1: cannot open shared object file: No such file or directory\nmore")

    env._build = fail
    refused(lambda: env.reset(seed=0), "libGL.so.1", "apt-get install libgl1")


def _to_the_end(env: ProcgenGames, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, bool]:
    """Random actions to the end of an attempt: the screen before, the last one, whether all is over."""
    seen = env.seen
    while True:
        before = seen
        seen, _, terminated, truncated, _ = env.step(int(rng.integers(ACTIONS)))
        assert not truncated
        if terminated or env.waiting:
            return before, seen, terminated


def check_attempts_are_at_one_level() -> None:
    """The same first screen but for the corner, and the same rewards for the same actions."""
    rng = np.random.default_rng(0)
    for game, mode in (("coinrun", "easy"), ("bigfish", "hard"), ("maze", "memory"), ("climber", "memory")):
        env = ProcgenGames([game], mode, attempts=2)
        first, _ = env.reset(seed=4)
        before, last, over = _to_the_end(env, rng)
        np.testing.assert_array_equal(before, last)
        assert not over
        again, reward, terminated, _, _ = env.step(0)
        assert (reward, terminated) == (0.0, False)
        assert (again[1:5, 1:5] == 0).all()
        outside = np.ones((64, 64), dtype=bool)
        outside[1:5, 1:5] = False
        np.testing.assert_array_equal(again[outside], first[outside])
        assert _to_the_end(env, rng)[2]


def check_one_level_whatever_was_before() -> None:
    """A fresh object and a used one play the same: nothing of an earlier build is left."""
    actions = np.random.default_rng(1).integers(ACTIONS, size=300)

    def play(env: ProcgenGames) -> list[float]:
        env.reset(seed=9)
        return [float(env.step(int(a))[0].sum()) for a in actions]

    used = ProcgenGames(["starpilot", "miner", "ninja"])
    first = play(used)
    for seed in range(5):
        used.reset(seed=seed)
        used.step(0)
    assert play(used) == first == play(ProcgenGames(["starpilot", "miner", "ninja"]))


def check_splits() -> None:
    for split in ("train", "eval"):
        env = ProcgenGames(["coinrun", "maze"], levels=100, split=split)
        levels = set()
        for seed in range(60):
            env.reset(seed=seed)
            assert is_eval_level(env.game, env.level) == (split == "eval")
            assert 0 <= env.level < 100
            levels.add(env.level)
        assert len(levels) > 10


def check_games_take_turns_in_evaluation() -> None:
    env = envs_suite.get("procgen-multi-game").make({"games": "memory", "mode": "memory"}, split="eval")
    names = []
    for task in range(6):
        env.reset(seed=task, options={"task_index": task})
        names += env.env_names
    assert [name.partition("/")[2] for name in names] == list(SETS["memory"]) == sorted(MEMORY_GAMES)


def check_metrics() -> None:
    """Returns of the attempts, and their place between the published bounds."""
    env = ProcgenGames(list(GAMES), attempts=2)
    rng = np.random.default_rng(5)
    for seed in range(4):
        env.reset(seed=seed)
        totals, info = [0.0], {}
        while not info:
            waiting = env.waiting
            _, reward, _, _, info = env.step(int(rng.integers(ACTIONS)))
            totals = [*totals, 0.0] if waiting else totals
            totals[-1] += reward
        logged = {key.removeprefix("AMAGO_LOG_METRIC "): value for key, value in info.items()}
        assert [logged["return_attempt_0"], logged["return_attempt_1"]] == totals
        low, high = GAMES[env.game].easy
        assert np.isclose(logged["normalised"], (np.mean(totals) - low) / (high - low))


if __name__ == "__main__":
    run_checks(globals())
