"""What only the family ``nethack`` has: dungeons, their ends and their calendar (run by its own Python)."""

from __future__ import annotations

import warnings

import gymnasium as gym
import numpy as np
from gymnasium.utils.env_checker import check_env
from run_checks import refused, run_checks

import envs_suite
from envs_suite.nethack_envs import NetHackTask, is_eval_dungeon
from envs_suite.nethack_tasks import FEW_MAPS, MINIHACK, NLE_TASKS


def check_gymnasium_accepts_them() -> None:
    for task in ("NetHackScore-v0", "MiniHack-Room-Random-5x5-v0"):
        check_env(NetHackTask(task, 100), skip_render_check=True)


def check_steps_are_the_packages() -> None:
    """The table's most steps are those of the packages' own tasks."""
    wanted = [(task, steps) for task, steps, _ in NLE_TASKS.values()] + list(MINIHACK.values())
    NetHackTask("MiniHack-River-v0", 10).close()  # registers them
    for task, steps in wanted:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            env = gym.make(task, disable_env_checker=True).unwrapped
        assert env._max_episode_steps == steps, (task, env._max_episode_steps)
        env.close()


def check_entries_without_new_maps_say_so() -> None:
    """An entry claims dungeons of its own for evaluation only where first screens are not the same few."""
    for name, (task, steps) in MINIHACK.items():
        env = NetHackTask(task, steps)
        screens = set()
        for seed in range(40):
            env.reset(seed=seed)
            screens.add(env.env.unwrapped.last_observation[0].tobytes())
        env.close()
        assert (len(screens) <= 4) == (name in FEW_MAPS), (name, len(screens))
        spec = envs_suite.get(f"minihack-{name}")
        assert spec.samples_tasks == (name not in FEW_MAPS) == ("as there are few" not in spec.description), (
            name
        )


def check_bad_input_is_one_line() -> None:
    refused(
        lambda: NetHackTask("MiniHack-Rivers-v0", 10),
        "MiniHack-Rivers-v0",
        "did you mean",
        "MiniHack-River-v0",
    )
    refused(lambda: NetHackTask("NetHackScore-v0", 10, view=4), "view", "odd")
    refused(lambda: NetHackTask("NetHackScore-v0", 0), "steps")


def check_steps_run_out() -> None:
    """Truncated, neither terminated nor a loss, after exactly so many steps."""
    env = NetHackTask("MiniHack-Corridor-R3-v0", 7)
    env.reset(seed=0)
    ends = [env.step(0) for _ in range(7)]
    assert [end[2:4] for end in ends] == [(False, False)] * 6 + [(False, True)]
    assert ends[-1][4]["AMAGO_LOG_METRIC success"] == 0.0


def check_success_is_reported() -> None:
    """Random walks in a small room find the stairs now and then: then, and only then, there is a reward of 1."""
    env = NetHackTask("MiniHack-Room-5x5-v0", 100)
    rng = np.random.default_rng(0)
    found = []
    for seed in range(20):
        env.reset(seed=seed)
        over, info, reward = False, {}, 0.0
        while not over:
            _, reward, terminated, truncated, info = env.step(int(rng.integers(env.action_space.n)))
            over = terminated or truncated
        found.append(info["AMAGO_LOG_METRIC success"])
        assert (found[-1] == 1.0) == (reward > 0.5)
    assert 0 < sum(found) < 20


def check_a_trap_is_no_success() -> None:
    """Memento ends by its trap (-1) or by a slain bug (1), and calls both successful: only the latter is one."""
    env = NetHackTask("MiniHack-Memento-Short-F2-v0", 5000)
    rng = np.random.default_rng(0)
    found = []
    for seed in range(20):
        env.reset(seed=seed)
        over, info, reward = False, {}, 0.0
        while not over:
            _, reward, terminated, truncated, info = env.step(int(rng.integers(env.action_space.n)))
            over = terminated or truncated
        found.append(info["AMAGO_LOG_METRIC success"])
        assert found[-1] == (reward > 0.5), reward
    assert 0 < sum(found) < 20, found


def check_dungeons_are_split() -> None:
    for split in ("train", "eval"):
        env = NetHackTask("MiniHack-Room-Random-5x5-v0", 50, split=split)
        numbers = set()
        for seed in range(12):
            env.reset(seed=seed)
            assert is_eval_dungeon(env.task, env.dungeon) == (split == "eval")
            numbers.add(env.dungeon)
        assert len(numbers) == 12
    env.reset(seed=1, options={"task_index": 4})
    fixed = env.dungeon
    env.reset(seed=2, options={"task_index": 4})
    assert env.dungeon == fixed


def check_a_long_game_twice() -> None:
    """2,000 random steps of a whole game, resets included, in two objects."""

    def play() -> list[float]:
        env = envs_suite.get("nethack-score").make({"character": "@"})
        rng = np.random.default_rng(3)
        obs, _ = env.reset(seed=11)
        seen = []
        for _ in range(2000):
            obs, reward, terminated, truncated, _ = env.step(rng.integers(env.action_size, size=(1, 1)))
            seen.append(float(reward[0]) + sum(float(v.sum()) for v in obs.values()))
            if terminated[0] or truncated[0]:
                env.reset()
        return seen

    assert play() == play()


if __name__ == "__main__":
    run_checks(globals())
