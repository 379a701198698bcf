"""What only the family ``metaworld`` has: its benchmarks' tasks, hidden goals, attempts (run by its own Python)."""

from __future__ import annotations

import numpy as np
from gymnasium.utils.env_checker import check_env
from metaworld.env_dict import ML10_V3, ML45_V3
from run_checks import refused, run_checks

import envs_suite
from envs_suite.metaworld_envs import ATTEMPT_STEPS, MetaWorldTasks
from envs_suite.metaworld_tasks import ML10, ML45
from envs_suite.tasks import is_eval_task


def check_gymnasium_accepts_it() -> None:
    check_env(MetaWorldTasks(("reach", "push"), attempts=1), skip_render_check=True)


def check_tasks_are_the_packages() -> None:
    """The package's own lists, and none that is both trained on and evaluated."""
    for ours, theirs in ((ML10, ML10_V3), (ML45, ML45_V3)):
        for split, name in (("train", "train"), ("eval", "test")):
            assert {f"{task}-v3" for task in ours[split]} == set(theirs[name])
        assert not set(ours["train"]) & set(ours["eval"])


def check_bad_input_is_one_line() -> None:
    refused(lambda: MetaWorldTasks(("reech",)), "reech")
    refused(lambda: MetaWorldTasks(()), "at least one task")
    refused(lambda: MetaWorldTasks(("reach",), attempts=0), "attempt")
    ml1 = envs_suite.get("metaworld-ml1")
    refused(lambda: ml1.make({"task": "reech"}), "task", "reach")
    refused(lambda: ml1.make({"attempts": 0}), "attempts", "1 to 100")


def check_goals_are_split() -> None:
    """ML1: two actors get different goals, and evaluation's are never training's."""
    for split in ("train", "eval"):
        env = MetaWorldTasks(("reach",), attempts=1, split=split, split_goals=True)
        goals, places = set(), set()
        for seed in range(12):
            env.reset(seed=seed)
            assert is_eval_task(b"metaworld", b"reach", str(env.goal).encode()) == (split == "eval")
            goals.add(env.goal)
            places.add(tuple(np.round(env.env._target_pos, 6)))
        assert len(goals) == len(places) == 12


def check_evaluation_takes_turns() -> None:
    env = envs_suite.get("metaworld-ml10").make({"attempts": 1}, split="eval")
    names = []
    for task in range(6):
        env.reset(seed=task, options={"task_index": task})
        names += env.env_names
    assert names == [f"metaworld-ml10[attempts=1]/{ML10['eval'][i % 5]}" for i in range(6)]


def check_attempts_are_at_one_goal() -> None:
    """Two attempts of 500 steps, a reset step between them, one hidden goal, and the metrics of both."""
    env = MetaWorldTasks(("push",), attempts=2)
    obs, _ = env.reset(seed=3)
    assert (obs[36:39] == 0).all(), "the goal is shown"
    assert obs[39:].tolist() == [1.0, 0.0]
    goal = env.env._target_pos.copy()
    rng = np.random.default_rng(0)
    for step in range(2 * ATTEMPT_STEPS + 1):
        obs, _, terminated, truncated, info = env.step(rng.uniform(-1, 1, 4).astype(np.float32))
        assert not terminated and truncated == (step == 2 * ATTEMPT_STEPS)
        assert (obs[39] == 1.0) == (step == ATTEMPT_STEPS), "only the reset step begins an attempt"
        np.testing.assert_array_equal(env.env._target_pos, goal)
    logged = {key.removeprefix("AMAGO_LOG_METRIC "): value for key, value in info.items()}
    attempts = [logged["success_attempt_0"], logged["success_attempt_1"]]
    assert logged["success"] == np.mean(attempts) and logged["success_last"] == attempts[-1]


if __name__ == "__main__":
    run_checks(globals())
