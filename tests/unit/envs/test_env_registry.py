"""The registry: ids, parameters, errors, and what each entry declares."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings

import numpy as np
import pytest

import envs_suite
from amago.errors import ConfigurationError
from envs_suite.registry import EnvSpec
from tests.families.in_family import check_one

WRITTEN_HERE = [
    "dark-key-to-door",
    "half-cheetah-velocity",
    "maze-runner",
    "meta-frozen-lake",
    "symbolic-alchemy",
    "tmaze-active",
    "tmaze-passive",
]

#: Beginnings of the ids whose episodes can be cut off by time, which is no terminal state.
ENDED_BY_TIME = ("gym-", "half-cheetah", "minigrid-")
#: And of those whose episodes can end before the horizon.
ENDED_EARLY = ("babyai", "gym-", "minigrid-", "multidomain-")


def test_ids() -> None:
    """Guards the list of ids: sorted, lower case with hyphens, all 48 of POPGym and those written here."""
    ids = envs_suite.ids()
    assert ids == sorted(ids)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", i) for i in ids)
    assert sum(i.startswith("popgym-") for i in ids) == 48
    assert set(WRITTEN_HERE) <= set(ids)


@pytest.mark.parametrize("env_id", envs_suite.ids())
def test_entries_are_complete(env_id: str) -> None:
    """Guards every entry: a score with bounds and their source, a licence, a horizon, sane defaults."""
    spec = envs_suite.get(env_id)
    assert spec.id == env_id
    assert spec.score.low < spec.score.high
    assert spec.score_for() == spec.score
    assert spec.score.source
    assert spec.licence
    assert spec.family
    assert spec.description.endswith(".")
    assert spec.check() == spec.params
    assert spec.horizon() >= 1
    assert spec.name() == env_id
    if spec.best_possible is not None and spec.random_score is not None:
        worse, better = spec.random_score.mean, spec.best_possible
        if spec.score.direction == "lower":
            worse, better = better, worse
        assert worse < better
    assert spec.random_score is not None, "measure it: benchmarks/random_policies.py --write"


@pytest.mark.parametrize(
    ("env_id", "params", "low", "high", "words"),
    [
        ("procgen-starpilot", {"mode": "hard"}, 1.5, 35.0, "hard mode (Cobbe"),
        ("procgen-heist", {"mode": "memory"}, 2.0, 10.0, "memory mode has none"),
        ("procgen-starpilot", {"levels": 250}, 2.5, 64.0, "easy mode"),
        ("half-cheetah-velocity", {"min_velocity": 1.0, "max_velocity": 2.0}, 0.0, 1.5, "on 1 to 2"),
        ("half-cheetah-velocity", {"max_velocity": 10}, 0.0, 5.0, "on 0 to 10"),
        ("symbolic-alchemy", {"trials": 5}, 0.0, 144.28, "in proportion for 5"),
        ("symbolic-alchemy", {"rotations": False}, 0.0, 288.56, "default parameters"),
        ("symbolic-alchemy", {"bottlenecks": False}, 0.0, 316.88, "no bottlenecks"),
        ("symbolic-alchemy", {"bottlenecks": False, "trials": 1}, 0.0, 31.688, "in proportion for 1"),
        ("symbolic-alchemy", {"steps_per_trial": 15}, 0.0, 288.56, "default parameters"),
        ("symbolic-alchemy", {"steps_per_trial": 14}, 0.0, 288.56, "out of reach in 14 steps"),
        ("dark-key-to-door", {"total_steps": 1000}, 0.0, 88.873, "all rooms"),
        ("dark-key-to-door", {"dark": False}, 0.0, 44.1, "default parameters"),
    ],
)
def test_bounds_move_with_parameters(env_id: str, params: dict, low: float, high: float, words: str) -> None:
    """Guards normalised scores: parameters that move what is possible move the bounds, and others do not."""
    score = envs_suite.get(env_id).score_for(params)
    assert (score.low, score.high) == pytest.approx((low, high), abs=0.001)
    assert words in score.source


@pytest.mark.parametrize("env_id", [i for i in envs_suite.ids() if envs_suite.get(i).family == "core"])
def test_as_every_other_family(env_id: str) -> None:
    """Guards the core's entries with the checks of all other families: gymnasium's checker, 1,000 random steps within
    spaces and horizon, one seed one episode in used and fresh objects, own tasks for actors, fixed ones in evaluation."""
    spec = envs_suite.get(env_id)
    try:
        spec.check_installed()
    except ConfigurationError as error:
        pytest.skip(str(error))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what gymnasium's checker would like of other people's spaces
        check_one(spec)


@pytest.mark.parametrize("env_id", envs_suite.ids())
def test_made_as_declared(env_id: str) -> None:
    """Guards horizon and score: an episode ends within the horizon and logs the score's metric."""
    spec = envs_suite.get(env_id)
    try:
        spec.check_installed()
    except ConfigurationError as error:
        pytest.skip(f"not installed here (tests/families has the other families): {error}")
    n = 3 if spec.vectorised else 1
    env = spec.make(num_envs=n)
    assert (env.batched_envs, env.env_name) == (n, env_id)
    obs, _ = env.reset(seed=list(range(n)))
    rng = np.random.default_rng(0)
    steps = 0
    while steps < spec.horizon():
        steps += 1
        action = (
            rng.integers(env.action_size, size=(n, 1)) if env.discrete else np.zeros((n, env.action_size))
        )
        obs, _, terminated, truncated, info = env.step(action)
        for key, space in env.observation_space.spaces.items():
            assert all(space.contains(row) for row in obs[key])
        if (terminated | truncated).any():
            break
    assert (terminated | truncated).any()
    if not env_id.startswith(ENDED_BY_TIME):
        assert not truncated.any()
    if spec.score.metric != "return":
        assert f"AMAGO_LOG_METRIC {spec.score.metric}" in info
    fixed_length = not re.search(r"cartpole|mine|battleship|concentr|labyrinth|maze|lake", env_id)
    if fixed_length and not env_id.startswith(ENDED_EARLY):
        assert steps == spec.horizon()


