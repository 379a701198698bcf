"""Wrong combinations that a user can make: one clear line each, which names the setting or the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gin
import gymnasium as gym
import numpy as np
import pytest
import torch

from amago.envs.amago_env import AMAGOEnv
from amago.envs.exploration import BilevelEpsilonGreedy
from amago.errors import (
    AmagoError,
    CheckpointError,
    ConfigurationError,
    DataError,
    EnvironmentFailure,
    TrainingDiverged,
)
from amago.loading import Batch, DiskTrajDataset, DoNothingDataset, RLData
from amago.nets.actor_critic import Actor
from amago.nets.policy_dists import GMM, Beta
from amago.nets.traj_encoders import GRUTrajEncoder
from amago.nets.transformer import SlidingWindowFlexAttention
from amago.nets.tstep_encoders import FFTstepEncoder
from tests.unit.core.small_run import configure, experiment


@pytest.fixture(autouse=True)
def _small() -> Iterator[None]:
    configure()
    yield
    gin.clear_config()


class Steps(gym.Env):
    """Five steps; observations and rewards can go wrong at the third of the n-th episode."""

    observation_space: gym.Space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space: gym.Space = gym.spaces.Discrete(2)

    def __init__(self, bad_obs: int | None = None, bad_reward: int | None = None) -> None:
        self.bad_obs, self.bad_reward, self.episode = bad_obs, bad_reward, -1

    def reset(self, *, seed=None, options=None):
        self.t, self.episode = 0, self.episode + 1
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.t += 1
        wrong = self.t == 3
        obs = np.full(2, np.nan if wrong and self.episode == self.bad_obs else 0.5, np.float32)
        reward = np.nan if wrong and self.episode == self.bad_reward else 1.0
        return obs, reward, self.t == 5, False, {}


def on(env: type[gym.Env] | Any, **settings: Any) -> dict[str, Any]:
    """Experiment arguments for environments of this kind."""

    def make() -> AMAGOEnv:
        return AMAGOEnv(env(), "steps")

    return {
        "make_train_env": make,
        "make_val_env": make,
        "env_mode": "sync",
        "parallel_actors": 2,
        **settings,
    }


def one_line(error: BaseException) -> str:
    assert isinstance(error, AmagoError)
    assert "\n" not in str(error), error
    return str(error)


# -- architectures ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"TformerTrajEncoder.n_heads": 3}, ["TformerTrajEncoder.n_heads is 3", "d_model = 16"]),
        (
            {
                "TformerTrajEncoder.attention_type": SlidingWindowFlexAttention,
                "SlidingWindowFlexAttention.window_size": 50,
            },
            ["SlidingWindowFlexAttention.window_size is 50", "max_seq_len = 6"],
        ),
        (
            {"TformerTrajEncoder.attention_type": SlidingWindowFlexAttention},
            ["SlidingWindowFlexAttention.window_size must be configured", "window_size = ..."],
        ),
        ({"TformerTrajEncoder.pos_emb": "learnable"}, ["LearnablePosEmb.max_time_idx must be configured"]),
        ({"TformerTrajEncoder.pos_emb": "sinus"}, ["TformerTrajEncoder.pos_emb is 'sinus'"]),
    ],
)
def test_architectures_that_cannot_be(tmp_path: Path, settings: dict[str, Any], says: list[str]) -> None:
    """Heads that do not divide the width, a window larger than the context, a missing gin.REQUIRED."""
    configure(**settings)
    with pytest.raises(ConfigurationError) as error:
        experiment(tmp_path, arch="transformer")
    assert all(part in one_line(error.value) for part in says), error.value


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"TanhGaussian.clip_actions_on_log_prob": (-1.0, 1.0)}, "TanhGaussian.clip_actions_on_log_prob is"),
        ({"TanhGaussian.std_low": 0.0}, "TanhGaussian needs 0 < std_low"),
        ({"TanhGaussian.std_high": None}, "TanhGaussian.std_high is None"),
        (
            {"Actor.continuous_dist_type": Beta, "Beta.clip_actions_on_log_prob": (0.5, -0.5)},
            "Beta.clip_actions_on_log_prob is",
        ),
        ({"Actor.continuous_dist_type": GMM, "GMM.gmm_modes": 0}, "GMM.gmm_modes is 0"),
        ({"Actor.continuous_dist_type": GMM, "GMM.std_high": 0.0}, "GMM needs 0 < std_low"),
    ],
)
def test_distributions_that_cannot_be(tmp_path: Path, settings: dict[str, Any], says: str) -> None:
    """Bounds where log-probabilities are infinite, and the like: not a loss that is NaN much later."""
    configure(**settings)

    class Pushed(Steps):
        action_space = gym.spaces.Box(-1.0, 1.0, (2,))

    with pytest.raises(ConfigurationError) as error:
        experiment(tmp_path, **on(Pushed))
    assert says in one_line(error.value)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"Actor.discrete_dist_type": GMM}, "Actor.discrete_dist_type is GMM"),
        ({"Actor.dropout_p": 1.5}, "Actor cannot be built with its settings: dropout probability"),
        ({"NCritics.d_hidden": 8.5}, "NCritics cannot be built"),
        ({"Agent.n_step": 1.5}, "Agent.n_step must be at least 1 and whole"),
        ({"Agent.reward_multiplier": float("nan")}, "Agent.reward_multiplier must be finite"),
        ({"Agent.fbc_filter_func": "exp"}, "Agent.fbc_filter_func is 'exp'"),
        ({"Agent.critic_type": Actor}, "Agent.critic_type is Actor, which is no BaseCriticHead"),
        ({"PopArtLayer.beta": 0}, "PopArtLayer.beta is 0"),
        ({"InputNorm.beta": 2.0}, "InputNorm.beta is 2.0"),
    ],
)
def test_parts_that_cannot_be(tmp_path: Path, settings: dict[str, Any], says: str) -> None:
    """Values of the wrong kind or size, anywhere in the agent."""
    configure(**settings)
    with pytest.raises(ConfigurationError) as error:
        experiment(tmp_path)
    assert says in one_line(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("traj_encoder_type", FFTstepEncoder),
        ("tstep_encoder_type", GRUTrajEncoder),
        ("agent_type", GRUTrajEncoder),
        ("exploration_wrapper_type", 3),
    ],
)
def test_parts_in_each_others_places(tmp_path: Path, name: str, value: Any) -> None:
    """Before anything is built."""
    with pytest.raises(ConfigurationError, match=f"Experiment.{name} must be"):
        experiment(tmp_path, start=False, **{name: value})


def test_errors_of_a_users_own_code_stay_what_they_are(tmp_path: Path) -> None:
    """An encoder of the user's that fails is not a setting's fault."""

    class Broken(FFTstepEncoder):
        def __init__(self, *given: Any) -> None:
            raise ValueError("my own mistake")

    with pytest.raises(ValueError, match="my own mistake"):
        experiment(tmp_path, tstep_encoder_type=Broken)


def test_environments_of_different_spaces(tmp_path: Path) -> None:
    """In worker processes, as in this one."""

    class Other(Steps):
        action_space = gym.spaces.Discrete(3)

    both = [lambda: AMAGOEnv(Steps(), "a"), lambda: AMAGOEnv(Other(), "b")]
    for mode in ("sync", "async"):
        with pytest.raises(ConfigurationError, match="must share observation and action spaces"):
            experiment(tmp_path, make_train_env=both, make_val_env=both, env_mode=mode, parallel_actors=2)


def test_a_metric_that_is_no_number(tmp_path: Path) -> None:
    """Named, with what it is instead."""

    class Talks(Steps):
        def step(self, action):
            return *super().step(action)[:4], {"AMAGO_LOG_METRIC mood": "good"}

    with pytest.raises(EnvironmentFailure, match="AMAGO_LOG_METRIC mood' as 'good'"):
        experiment(tmp_path, **on(Talks)).learn()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"obs": {"observation": torch.zeros(6, 2)}}, "obs"),
        ({"rews": torch.zeros(6)}, "rews"),
        ({"dones": torch.zeros(5, 1, dtype=torch.bool)}, "dones"),
        ({"time_idxs": torch.arange(6)[:, None]}, "time_idxs"),
        ({"actions": torch.zeros(0, 2)}, "actions"),
    ],
)
def test_sequences_that_do_not_fit_together(changes: dict[str, Any], says: str) -> None:
    """A missing last observation would be filled with zeros, and bootstrapped from."""
    fits: dict[str, Any] = {
        "obs": {"observation": torch.zeros(7, 2)},
        "rews": torch.zeros(6, 1),
        "dones": torch.zeros(6, 1, dtype=torch.bool),
        "actions": torch.zeros(6, 2),
        "time_idxs": torch.arange(7)[:, None],
    }
    assert len(RLData(**fits)) == 6
    with pytest.raises(DataError, match=says):
        RLData(**fits | changes)


def test_a_dataset_whose_actions_are_not_one_hot(tmp_path: Path) -> None:
    """Indices where vectors are needed: the size is named."""

    class Indices(DoNothingDataset):
        ready_for_training = True  # type: ignore[assignment]

        def sample_random_trajectory(self) -> RLData:
            return RLData(
                obs={"observation": torch.zeros(7, 2)},
                rews=torch.zeros(6, 1),
                dones=torch.zeros(6, 1, dtype=torch.bool),
                actions=torch.ones(6, 1),
                time_idxs=torch.arange(7)[:, None],
            )

    with pytest.raises(DataError, match="size 1, this run's 2"):
        experiment(tmp_path, dataset=Indices(), **on(Steps)).learn()


def test_probabilities_that_cannot_be(tmp_path: Path) -> None:
    """Bounds in the wrong order."""
    configure(**{"Discrete.clip_prob_low": 0.99})
    with pytest.raises(ConfigurationError, match="clip_prob_low < clip_prob_high"):
        experiment(tmp_path)


def test_a_required_setting_of_the_exploration(tmp_path: Path) -> None:
    """`gin.REQUIRED` anywhere in what the Experiment builds is the same one line."""
    with pytest.raises(ConfigurationError, match=r"`BilevelEpsilonGreedy.rollout_horizon = \.\.\.`") as error:
        experiment(tmp_path, exploration_wrapper_type=BilevelEpsilonGreedy)
    one_line(error.value)


# -- environments ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("observations", "actions", "says"),
    [
        (gym.spaces.Text(5), Steps.action_space, "observation 'observation'.*unsupported space.*Text"),
        (Steps.observation_space, gym.spaces.Dict({"a": gym.spaces.Discrete(2)}), "unsupported action space"),
        (Steps.observation_space, gym.spaces.MultiDiscrete([100] * 4), "joint actions"),
    ],
)
def test_spaces_that_have_no_array_form(tmp_path: Path, observations: Any, actions: Any, says: str) -> None:
    """Text, nested actions, more joint actions than there can be."""

    class Odd(Steps):
        observation_space, action_space = observations, actions

    with pytest.raises(ConfigurationError, match=says) as error:
        experiment(tmp_path, **on(Odd))
    one_line(error.value)


def test_an_environment_that_is_not_wrapped(tmp_path: Path) -> None:
    """A function that builds something else than an `AMAGOEnv`."""
    arguments = on(Steps) | {"make_train_env": Steps}
    with pytest.raises(
        ConfigurationError, match=r"must build an AMAGOEnv, not a Steps; return AMAGOEnv\(env\)"
    ):
        experiment(tmp_path, **arguments)


def test_observations_of_another_shape_than_the_spaces(tmp_path: Path) -> None:
    """One number where two are announced was spread over both; one of the right size in another shape is fine."""

    class Short(Steps):
        def step(self, action):
            obs, *rest = super().step(action)
            return obs[:1], *rest

    run = experiment(tmp_path, **on(Short))
    with pytest.raises(
        EnvironmentFailure, match=r"observation 'observation' has shape \(1,\), but its space says \(2,\)"
    ):
        run.learn()

    class Column(Short):
        observation_space = gym.spaces.Box(-1, 1, (2, 1), np.float32)
        step = Steps.step

    env = AMAGOEnv(Column(), "column")
    assert env.reset()[0]["observation"].shape == (1, 2, 1)


# -- data ------------------------------------------------------------------------------------------------


def test_trajectories_too_short_for_a_sequence(tmp_path: Path) -> None:
    """`traj_save_len` below `max_seq_len`."""
    with pytest.raises(ConfigurationError, match=r"traj_save_len \(5\) is below max_seq_len \(6\)") as error:
        experiment(tmp_path, traj_save_len=5)
    one_line(error.value)


def test_a_dataset_folder_that_is_not_one(tmp_path: Path) -> None:
    """A file where `dset_root` should be."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="file where a folder is needed") as error:
        DiskTrajDataset(tmp_path / "file", "replay", 10)
    one_line(error.value)


