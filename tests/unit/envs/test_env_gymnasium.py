"""gymnasium's own environments: what the table says of them, and determinism."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

import envs_suite
from amago.errors import ConfigurationError
from envs_suite.catalogue_control import GYMNASIUM
from envs_suite.optional import need


def _make(name: str) -> envs_suite.EnvSpec:
    spec = envs_suite.get(f"gym-{name}")
    try:
        spec.check_installed()
    except ConfigurationError as error:
        pytest.skip(str(error))
    return spec


@pytest.mark.parametrize("name", sorted(GYMNASIUM))
def test_table(name: str) -> None:
    """Guards the table against gymnasium's registry: horizon, and the threshold where it is the bound."""
    gym_id, steps, high, why, _ = GYMNASIUM[name]
    theirs = gym.spec(gym_id)
    assert theirs.max_episode_steps == steps == envs_suite.get(f"gym-{name}").horizon()
    if not why:
        assert theirs.reward_threshold == high


@pytest.mark.parametrize("name", sorted(GYMNASIUM))
def test_same_seed_same_episode(name: str) -> None:
    """Guards seeding through `AMAGOEnv`: one seed gives one episode, in used and in fresh environments."""
    spec = _make(name)
    used = spec.make()
    rng = np.random.default_rng(0)
    if used.discrete:
        actions = rng.integers(used.action_size, size=(120, 1, 1))
    else:
        actions = rng.uniform(-1, 1, size=(120, 1, used.action_size))

    def play(env: gym.Env, seed: int) -> list:
        seen = [env.reset(seed=[seed])[0]["observation"].tolist()]
        for action in actions:
            obs, *rest, _ = env.step(action)
            seen += [obs["observation"].tolist(), [r.tolist() for r in rest]]
            if rest[1].any() or rest[2].any():
                break
        return seen

    first = play(used, 7)
    assert play(used, 8) != first
    assert play(used, 7) == first
    assert play(spec.make(), 7) == first


@pytest.mark.parametrize("name", ["bipedal-walker", "bipedal-walker-hardcore"])
def test_a_walker_that_rolls_over_stays_in_its_space(name: str) -> None:
    """gymnasium declares hull angles up to pi, which a lunge forward passes within 40 steps."""
    env = _make(name).make()
    obs, _ = env.reset(seed=[1])
    angles = []
    for _ in range(40):
        obs, _, terminated, truncated, _ = env.step(np.array([[1.0, 1.0, -1.0, -1.0]], np.float32))
        if terminated.any() or truncated.any():
            break
        angles.append(float(np.abs(obs["observation"][0, 0])))
        assert env.observation_space["observation"].contains(obs["observation"][0])
    assert max(angles) > np.pi


def test_continuous_actions_span_the_range() -> None:
    """Guards scaling: the agent's -1 and 1 are the ends of the environment's own range."""
    env = envs_suite.get("gym-pendulum").make()
    own = env._to_env_action(np.array([[-1.0], [1.0]]))
    np.testing.assert_allclose(own, [[-2.0], [2.0]])


def test_absent_packages_are_told_with_their_command() -> None:
    """Guards `need`: one line that names who, what and the command."""
    with pytest.raises(
        ConfigurationError, match=r"^A game needs .*'no_such_package'.* with: make family-odd$"
    ):
        need("no_such_package.part", "A game", "odd")
    assert need("numpy", "A game") is np