@pytest.mark.parametrize(
    ("env_id", "params", "words"),
    [
        ("tmaze-passive", {"corridor": 0}, ["corridor", "1 to"]),
        ("tmaze-passive", {"corridor": 2.5}, ["corridor", "integer"]),
        ("tmaze-passive", {"corridor": True}, ["corridor", "integer"]),
        ("tmaze-passive", {"coridor": 3}, ["coridor", "did you mean corridor"]),
        ("meta-frozen-lake", {"size": 2}, ["size", "3 to 32"]),
        ("meta-frozen-lake", {"attempts": 0}, ["attempts", "1 to"]),
        ("meta-frozen-lake", {"slip": 1.0}, ["slip", "0 to 0.9"]),
        ("meta-frozen-lake", {"slip": float("nan")}, ["slip", "0 to 0.9"]),
        ("meta-frozen-lake", {"hard": 1}, ["hard", "true or false"]),
        ("dark-key-to-door", {"size": 2}, ["size", "3 to"]),
        ("dark-key-to-door", {"attempt_steps": 1}, ["attempt_steps", "2 to"]),
        ("dark-key-to-door", {"total_steps": "many"}, ["total_steps", "integer"]),
        ("maze-runner", {"size": 2}, ["size", "9 to 99"]),
        ("maze-runner", {"size": 12}, ["size", "odd"]),
        ("maze-runner", {"min_goals": 4}, ["min_goals", "max_goals"]),
        ("symbolic-alchemy", {"trials": 0}, ["trials", "1 to"]),
        ("half-cheetah-velocity", {"min_velocity": 3.0}, ["min_velocity", "max_velocity"]),
        ("half-cheetah-velocity", {"min_velocity": 1.0, "max_velocity": 1.009}, ["evaluation", "widen"]),
        ("half-cheetah-velocity", {"min_velocity": 0.1, "max_velocity": 0.13}, ["training", "widen"]),
        ("minigrid-memory-s13", {"attempts": 0}, ["attempts", "1 to"]),
        ("babyai", {"tasks": "huge"}, ["tasks", "one of all, small"]),
        ("multidomain-popgym", {"attempts": True}, ["attempts", "integer"]),
        ("popgym-repeat-first-easy", {"decks": 2}, ["decks", "takes none"]),
    ],
)
def test_bad_parameters_are_one_clear_line(env_id: str, params: dict, words: list[str]) -> None:
    """Guards the messages a user gets: one line that names id, parameter and allowed values."""
    spec = envs_suite.get(env_id)
    for call in (spec.check, spec.make, spec.horizon):
        with pytest.raises(ConfigurationError) as caught:
            call(params)
        message = str(caught.value)
        assert "\n" not in message
        assert all(word in message for word in [env_id, *words]), message


