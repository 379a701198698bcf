"""The POPGym adapter."""

from __future__ import annotations

import random
import warnings

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs_suite
from amago.errors import ConfigurationError
from envs_suite.catalogue_popgym import DIFFICULTIES, HORIZONS

pytest.importorskip("popgym")
from envs_suite.popgym_envs import POPGym, POPGymAMAGO, _borrowed_global_generators

try:
    import mazelib  # noqa: F401

    HAS_MAZELIB = True
except ImportError:
    HAS_MAZELIB = False

NAMES = [
    f"popgym-{name}{difficulty.capitalize()}-v0"
    for name in HORIZONS
    for difficulty in DIFFICULTIES
    if HAS_MAZELIB or "Labyrinth" not in name
]


def _episode(env: POPGym, seed: int | None, actions: list) -> tuple[np.ndarray, list]:
    obs, _ = env.reset(seed=seed)
    seen, rest = [obs], []
    for action in actions:
        obs, reward, terminated, truncated, info = env.step(action)
        seen.append(obs)
        rest.append((reward, terminated, truncated, info))
        if terminated:
            break
    return np.array(seen), rest


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_episode(name: str) -> None:
    """Guards seeding: one seed gives one episode, also in a used object and among global draws."""
    env = POPGym(name)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(150)]
    first, first_rest = _episode(env, 5, actions)
    other, _ = _episode(env, 6, actions)
    np.random.random()  # noqa: NPY002
    random.random()
    again, again_rest = _episode(env, 5, actions)
    fresh, fresh_rest = _episode(POPGym(name), 5, actions)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, fresh)
    assert first_rest == again_rest == fresh_rest
    if not any(word in name for word in ("MineSweeper", "Battleship", "Bandit")):  # may look alike
        assert first.shape != other.shape or (first != other).any()


@pytest.mark.parametrize("name", NAMES)
def test_observations_and_ends(name: str) -> None:
    """Guards the adapter: gymnasium's checker passes, the timer counts, ends are terminations."""
    env = POPGym(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # unbounded observations of cart-poles are popgym's
        check_env(env, skip_render_check=True)
    env.action_space.seed(1)
    seen, rest = _episode(env, 0, [env.action_space.sample() for _ in range(1100)])
    np.testing.assert_allclose(seen[:, -1], np.arange(len(seen)) / 1000, rtol=1e-6)
    assert rest[-1][1]
    assert not any(truncated for _, _, truncated, _ in rest)
    assert all(info == {} for *_, info in rest), "infos hold answers"


def test_one_hot_of_parts() -> None:
    """Guards the layout: each discrete part has its own one-hot, then the timer."""
    obs, _ = POPGym("popgym-AutoencodeEasy-v0").reset(seed=0)
    assert obs.shape == (2 + 4 + 1,)
    assert obs[:2].sum() == obs[2:6].sum() == 1
    obs, _ = POPGym("popgym-CountRecallHard-v0").reset(seed=0)
    assert obs.shape == (13 + 13 + 1,)


def test_repeat_first_can_be_solved() -> None:
    """Guards the whole chain (one-hot in, action out): repeating the first card gives the best return."""
    env = POPGymAMAGO("popgym-RepeatFirstEasy-v0")
    for seed in range(3):
        obs, _ = env.reset(seed=seed)
        card = np.argmax(obs["observation"][:, :4], axis=1)[:, None]
        total, done = 0.0, False
        while not done:
            _, reward, terminated, _, _ = env.step(card)
            total, done = total + reward[0], terminated[0]
        assert total == pytest.approx(1.0)


def test_cartpole_time_limit_is_an_end() -> None:
    """Guards `truncated counts as terminated`, in an environment that only truncates: a pendulum."""
    env = POPGym("popgym-PositionOnlyPendulumHard-v0")
    env.reset(seed=0)
    ends = [env.step(np.zeros(1, dtype=np.float32))[2:4] for _ in range(100)]
    assert ends == [(False, False)] * 99 + [(True, False)]


def test_global_generators_are_put_back() -> None:
    """Guards the loan of the global generators: their state after it is as before."""
    python, numpy = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    with _borrowed_global_generators():
        random.seed(3)
        np.random.seed(3)  # noqa: NPY002
    assert random.getstate() == python
    assert (np.random.get_state()[1] == numpy).all()  # noqa: NPY002


def test_unknown_names() -> None:
    """Guards the error for an environment that popgym has not got."""
    with pytest.raises(ConfigurationError, match="RepeatLast"):
        POPGymAMAGO("popgym-RepeatLastEasy-v0")


@pytest.mark.parametrize("level", ["Easy", "Medium", "Hard"])
def test_the_worst_battleship_is_what_its_bounds_say(level: str) -> None:
    """Guards the note on Battleship's bounds: an episode of misses alone is below the -1 of the design."""
    env = POPGym(f"popgym-Battleship{level}-v0")
    env.reset(seed=0)
    miss = np.argwhere(env.env.board == 0)[0]
    total, over = 0.0, False
    while not over:
        _, reward, over, _, _ = env.step(miss)
        total += reward
    score = envs_suite.get(f"popgym-battleship-{level.lower()}").score
    assert f"{total:.2f}" in score.source
    assert score.low == -1.0
