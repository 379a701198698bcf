"""What holds for every environment that has a single and a vectorised form."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from amago.errors import EnvironmentFailure
from tests.unit.envs.conftest import Forms


def _play(env: gym.Env, seed: int, actions: np.ndarray, options: dict | None = None) -> list[Any]:
    """Observations, rewards, ends and infos of one episode (or until ``actions`` run out)."""
    obs, info = env.reset(seed=seed, options=options)
    seen: list[Any] = [obs.tolist(), info]
    for action in actions:
        obs, reward, terminated, truncated, info = env.step(int(action))
        seen += [obs.tolist(), reward, terminated, truncated, info]
        if terminated or truncated:
            break
    return seen


def test_gymnasium_accepts_the_single_form(forms: Forms) -> None:
    """Guards the single forms' interface: gymnasium's own checker passes without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(forms.single(), skip_render_check=True)


def test_same_seed_same_episode(forms: Forms) -> None:
    """Guards determinism: one seed and one action sequence give one episode, in fresh or used objects."""
    rng = np.random.default_rng(0)
    used = forms.single()
    for seed in range(20):
        actions = rng.integers(used.action_space.n, size=400)
        first = _play(used, seed, actions)
        assert _play(used, seed, actions) == first
        assert _play(forms.single(), seed, actions) == first


def test_global_generators_play_no_part(forms: Forms) -> None:
    """Guards against a draw from numpy's global generator: it is neither used nor moved."""
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    vector = forms.vector(4)
    vector.reset(seed=[1, 2, 3, 4])
    vector.step(np.zeros(4, dtype=int))
    _play(forms.single(), 0, np.arange(2))
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


@pytest.mark.parametrize("num_envs", [1, 5])
def test_vectorised_equals_single_step_for_step(forms: Forms, num_envs: int) -> None:
    """Guards that both forms have the same dynamics, with resets of some instances at a time.

    Instances are reset when they end, sometimes before, sometimes with a new seed and sometimes
    without, with and without a task index; each has a single environment as its twin.
    """
    rng = np.random.default_rng(num_envs)
    vector, twins = forms.vector(num_envs), [forms.single() for _ in range(num_envs)]
    seeds = rng.integers(2**31, size=num_envs).tolist()
    obs, _ = vector.reset(seed=seeds)
    for i, twin in enumerate(twins):
        np.testing.assert_array_equal(obs[i], twin.reset(seed=seeds[i])[0])
    episodes = np.zeros(num_envs, dtype=int)
    for step in range(600):
        # Mostly one favourite action, so that corridors are crossed and rooms are left.
        actions = np.where(
            rng.random(num_envs) < 0.3, rng.integers(vector.single_action_space.n, size=num_envs), step % 3
        )
        obs, rewards, terminated, truncated, info = vector.step(actions)
        for i, twin in enumerate(twins):
            one_obs, reward, term, trunc, one_info = twin.step(int(actions[i]))
            np.testing.assert_array_equal(obs[i], one_obs)
            assert rewards[i] == np.float32(reward)
            assert (terminated[i], truncated[i]) == (term, trunc)
            logged = {k: v[i] for k, v in info.items() if not k.startswith("_") and info["_" + k][i]}
            assert logged == pytest.approx(one_info)
        episodes += terminated
        mask = terminated | (rng.random(num_envs) < 0.02)
        if mask.any():
            new_seeds = [int(s) if rng.random() < 0.5 else None for s in rng.integers(2**31, size=num_envs)]
            tasks = rng.integers(50, size=num_envs) if rng.random() < 0.5 else None
            options: dict[str, Any] = {"reset_mask": mask}
            if tasks is not None:
                options["task_index"] = tasks
            obs, _ = vector.reset(seed=new_seeds, options=options)
            for i in np.flatnonzero(mask):
                own = None if tasks is None else {"task_index": int(tasks[i])}
                one_obs, _ = twins[i].reset(seed=new_seeds[i], options=own)
                np.testing.assert_array_equal(obs[i], one_obs)
    assert episodes.sum() > 0


def test_a_partial_reset_leaves_the_others_alone(forms: Forms) -> None:
    """Guards `reset_mask`: unmasked rows show their current observation and go on unchanged."""
    left, right = forms.vector(3), forms.vector(3)
    left.reset(seed=[1, 2, 3])
    right.reset(seed=[1, 2, 3])
    actions = np.array([0, 1, 0])
    seen = left.step(actions)[0]
    right.step(actions)
    obs, _ = left.reset(seed=[9, 9, 9], options={"reset_mask": np.array([False, True, False])})
    np.testing.assert_array_equal(obs[[0, 2]], seen[[0, 2]])
    if not left._ended.any() and not right._ended.any():
        np.testing.assert_array_equal(left.step(actions)[0][[0, 2]], right.step(actions)[0][[0, 2]])


def test_observations_are_not_overwritten(forms: Forms) -> None:
    """Guards against handing out a buffer that the next step changes: replay keeps references."""
    vector = forms.vector(3)
    obs, _ = vector.reset(seed=[1, 2, 3])
    kept = obs.copy()
    vector.step(np.zeros(3, dtype=int))
    np.testing.assert_array_equal(obs, kept)


def test_spaces_contain_what_is_seen(forms: Forms) -> None:
    """Guards the declared spaces: every observation lies in them, in shape, dtype and range."""
    vector = forms.vector(4)
    rng = np.random.default_rng(3)
    obs, _ = vector.reset(seed=3)
    for _ in range(300):
        assert obs.dtype == np.float32
        assert all(vector.single_observation_space.contains(row) for row in obs)
        obs, rewards, terminated, _, _ = vector.step(rng.integers(vector.single_action_space.n, size=4))
        assert rewards.dtype == np.float32
        if terminated.any():
            obs, _ = vector.reset(options={"reset_mask": terminated})


def test_an_ended_instance_must_be_reset(forms: Forms) -> None:
    """Guards against silent steps after the end, which would enter replay as false transitions."""
    vector = forms.vector(2)
    assert vector.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    with pytest.raises(EnvironmentFailure, match="reset"):
        vector.step(np.zeros(2, dtype=int))
    vector.reset(seed=0)
    for _ in range(1000):
        if vector.step(np.zeros(2, dtype=int))[2].any():
            break
    with pytest.raises(EnvironmentFailure, match="have ended"):
        vector.step(np.zeros(2, dtype=int))


def test_first_reset_is_of_all(forms: Forms) -> None:
    """Guards the rest of `reset`'s contract: masks and seeds of the wrong length, a partial first reset."""
    vector = forms.vector(3)
    with pytest.raises(EnvironmentFailure, match="never reset"):
        vector.reset(seed=[1, 2, 3], options={"reset_mask": np.array([True, False, True])})
    with pytest.raises(EnvironmentFailure, match="2 seeds for 3"):
        vector.reset(seed=[1, 2])
    with pytest.raises(EnvironmentFailure, match="reset_mask"):
        vector.reset(seed=1, options={"reset_mask": np.array([True])})