@pytest.mark.parametrize("folder", ["fifo", "protected"])
@pytest.mark.parametrize("name", ["torn.safetensors", "foreign.safetensors", "foreign.npz"])
def test_a_torn_or_foreign_trajectory_file(tmp_path: Path, folder: str, name: str) -> None:
    """It stops the start and is named; .npz files are read in `protected` only."""
    grown = experiment(tmp_path / "a", epochs=1)
    grown.learn()
    whole = next(grown.dataset.fifo_folder.glob("*.safetensors"))
    data = DiskTrajDataset(tmp_path, "replay", 30)
    path = data.folder / folder / name
    path.write_bytes(whole.read_bytes()[:-100] if name.startswith("torn") else b"something else")
    if folder == "fifo" and path.suffix == ".npz":
        experiment(tmp_path, dataset=data, resume="never")
        return
    with pytest.raises(DataError, match=name) as error:
        experiment(tmp_path, dataset=data, resume="never")
    one_line(error.value)


# -- checkpoints -----------------------------------------------------------------------------------------


def test_a_checkpoint_of_another_architecture(tmp_path: Path) -> None:
    """The first difference is named; nothing is loaded, and the checkpoint stays."""
    run = experiment(tmp_path, epochs=1)
    run.learn()
    policy = tmp_path / "policy.safetensors"
    run.save_policy(policy)
    configure(**{"GRUTrajEncoder.d_hidden": 20})
    with pytest.raises(CheckpointError, match=r"another architecture.*traj_encoder") as error:
        experiment(tmp_path)
    one_line(error.value)
    other = experiment(tmp_path, resume="never")
    before = {k: v.clone() for k, v in other.policy.state_dict().items()}
    with pytest.raises(CheckpointError, match="another architecture"):
        other.load_policy(policy)
    with pytest.raises(CheckpointError, match="another architecture"):
        other.load_checkpoint(1)
    assert all(torch.equal(before[k], v) for k, v in other.policy.state_dict().items())
    configure()
    assert experiment(tmp_path).epoch == 1


