"""MiniGrid and multi-task BabyAI. Needs minigrid, except for the tests of tokens and of its absence."""

from __future__ import annotations

import contextlib
import io
import math
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs_suite
from amago.errors import ConfigurationError
from envs_suite.minigrid_envs import MISSION_LENGTH, MiniGridTasks, is_eval_level, one_hot, tokens
from envs_suite.minigrid_tasks import BABYAI, BABYAI_SMALL, BABYAI_TASKS, MINIGRID, WORDS

try:
    import minigrid  # noqa: F401

    HAS_MINIGRID = True
except ImportError:
    HAS_MINIGRID = False

played = pytest.mark.skipif(not HAS_MINIGRID, reason="needs minigrid")
MEMORY = "MiniGrid-MemoryS7-v0"
EMPTY = "MiniGrid-Empty-5x5-v0"


def _play(env: MiniGridTasks, seed: int, actions: np.ndarray, task_index: int | None = None) -> list:
    obs, _ = env.reset(seed=seed, options={"task_index": task_index})
    seen = [{k: v.tolist() for k, v in obs.items()}]
    for action in actions:
        obs, *rest = env.step(int(action))
        seen += [{k: v.tolist() for k, v in obs.items()}, rest]
        if rest[1] or rest[2]:
            break
    return seen


def test_tokens() -> None:
    """Guards the tokens: one a word, commas dropped, 1 for a word that is not known, cut at the length."""
    want = [WORDS.index(w) + 2 for w in ("open", "the", "red", "door", "then")] + [1]
    assert tokens("Open the red door, then whistle").tolist() == want + [0] * (MISSION_LENGTH - 6)
    assert tokens("go " * 40).tolist() == [WORDS.index("go") + 2] * MISSION_LENGTH
    assert len(set(WORDS)) == len(WORDS)
    assert list(WORDS) == sorted(WORDS)


def test_one_hot() -> None:
    """Guards the layout of flat one-hots: the parts of a cell side by side, cell after cell."""
    flat = one_hot(np.array([[1, 0], [0, 2]]), (2, 3))
    assert flat.tolist() == [0, 1, 1, 0, 0, 1, 0, 0, 0, 1]
    assert flat.dtype == np.uint8


