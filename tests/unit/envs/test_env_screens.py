"""Atari, retro, Procgen and NetHack as far as they can be checked without their packages."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

import envs_suite
from amago.errors import ConfigurationError
from envs_suite import atari_games, nethack_tasks, procgen_games
from envs_suite.nethack_envs import PLANES, buckets, is_eval_dungeon, is_success, planes
from envs_suite.procgen_envs import is_eval_level

#: Module of each family, and an id of it.
FAMILIES = {
    "ale_py": ("atari", "atari-pong"),
    "stable_retro": ("atari", "retro"),
    "procgen": ("procgen", "procgen-multi-game"),
    "minihack": ("nethack", "minihack-river"),
    "nle": ("nethack", "nethack-score"),
}


@pytest.mark.parametrize("module", FAMILIES)
def test_a_missing_family_is_one_line(module: str) -> None:
    """Guards the message of an environment whose family is not installed here: it has the command."""
    if importlib.util.find_spec(module) is not None:
        pytest.skip(f"{module} is installed in this environment")
    family, env_id = FAMILIES[module]
    with pytest.raises(ConfigurationError, match=f"make family-{family}") as caught:
        envs_suite.get(env_id).make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("env_id", "params", "words"),
    [
        ("atari-pong", {"size": 0}, ["size", "16 to 160"]),
        ("atari-pong", {"sticky": 1.5}, ["sticky", "0 to 0.99"]),
        ("atari-pong", {"game": "breakout"}, ["game"]),
        ("atari-multi-game", {"games": 26}, ["games", "one of four, '26', '57'", "got 26"]),
        ("atari-multi-game", {"minimal_actions": True}, ["minimal_actions"]),
        ("retro", {"game": 3}, ["game", "a text"]),
        ("retro", {"frames": 0}, ["frames", "60 to"]),
        ("procgen-coinrun", {"mode": "memory"}, ["mode", "one of easy, hard"]),
        ("procgen-maze", {"attempts": 0}, ["attempts", "1 to 100"]),
        ("procgen-multi-game", {"levels": 5}, ["levels", "at least 20"]),
        ("nethack-score", {"view": 8}, ["view", "odd"]),
        ("nethack-score", {"character": "elf"}, ["character", "mon-hum-neu-mal"]),
        ("minihack-river", {"steps": 0}, ["steps", "1 to"]),
    ],
)
def test_bad_parameters_are_one_line(env_id: str, params: dict, words: list[str]) -> None:
    """Guards bad input: found by the registry, before any package is asked."""
    with pytest.raises(ConfigurationError) as caught:
        envs_suite.get(env_id).make(params)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_unknown_games_suggest_the_nearest() -> None:
    """Guards misspelt ids of the large families."""
    with pytest.raises(ConfigurationError, match=r"did you mean.*atari-breakout"):
        envs_suite.get("atari-brekout")
    with pytest.raises(ConfigurationError, match=r"did you mean.*procgen-starpilot"):
        envs_suite.get("procgen-starpilots")
    with pytest.raises(ConfigurationError, match=r"did you mean.*minihack-river"):
        envs_suite.get("minihack-rivers")


def test_tables() -> None:
    """Guards the tables of games: how many there are, bounds in order, sets within them, every game an entry."""
    assert len(atari_games.GAMES) == 57
    assert all(low < high for low, high in atari_games.GAMES.values())
    assert {name: len(games) for name, games in atari_games.SETS.items()} == {"four": 4, "26": 26, "57": 57}
    assert len(procgen_games.GAMES) == 16
    for mode in procgen_games.MODES:
        assert all(low < high for low, high in (procgen_games.bounds(g, mode) for g in procgen_games.GAMES))
    for table in (atari_games, procgen_games):
        assert all(set(games) <= set(table.GAMES) for games in table.SETS.values())
    ids = set(envs_suite.ids())
    assert {f"atari-{name.replace('_', '-')}" for name in atari_games.GAMES} <= ids
    assert {f"procgen-{name}" for name in procgen_games.GAMES} <= ids
    assert {f"nethack-{name}" for name in nethack_tasks.NLE_TASKS} <= ids
    assert {f"minihack-{name}" for name in nethack_tasks.MINIHACK} <= ids


def test_horizons() -> None:
    """Guards horizons that follow from parameters: frames by frame skip, attempts with reset steps between."""
    assert envs_suite.get("atari-pong").horizon() == 27_000
    assert envs_suite.get("atari-pong").horizon({"frames": 61, "frame_skip": 4}) == 16
    assert envs_suite.get("procgen-multi-game").horizon() == 2001
    assert envs_suite.get("nethack-score").horizon({"steps": 70}) == 70


def test_splits_are_stable() -> None:
    """Guards the hashes: a change would mix training and evaluation of older runs."""
    assert [level for level in range(30) if is_eval_level("coinrun", level)] == EVAL_LEVELS
    assert [n for n in range(30) if is_eval_dungeon("NetHackScore-v0", n)] == EVAL_DUNGEONS


EVAL_LEVELS = [1, 6, 8, 9, 16, 17, 22, 23, 24, 27]
EVAL_DUNGEONS = [2, 3, 11, 17, 21, 24, 27, 28]


def test_view_by_hand() -> None:
    """Guards NetHack's view: the agent in the middle, its neighbours' symbols and colours, dark beyond the map."""
    chars = np.full((21, 79), ord("."), dtype=np.uint8)
    colours = np.full((21, 79), 7, dtype=np.uint8)
    chars[0, 0], colours[0, 0] = ord("@"), 15
    chars[0, 1], colours[0, 1] = ord("d"), 1
    chars[1, 0] = ord("[")
    seen = planes(chars, colours, 0, 0, 3).reshape(3, 3, PLANES)
    kinds = nethack_tasks.SYMBOLS
    assert (seen[..., : len(kinds) + 1].sum(axis=2) == 1).all()
    assert seen[1, 1, kinds.index("@")] == 1
    assert seen[1, 1, -4:].tolist() == [1, 1, 1, 1]
    assert seen[1, 2, kinds.index("abcdefghijklmnopqrstuvwxyz")] == 1
    assert seen[1, 2, -4:].tolist() == [1, 0, 0, 0]
    assert seen[2, 1, len(kinds)] == 1  # a thing
    assert seen[2, 2, kinds.index(".")] == 1
    assert (seen[0, :, kinds.index(" ")] == 1).all()
    assert (seen[:, 0, kinds.index(" ")] == 1).all()


def test_messages_are_sets_of_words() -> None:
    """Guards messages: neither case, order nor punctuation matters, other words do."""
    np.testing.assert_array_equal(buckets("You see here a dagger."), buckets("a dagger, HERE you see"))
    assert (buckets("It's a wall.") != buckets("The door opens.")).any()
    assert buckets("").sum() == 0


def test_an_end_that_costs_is_no_success() -> None:
    """Guards MiniHack's success: Memento's trap ends an episode as "successful" (2), with a reward of -1."""
    assert is_success(2, 1.0) and is_success(2, 0.98)
    assert not is_success(2, -1.0)
    assert not is_success(1, 0.0) and not is_success(0, 0.5)