# -- not a number ----------------------------------------------------------------------------------------


def _continues(folder: Path, **settings: Any) -> None:
    """The last good checkpoint is whole and a mended run goes on from it."""
    mended = experiment(folder, epochs=4, ckpt_interval=1, **settings)
    assert mended.epoch == 2
    assert all(v.isfinite().all() for v in mended.policy.state_dict().values() if v.is_floating_point())
    mended.learn()
    assert mended.epoch == 4


@pytest.mark.parametrize("where", ["bad_obs", "bad_reward"])
def test_nan_from_an_environment(tmp_path: Path, where: str) -> None:
    """In the third epoch: the run stops before it is stored or learned from."""
    broken = on(lambda: Steps(**{where: 4}), train_timesteps_per_epoch=5, val_interval=None)
    run = experiment(tmp_path, epochs=4, ckpt_interval=1, **broken)
    with pytest.raises(EnvironmentFailure, match=r"steps: NaN or infinity.*at step 3") as error:
        run.learn()
    one_line(error.value)
    stored = sorted(p.name for p in run.dataset.fifo_folder.glob("*.safetensors"))
    assert stored == ["00000000.safetensors", "00000001.safetensors"]
    _continues(tmp_path, **on(Steps, train_timesteps_per_epoch=5, val_interval=None))


def test_nan_in_the_loss(tmp_path: Path) -> None:
    """From a batch, after good ones: the weights are not touched, and a mended run goes on."""
    run = experiment(tmp_path, epochs=4, ckpt_interval=1)
    inner = run.train_step

    def poisoned(batch: Batch, log_step: bool) -> Any:
        if run.epoch == 2:
            batch.rews[0, 0] = float("nan")
        return inner(batch, log_step)

    run.train_step = poisoned  # type: ignore[method-assign]
    with pytest.raises(TrainingDiverged, match=r"not finite at gradient step 9.*learning_rate") as error:
        run.learn()
    one_line(error.value)
    _continues(tmp_path)
