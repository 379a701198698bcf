"""HalfCheetah with a hidden target velocity. Needs mujoco, except for the tests of its absence."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs_suite
from amago.errors import ConfigurationError, EnvironmentFailure
from envs_suite.half_cheetah import (
    HalfCheetahV4_MetaVelocity,
    HalfCheetahVelocityVector,
    draw_velocity,
    is_eval_velocity,
)

try:
    import mujoco

    HAS_MUJOCO = True
except ImportError:
    HAS_MUJOCO = False

simulated = pytest.mark.skipif(not HAS_MUJOCO, reason="needs mujoco, which has no wheel for Python 3.14")


def _naive_episode(env: HalfCheetahV4_MetaVelocity, actions: np.ndarray) -> tuple[list, list, list]:
    """The same episode from mujoco alone: positions, rewards by hand, no gymnasium."""
    theirs = env.cheetah.env
    model = mujoco.MjModel.from_xml_path(theirs.fullpath)
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = theirs.data.qpos, theirs.data.qvel
    mujoco.mj_forward(model, data)
    seen, rewards, speeds = [], [], []
    for action in actions:
        x = data.qpos[0]
        data.ctrl[:] = action
        for _ in range(5):
            mujoco.mj_step(model, data)
        speeds.append((data.qpos[0] - x) / (5 * model.opt.timestep))
        seen.append(np.concatenate([data.qpos[1:], data.qvel]))
        rewards.append(-abs(speeds[-1] - env.cheetah.target) - 0.05 * sum(float(a) ** 2 for a in action))
    return seen, rewards, speeds


@simulated
def test_dynamics_and_rewards() -> None:
    """Guards observation, reward, end and metrics against mujoco stepped by hand."""
    env = HalfCheetahV4_MetaVelocity(steps=70)
    rng = np.random.default_rng(0)
    for seed in range(3):
        env.reset(seed=seed)
        actions = rng.uniform(-1, 1, size=(70, 6)).astype(np.float32)
        seen, rewards, speeds = _naive_episode(env, actions)
        for t, action in enumerate(actions):
            obs, reward, terminated, truncated, info = env.step(action)
            np.testing.assert_allclose(obs, seen[t], atol=1e-4)
            assert reward == pytest.approx(rewards[t], abs=1e-6)
            assert (terminated, truncated) == (False, t == 69)
        assert info["AMAGO_LOG_METRIC velocity_error"] == pytest.approx(
            abs(env.cheetah.target - np.mean(speeds[20:])), abs=1e-6
        )
        assert info["AMAGO_LOG_METRIC mean_velocity"] == pytest.approx(np.mean(speeds), abs=1e-6)


@simulated
def test_same_simulation_as_version_4() -> None:
    """Guards the name: gymnasium's v4 cheetah, from the same state, sees and does the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from gymnasium.envs.mujoco.half_cheetah_v4 import HalfCheetahEnv

        old = HalfCheetahEnv(ctrl_cost_weight=0.05)
    env = HalfCheetahV4_MetaVelocity()
    env.reset(seed=1)
    old.reset(seed=1)
    old.set_state(env.cheetah.env.data.qpos.copy(), env.cheetah.env.data.qvel.copy())
    rng = np.random.default_rng(0)
    for _ in range(20):
        action = rng.uniform(-1, 1, size=6)
        obs, reward, _, _, _ = env.step(action)
        want, _, _, _, info = old.step(action)
        # Not to the last bit: the solver starts from where it was, which is no part of the state.
        np.testing.assert_allclose(obs, want, rtol=1e-4, atol=1e-4)
        want_reward = -abs(info["x_velocity"] - env.cheetah.target) + info["reward_ctrl"]
        assert reward == pytest.approx(want_reward, abs=1e-4)