def test_numbers_that_were_not_seen_at_their_source_say_so() -> None:
    """Guards published numbers: those taken second-hand are marked wherever they are shown, the others are not."""
    second_hand = {"Morad et al. 2023", "Wang et al. 2021", "AMAGO paper's figure"}
    for env_id in envs_suite.ids():
        for entry in envs_suite.get(env_id).published:
            assert entry.unconfirmed == any(entry.source.startswith(who) for who in second_hand), entry
            assert ("unconfirmed" in entry.cited) == entry.unconfirmed
            assert entry.cited.startswith(entry.source)
            assert entry.interval is None or entry.interval[0] <= entry.value <= entry.interval[1]


def test_unknown_ids_suggest_the_nearest() -> None:
    """Guards the message for a misspelt id."""
    with pytest.raises(ConfigurationError, match=r"did you mean.*tmaze-passive"):
        envs_suite.get("tmaze-pasive")
    with pytest.raises(ConfigurationError, match="popgym-repeat-first-easy"):
        envs_suite.get("popgym-RepeatFirstEasy".lower())
    with pytest.raises(
        ConfigurationError, match=r"48 begin with it: popgym-autoencode-easy, .*amago-suite envs"
    ):
        envs_suite.get("popgym")
    with pytest.raises(
        ConfigurationError, match=r"did you mean metaworld-ml1, metaworld-ml10, metaworld-ml45\?"
    ):
        envs_suite.get("metaworld")
    with pytest.raises(ConfigurationError, match="amago-suite envs") as caught:
        envs_suite.get("zzz")
    assert len(str(caught.value)) < 1000, "a hint, not the whole registry"


def test_wrong_number_of_instances() -> None:
    """Guards `num_envs`: at least one, and one only where there is no vectorised form."""
    with pytest.raises(ConfigurationError, match="num_envs"):
        envs_suite.get("tmaze-passive").make(num_envs=0)
    with pytest.raises(ConfigurationError, match="not vectorised"):
        envs_suite.get("popgym-repeat-first-easy").make(num_envs=2)
    with pytest.raises(ConfigurationError, match="split"):
        envs_suite.get("tmaze-passive").make(split="test")  # type: ignore[arg-type]


def test_missing_packages_are_named() -> None:
    """Guards the message for a package that is not installed: its name and its family's command."""
    score = envs_suite.Score("return", "higher", 0, 1, "s")
    spec = EnvSpec("x", "atari", "A.", "MIT", score, lambda p: 1, print, requires=("no_such_package",))
    with pytest.raises(
        ConfigurationError, match=r"no_such_package.*install family 'atari' with: make family-atari"
    ):
        spec.make()


def test_ids_are_unique() -> None:
    """Guards against two entries of one id."""
    with pytest.raises(ConfigurationError, match="is taken"):
        envs_suite.register(envs_suite.get("tmaze-passive"))


def test_names_tell_parameters_apart() -> None:
    """Guards metric names: two T-Mazes of one suite are not averaged into one."""
    spec = envs_suite.get("tmaze-passive")
    assert spec.name({"corridor": 50}) == "tmaze-passive"
    assert spec.make({"corridor": 400}).env_name == "tmaze-passive[corridor=400]"
    assert spec.make({"corridor": 400}, name="long").env_name == "long"


def test_importing_the_suite_is_light() -> None:
    """Guards start-up: the registry can be read without torch or any environment's package."""
    code = (
        "import sys, envs_suite; envs_suite.ids(); "
        "print([m for m in ('torch', 'popgym', 'envs_suite.tmaze') if m in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"