@played
@pytest.mark.parametrize("encoding", ["one-hot", "symbols"])
@pytest.mark.parametrize("attempts", [1, 2])
def test_gymnasium_accepts_it(encoding: str, attempts: int) -> None:
    """Guards the interface in all its forms: gymnasium's own checker passes without a warning of ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_env(MiniGridTasks([MEMORY], attempts, encoding), skip_render_check=True)


@played
def test_same_seed_same_episode() -> None:
    """Guards determinism, in a used object and with chance in the moves (moving obstacles)."""
    rng = np.random.default_rng(0)
    for task in (MEMORY, "MiniGrid-Dynamic-Obstacles-5x5-v0", "BabyAI-GoToLocal-v0"):
        used = MiniGridTasks([task], 2)
        for seed in range(3):
            actions = rng.integers(7, size=150)
            first = _play(used, seed, actions)
            assert _play(used, seed, actions) == first
            assert _play(MiniGridTasks([task], 2), seed, actions) == first


@played
def test_sees_what_the_package_shows() -> None:
    """Guards both encodings against the package stepped by hand on the same level."""
    symbols, flat = MiniGridTasks([MEMORY], 1, "symbols"), MiniGridTasks([MEMORY])
    obs, _ = symbols.reset(seed=3)
    flat_obs, _ = flat.reset(seed=3)
    theirs = gym.make(MEMORY)
    raw, _ = theirs.reset(seed=symbols.level)
    rng = np.random.default_rng(0)
    for _ in range(40):
        np.testing.assert_array_equal(obs["image"], raw["image"])
        np.testing.assert_array_equal(obs["mission"], tokens(raw["mission"]))
        assert obs["extra"].argmax() == raw["direction"]
        cells = flat_obs["image"].reshape(7, 7, 21)
        for part, (start, stop) in enumerate(((0, 11), (11, 17), (17, 21))):
            np.testing.assert_array_equal(cells[..., start:stop].argmax(axis=-1), raw["image"][..., part])
        words = flat_obs["mission"].reshape(MISSION_LENGTH, len(WORDS) + 2)
        np.testing.assert_array_equal(words.argmax(axis=1), obs["mission"])
        action = int(rng.integers(3))
        obs, reward, terminated, truncated, _ = symbols.step(action)
        flat_obs, *_ = flat.step(action)
        raw, want, want_terminated, want_truncated, _ = theirs.step(action)
        assert (reward, terminated, truncated) == (want, want_terminated, want_truncated)
        if terminated or truncated:
            break


@played
def test_attempts() -> None:
    """Guards attempts: one level, a reset step between them, the metrics, and a termination after the last."""
    env = MiniGridTasks([EMPTY], 3)
    way = [2, 2, 1, 2, 2]  # to the goal of the empty 5 x 5 room
    start, _ = env.reset(seed=0)
    for attempt in range(3):
        for i, action in enumerate(way):
            obs, reward, terminated, truncated, info = env.step(action)
            assert (reward > 0) == (i == len(way) - 1)
        assert (terminated, truncated) == (attempt == 2, False)
        assert obs["extra"][4] == np.float32((attempt + 1) / 3)
        if attempt < 2:
            assert info == {}
            obs, reward, terminated, _, _ = env.step(2)
            np.testing.assert_array_equal(obs["image"], start["image"])
            assert (reward, terminated) == (0.0, False)
    assert {k.removeprefix("AMAGO_LOG_METRIC "): v for k, v in info.items()} == {
        "success_attempt_0": 1.0,
        "success_attempt_1": 1.0,
        "success_attempt_2": 1.0,
        "success": 1.0,
        "success_last": 1.0,
    }


@played
def test_time_is_up() -> None:
    """Guards the ends: out of steps, one attempt is truncated and several are terminated, as failures."""
    for attempts in (1, 2):
        env = MiniGridTasks([EMPTY], attempts)
        env.reset(seed=0)
        steps = 0
        while True:
            steps += 1
            _, _, terminated, truncated, info = env.step(0)
            if terminated or truncated:
                break
        assert (terminated, truncated) == ((False, True) if attempts == 1 else (True, False))
        assert info["AMAGO_LOG_METRIC success"] == 0.0
        assert steps == attempts * 100 + attempts - 1


@played
def test_splits_are_disjoint_and_evaluation_is_fixed() -> None:
    """Guards the split of levels, fixed evaluation levels whatever the seed, and balance over tasks."""
    train, held_out = MiniGridTasks(BABYAI_SMALL, 2), MiniGridTasks(BABYAI_SMALL, 2, split="eval")
    levels = set()
    for seed in range(60):
        train.reset(seed=seed)
        held_out.reset(seed=seed)
        assert not is_eval_level(train.task, train.level)
        assert is_eval_level(held_out.task, held_out.level)
        levels.add((train.task, train.level))
    assert len(levels) == 60
    played_tasks = []
    for index in range(2 * len(BABYAI_SMALL)):
        held_out.reset(seed=index, options={"task_index": index})
        first = (held_out.task, held_out.level)
        assert is_eval_level(*first)
        held_out.reset(seed=1000, options={"task_index": np.array([index])})
        assert (held_out.task, held_out.level) == first
        played_tasks.append(first[0])
    assert all(played_tasks.count(task) == 2 for task in BABYAI_SMALL)


@played
@pytest.mark.parametrize("name", sorted(MINIGRID))
def test_entries_without_new_levels_say_so(name: str) -> None:
    """Guards `samples_tasks`: an entry claims levels of its own for evaluation only where levels hardly ever repeat."""
    env = gym.make(MINIGRID[name][0], disable_env_checker=True).unwrapped
    levels = set()
    for seed in range(400):
        env.reset(seed=seed)
        levels.add((env.grid.encode().tobytes(), tuple(env.agent_pos), env.agent_dir, env.mission))
    spec = envs_suite.get(f"minigrid-{name}")
    assert spec.samples_tasks == (len(levels) >= 399)
    assert ("as there are few" in spec.description) != spec.samples_tasks


@played
def test_beginnings_with_obstacles_are_as_many_as_the_entry_says() -> None:
    """Guards the note on Dynamic-Obstacles: agent and goal have fixed places, and equal balls lie on free cells."""
    from minigrid.core.constants import OBJECT_TO_IDX

    env = gym.make(MINIGRID["dynamic-obstacles-8x8"][0], disable_env_checker=True).unwrapped
    fixed, balls = set(), set()
    for seed in range(20):
        env.reset(seed=seed)
        kinds = env.grid.encode()[..., 0]
        fixed.add((*env.agent_pos, env.agent_dir, *np.argwhere(kinds == OBJECT_TO_IDX["goal"])[0]))
        balls.add(env.grid.encode()[kinds == OBJECT_TO_IDX["ball"]].tobytes())
    assert len(fixed) == len(balls) == 1
    free = (
        (kinds == OBJECT_TO_IDX["empty"]).sum() + env.n_obstacles - 1
    )  # a ball hides a cell; the agent has one
    beginnings = f"{math.comb(int(free), env.n_obstacles):,}"
    assert (
        f"there are {beginnings} beginnings" in envs_suite.get("minigrid-dynamic-obstacles-8x8").description
    )


def test_each_episode_is_named_after_its_task() -> None:
    """Guards the column ``task``: BabyAI's tasks by name; a single task needs none."""
    spec = envs_suite.get("babyai")
    env = spec.make({"tasks": "small"})
    tasks = env.unwrapped.tasks
    for index in (0, len(tasks) - 1, len(tasks)):
        env.reset(options={"task_index": index})
        assert env.env_names == [f"{spec.name({'tasks': 'small'})}/{tasks[index % len(tasks)]}"]
    alone = envs_suite.get("minigrid-memory-s7").make()
    alone.reset(seed=0)
    assert alone.env_names == ["minigrid-memory-s7"]