@simulated
def test_gymnasium_accepts_it() -> None:
    """Guards the interface: gymnasium's own checker passes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # unbounded observations are the simulation's
        check_env(HalfCheetahV4_MetaVelocity(steps=5), skip_render_check=True)


@simulated
def test_vectorised_equals_single_step_for_step() -> None:
    """Guards that both forms are one environment, with partial resets, seeds and task indices."""
    n = 3
    vector, twins = (
        HalfCheetahVelocityVector(n, steps=12),
        [HalfCheetahV4_MetaVelocity(steps=12) for _ in range(n)],
    )
    rng = np.random.default_rng(0)
    obs, _ = vector.reset(seed=[5, 6, 7])
    for i, twin in enumerate(twins):
        np.testing.assert_array_equal(obs[i], twin.reset(seed=5 + i)[0])
    for step in range(40):
        actions = rng.uniform(-1, 1, size=(n, 6)).astype(np.float32)
        obs, rewards, terminated, truncated, info = vector.step(actions)
        for i, twin in enumerate(twins):
            one, reward, _, over, one_info = twin.step(actions[i])
            np.testing.assert_array_equal(obs[i], one)
            assert rewards[i] == np.float32(reward)
            assert (terminated[i], truncated[i]) == (False, over)
            logged = {k: v[i] for k, v in info.items() if not k.startswith("_") and info["_" + k][i]}
            assert logged == pytest.approx(one_info)
        mask = truncated | (np.arange(n) == (step % 7))
        if mask.any():
            tasks = np.arange(n) + step if step % 2 else None
            options = {"reset_mask": mask} | ({} if tasks is None else {"task_index": tasks})
            obs, _ = vector.reset(seed=[step] * n, options=options)
            for i in np.flatnonzero(mask):
                own = None if tasks is None else {"task_index": int(tasks[i])}
                np.testing.assert_array_equal(obs[i], twins[i].reset(seed=step, options=own)[0])


@simulated
def test_same_seed_same_episode() -> None:
    """Guards determinism, also in a used object."""
    used = HalfCheetahV4_MetaVelocity(steps=30)
    actions = np.random.default_rng(0).uniform(-1, 1, size=(30, 6))

    def play(env: HalfCheetahV4_MetaVelocity, seed: int) -> list:
        seen: list = [env.reset(seed=seed)[0].tolist()]
        for action in actions:
            obs, *rest = env.step(action)
            seen += [obs.tolist(), rest]
        return seen

    first = play(used, 3)
    assert play(used, 4) != first
    assert play(used, 3) == first
    assert play(HalfCheetahV4_MetaVelocity(steps=30), 3) == first


@simulated
def test_ended_cheetahs_must_be_reset() -> None:
    """Guards against steps after the end, which would enter replay as false transitions."""
    vector = HalfCheetahVelocityVector(2, steps=1)
    vector.reset(seed=0)
    vector.step(np.zeros((2, 6)))
    with pytest.raises(EnvironmentFailure, match="have ended"):
        vector.step(np.zeros((2, 6)))


@simulated
def test_through_the_registry() -> None:
    """Guards the entry: batched, truncated at the horizon, the score's metric logged."""
    spec = envs_suite.get("half-cheetah-velocity")
    env = spec.make({"steps": 20}, num_envs=2, split="eval")
    env.reset(seed=[1, 2], options={"task_index": np.array([0, 1])})
    for _ in range(20):
        _, _, terminated, truncated, info = env.step(np.zeros((2, 6)))
    assert truncated.all()
    assert not terminated.any()
    assert (info["AMAGO_LOG_METRIC velocity_error"] < 3.5).all()
    assert spec.horizon({"steps": 20}) == 20


@simulated
def test_targets_of_your_own() -> None:
    """As in AMAGO's script: an override of `sample_target_velocity` decides, but not of a fixed task."""

    class Mine(HalfCheetahV4_MetaVelocity):
        def sample_target_velocity(self) -> float:
            assert self.task_min_velocity <= super().sample_target_velocity() < self.task_max_velocity
            return float(self.np_random.integers(7, 9))

    env, usual = Mine(steps=3), HalfCheetahV4_MetaVelocity(steps=3)
    assert env.unwrapped.target_velocity == 0.0  # names may be asked for before the first episode
    found = set()
    for seed in range(12):
        env.reset(seed=seed)
        found.add(env.target_velocity)
        _, reward, *_ = env.step(np.zeros(6))
        assert -10 < reward < -6
    assert found == {7.0, 8.0}
    env.reset(options={"task_index": 4})
    usual.reset(options={"task_index": 4})
    assert env.target_velocity == usual.target_velocity < 3.0


def test_targets_are_split() -> None:
    """Guards the split: training targets are never evaluation ones; both are uniform on the range."""
    rng = np.random.default_rng(0)
    train = np.array([draw_velocity(rng, 0, 3, "train", None) for _ in range(2000)])
    held_out = np.array([draw_velocity(rng, 0, 3, "eval", None) for _ in range(2000)])
    assert not any(is_eval_velocity(v) for v in train)
    assert all(is_eval_velocity(v) for v in held_out)
    for drawn in (train, held_out):
        assert drawn.mean() == pytest.approx(1.5, abs=0.15)
        assert drawn.std() == pytest.approx(3 / 12**0.5, abs=0.12)
    assert 40 <= sum(is_eval_velocity((cell + 0.5) / 100) for cell in range(300)) <= 80


def test_evaluation_targets_are_fixed_and_spread() -> None:
    """Guards evaluation tasks: those of the split, the same for every seed, evenly over the range."""
    tasks = np.array([draw_velocity(np.random.default_rng(i), 0, 3, "eval", i) for i in range(64)])
    again = np.array([draw_velocity(np.random.default_rng(i), 0, 3, "eval", i) for i in range(64)])
    np.testing.assert_array_equal(tasks, again)
    assert all(is_eval_velocity(v) for v in tasks)
    counts = np.histogram(tasks, bins=4, range=(0, 3))[0]
    assert counts.min() >= 8
    with pytest.raises(ConfigurationError, match="widen"):
        draw_velocity(np.random.default_rng(0), 1.001, 1.002, "eval", 0)


def test_absence_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the error without mujoco: one line with the command, from the registry and from the class."""
    monkeypatch.setitem(sys.modules, "mujoco", None)
    for make in (envs_suite.get("half-cheetah-velocity").make, HalfCheetahV4_MetaVelocity):
        with pytest.raises(ConfigurationError, match=r"mujoco.*install family 'core' with: make ") as caught:
            make()  # type: ignore[operator]
        assert "\n" not in str(caught.value)


def test_bad_parameters() -> None:
    """Guards the errors for an empty range and for no steps, which need no simulation."""
    with pytest.raises(ConfigurationError, match="minimum < maximum"):
        HalfCheetahV4_MetaVelocity(task_min_velocity=2.0, task_max_velocity=1.0)
    with pytest.raises(ConfigurationError, match="steps"):
        HalfCheetahVelocityVector(1, steps=0)
    with pytest.raises(ConfigurationError, match=r"min_velocity.*below"):
        envs_suite.get("half-cheetah-velocity").check({"min_velocity": 3.0})
