"""27 POPGym games in one space."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs_suite
from amago.envs.actors import make_actors
from amago.errors import ConfigurationError

pytest.importorskip("popgym")
from envs_suite.popgym_envs import POPGym
from envs_suite.popgym_multi import ACTIONS, GAMES, LONGEST_GAME, MultiDomainPOPGym, MultiDomainPOPGymAMAGO


def _play(env: MultiDomainPOPGym, seed: int, actions: np.ndarray) -> list:
    seen: list = [env.reset(seed=seed)[0].tolist()]
    for action in actions:
        obs, *rest = env.step(int(action))
        seen += [obs.tolist(), rest]
        if rest[1]:
            break
    return seen


def test_games_fit() -> None:
    """Guards the 27 games: all exist, observations fit into 26 numbers, actions into 27, horizons into the bound."""
    assert len(set(GAMES)) == 27
    actions = {}
    for game in GAMES:
        env = POPGym(f"popgym-{game}-v0")
        assert env.observation_space.shape[0] - 1 <= 26
        space = env.action_space
        actions[game] = int(np.prod(space.nvec) if hasattr(space, "nvec") else space.n)
    assert max(actions.values()) == ACTIONS
    assert [game for game, n in actions.items() if n == ACTIONS] == ["CountRecallEasy", "CountRecallMedium"]
    spec = envs_suite.get("multidomain-popgym")
    assert spec.horizon() == 2 * LONGEST_GAME + 1
    assert spec.horizon({"attempts": 1}) == LONGEST_GAME


def test_gymnasium_accepts_it() -> None:
    """Guards the interface: gymnasium's own checker passes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_env(MultiDomainPOPGym(), skip_render_check=True)


def test_same_seed_same_episode() -> None:
    """Guards determinism: replaced actions included, in used and in fresh objects."""
    rng = np.random.default_rng(0)
    used = MultiDomainPOPGym()
    for seed in range(12):
        actions = rng.integers(ACTIONS, size=300)
        first = _play(used, seed, actions)
        assert _play(used, seed, actions) == first
        assert _play(MultiDomainPOPGym(), seed, actions) == first


@pytest.mark.parametrize("index", range(27))
def test_against_the_game_itself(index: int) -> None:
    """Guards the whole wrapper, game by game, against the game played by hand.

    Attempts, reset steps, masked rewards, replaced actions and the last four numbers.
    """
    env = MultiDomainPOPGym()
    obs, _ = env.reset(seed=0, options={"task_index": index})
    assert env.game_number == index
    game = env.game
    rng = np.random.default_rng(index)
    attempt, t, totals, shown = 0, 0, [0.0, 0.0], 0.0
    # The same game object underneath: what it returned last is what must be shown.
    last: dict = {}
    step, reset = game.step, game.reset
    game.step = lambda a: last.setdefault("step", (a, step(a)))[1]
    game.reset = lambda seed: last.setdefault("reset", reset(seed=seed))
    info: dict = {}
    while True:
        action = int(rng.integers(ACTIONS))
        last.clear()
        obs, reward, terminated, truncated, info = env.step(action)
        t += 1
        assert not truncated
        if "reset" in last:
            attempt += 1
            raw, want, valid = last["reset"][0], 0.0, True
            assert attempt == 1
        else:
            own, (raw, want, over, _, _) = last["step"]
            number = own if np.ndim(own) == 0 else np.ravel_multi_index(own, game.action_space.nvec)
            valid = action < env.actions
            assert number == action if valid else 0 <= number < env.actions
            totals[attempt] += want
            assert terminated == (over and attempt == 1)
        n = len(raw) - 1
        np.testing.assert_allclose(obs[:n], np.clip(raw[:-1], -10, 10), rtol=1e-6)
        assert (obs[n:26] == 0).all()
        np.testing.assert_allclose(obs[26:], [t / 1000, attempt, valid, want], rtol=1e-5, atol=1e-6)
        assert reward == (want if attempt == 1 else 0.0)
        shown += reward
        if terminated:
            break
    del game.step, game.reset
    assert list(info.values()) == pytest.approx([*totals, index])
    assert shown == pytest.approx(totals[1])
    assert t <= 2 * LONGEST_GAME + 1


def test_all_games_are_drawn() -> None:
    """Guards sampling: every game comes up, about equally often; evaluation plays them in turn."""
    env = MultiDomainPOPGym()
    drawn = []
    for seed in range(540):
        env.reset(seed=seed)
        drawn.append(env.game_number)
    counts = np.bincount(drawn, minlength=27)
    assert counts.min() >= 6
    assert counts.max() <= 42
    for index in (0, 26, 27, 55):
        env.reset(seed=9, options={"task_index": np.array([index])})
        first = env.game_number
        assert first == index % 27


def test_evaluation_is_fixed() -> None:
    """Guards evaluation: task i is the same whatever the seed."""
    a, b = MultiDomainPOPGym(), MultiDomainPOPGym()
    for index in range(27):
        left, _ = a.reset(seed=1, options={"task_index": index})
        right, _ = b.reset(seed=2, options={"task_index": index})
        np.testing.assert_array_equal(left, right)
        for action in range(5):
            np.testing.assert_array_equal(a.step(action)[0], b.step(action)[0])


def test_each_episode_is_named_after_its_game() -> None:
    """Guards the column ``task`` and metrics by name: the game that was played, one by one."""
    actors = make_actors(lambda: envs_suite.get("multidomain-popgym").make(name="all"), 3, "sync")
    for begin in range(0, len(GAMES), 3):
        actors.reset(np.ones(3, bool), [0, 1, 2], np.arange(begin, begin + 3))
        assert actors.env_names == [f"all/{game}" for game in GAMES[begin : begin + 3]]
    actors.reset(np.array([False, True, False]), [0, 1, 2], np.zeros(3, int))
    assert actors.env_names == [f"all/{game}" for game in (GAMES[24], GAMES[0], GAMES[26])]
    actors.close()


def test_for_amago() -> None:
    """Guards AMAGO's name for it: its argument counts the attempts that do not count."""
    env = MultiDomainPOPGymAMAGO(warmup_episodes=2)
    assert env.env.attempts == 3
    assert env.env_name == "MultiDomainPOPGym"
    with pytest.raises(ConfigurationError, match="attempts"):
        MultiDomainPOPGym(0)