def test_words_and_horizons() -> None:
    """Guards the tables: every offered task exists, knows its words, and fits its length and steps."""
    offered = [(task, steps) for task, steps in MINIGRID.values()]
    offered += [(task, 72 if task in BABYAI_SMALL else 1080) for task in BABYAI_TASKS]
    for task, steps in offered:
        env = gym.make(task, disable_env_checker=True).unwrapped
        for seed in range(4):
            with contextlib.redirect_stdout(io.StringIO()):
                obs, _ = env.reset(seed=seed)
            words = obs["mission"].lower().replace(",", " ").split()
            assert 1 not in tokens(obs["mission"]), obs["mission"]
            assert len(words) <= MISSION_LENGTH, obs["mission"]
            assert env.max_steps <= steps, task


def test_absence_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the error without minigrid: one line with the command, from the registry and from the class."""
    monkeypatch.setitem(sys.modules, "minigrid", None)
    for make in (envs_suite.get("babyai").make, lambda: MiniGridTasks([MEMORY])):
        with pytest.raises(ConfigurationError, match=r"minigrid.*install family 'core' with: make "):
            make()


def test_bad_settings() -> None:
    """Guards the errors for no task, no attempt and an unknown encoding."""
    with pytest.raises(ConfigurationError, match="at least one task"):
        MiniGridTasks([])
    with pytest.raises(ConfigurationError, match="one attempt"):
        MiniGridTasks([MEMORY], 0)
    with pytest.raises(ConfigurationError, match="encoding"):
        MiniGridTasks([MEMORY], 1, "pixels")
    with pytest.raises(ConfigurationError, match="one of all, small"):
        envs_suite.get("babyai").check({"tasks": "some"})
    assert envs_suite.get("babyai").horizon({"tasks": "small"}) == 2 * BABYAI["small"][1] + 1


@played
def test_unknown_tasks() -> None:
    """Guards the error for a task that the package has not got."""
    with pytest.raises(ConfigurationError, match="MemoryS8"):
        MiniGridTasks(["MiniGrid-MemoryS8-v0"])
