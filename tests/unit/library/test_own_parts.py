"""A user's own parts: each is written, given a name, and trained with."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gin
import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

from amago import TrajEncoder, TstepEncoder
from amago.agent import Agent, get_agent_cls, register_agent
from amago.cli_utils import (
    switch_agent,
    switch_exploration,
    switch_traj_encoder,
    switch_tstep_encoder,
    use_config,
)
from amago.envs.amago_env import AMAGOEnv
from amago.envs.exploration import ExplorationWrapper, register_exploration
from amago.loading import RLData, RLDataset, load_traj_from_disk
from amago.nets.actor_critic import BaseActorHead, BaseCriticHead
from amago.nets.policy_dists import PolicyOutput
from amago.nets.traj_encoders import register_traj_encoder
from amago.nets.tstep_encoders import register_tstep_encoder
from tests.unit.core.small_run import configure, experiment


@pytest.fixture(autouse=True)
def _small() -> Iterator[None]:
    configure()
    yield
    gin.clear_config()


def trained(folder: Path, **parts: Any) -> Any:
    """An epoch with these parts."""
    run = experiment(folder, epochs=1, **parts)
    run.learn()
    assert run.gradient_steps == 4 and run.env_steps == 32
    return run


def test_an_agent_of_your_own(tmp_path: Path) -> None:
    """Here: only every second timestep counts for the actor."""

    @gin.configurable
    @register_agent("every-second")
    class EverySecond(Agent):
        def __init__(self, *inferred: Any, stride: int = 2, **settings: Any) -> None:
            super().__init__(*inferred, **settings)
            self.stride = stride

        def edit_actor_mask(self, batch, actor_loss, pad_mask):
            keep = torch.arange(pad_mask.shape[1]) % self.stride == 0
            return pad_mask & keep[None, :, None, None]

    settings: dict[str, Any] = {}
    agent = switch_agent(settings, "every-second", stride=3)
    use_config(settings)
    assert agent is get_agent_cls("every-second")
    run = trained(tmp_path, agent_type=agent)
    assert run.policy.stride == 3 and "EverySecond.stride = 3" in (tmp_path / "run/config.txt").read_text()


def test_encoders_of_your_own(tmp_path: Path) -> None:
    """Here: one linear layer for timesteps, and a mean over the last three for memory."""

    @gin.configurable
    @register_tstep_encoder("linear")
    class Linear(TstepEncoder):
        def __init__(self, obs_space, rl2_space, width: int = 12) -> None:
            super().__init__(obs_space, rl2_space)
            size = obs_space["observation"].shape[0] + rl2_space.shape[0]
            self.layer = nn.Linear(size, width)

        @property
        def emb_dim(self) -> int:
            return self.layer.out_features

        def inner_forward(self, obs, rl2s, log_dict=None):
            return self.layer(torch.cat((obs["observation"], rl2s), dim=-1))

    @register_traj_encoder("last-three")
    class LastThree(TrajEncoder):
        @property
        def emb_dim(self) -> int:
            return self.tstep_dim

        def init_hidden_state(self, batch_size, device):
            return torch.zeros(batch_size, 2, self.tstep_dim, device=device)

        def reset_hidden_state(self, hidden_state, dones):
            return torch.where(dones[:, None, None], 0.0, hidden_state)

        def forward(self, seq, time_idxs, hidden_state=None, log_dict=None):
            before = seq.new_zeros(len(seq), 2, self.tstep_dim) if hidden_state is None else hidden_state
            whole = torch.cat((before, seq), dim=1)
            return whole.unfold(1, 3, 1).mean(-1), whole[:, -2:]

    settings: dict[str, Any] = {}
    tstep = switch_tstep_encoder(settings, "linear", width=10)
    traj = switch_traj_encoder(settings, "last-three")
    use_config(settings)
    policy = trained(tmp_path, tstep_encoder_type=tstep, traj_encoder_type=traj).policy
    assert policy.traj_encoder.emb_dim == 10


def test_an_exploration_of_your_own(tmp_path: Path) -> None:
    """Here: every actor repeats its first action for a while. Draws come from `self.rng`."""

    @gin.configurable
    @register_exploration("stubborn")
    class Stubborn(ExplorationWrapper):
        def __init__(self, amago_env, steps: int = 1) -> None:
            super().__init__(amago_env)
            self.steps = steps
            self.held = np.zeros((self.batched_envs, 1), np.int64)

        def on_reset(self, mask):
            self.held[mask] = self.rng.integers(self.env.action_space.n, size=(int(mask.sum()), 1))

        def add_exploration_noise(self, action, local_step):
            return np.where((local_step < self.steps)[:, None], self.held, action)

    settings: dict[str, Any] = {}
    chosen = switch_exploration(settings, "stubborn", steps=5)
    use_config(settings)
    run = trained(tmp_path, exploration_wrapper_type=chosen)
    assert run.collector.train.exploration.steps == 5 and run.collector.train.exploration.global_step == 8


def test_a_dataset_of_your_own(tmp_path: Path) -> None:
    """Three methods; it draws from the generator it is given, and so stays exactly repeatable."""

    class Waves(RLDataset):
        @property
        def save_new_trajs_to(self) -> None:
            return None  # it does not grow

        def get_description(self) -> str:
            return "sine waves"

        def sample_random_trajectory(self, rng: np.random.Generator) -> RLData:
            steps = int(rng.integers(4, 12))
            time = torch.arange(steps + 1)
            (size,) = self.space.shape
            return RLData(
                obs={"observation": torch.sin(time[:, None] * torch.linspace(0.1, 1, size))},
                rews=torch.cos(time[1:, None].float()),
                dones=(time[1:, None] == steps),
                actions=torch.eye(self.action_format.size)[torch.from_numpy(rng.integers(4, size=steps))],
                time_idxs=time[:, None],
            )

        def configure_from_experiment(self, run) -> None:
            super().configure_from_experiment(run)
            self.space = run.train_envs.observation_space["observation"]

    one, two = (trained(tmp_path / n, dataset=Waves()).policy.state_dict() for n in "ab")
    assert all(torch.equal(one[k], two[k]) for k in one)


def test_a_dataset_of_your_own_that_grows(tmp_path: Path) -> None:
    """It says where new trajectories go, and reads the files that it finds there, one trajectory each."""

    class Newest(RLDataset):
        @property
        def save_new_trajs_to(self) -> str:
            return str(tmp_path)

        def get_description(self) -> str:
            return f"{len(self.files())} files"

        def files(self) -> list[Path]:
            return sorted(tmp_path.glob("*.safetensors"))

        @property
        def ready_for_training(self) -> bool:
            return len(self.files()) > 0

        def sample_random_trajectory(self, rng: np.random.Generator) -> RLData:
            return load_traj_from_disk(self.files()[-1 - int(rng.integers(3))])

    run = trained(tmp_path / "run", dataset=Newest())
    assert (
        run.dataset.get_description() == "8 files"
    )  # four actors: an episode of 7 steps each, and a cut one


def test_a_distribution_of_your_own(tmp_path: Path) -> None:
    """Here: a Laplace policy for continuous actions, chosen through the actor's setting."""

    class Laplace(PolicyOutput):
        is_discrete = False
        actions_differentiable = True

        @property
        def input_dimension(self) -> int:
            return 2 * self.d_action

        def forward(self, vec, log_dict=None):
            mean, scale = vec.chunk(2, dim=-1)
            return torch.distributions.Laplace(torch.tanh(mean), nn.functional.softplus(scale) + 0.05)

    use_config({"Actor.continuous_dist_type": Laplace})
    policy = trained(tmp_path, **_reaching()).policy
    assert isinstance(policy.actor.policy_dist, Laplace)


def test_heads_of_your_own(tmp_path: Path) -> None:
    """An actor and a critic of one linear layer each, for every discount at once."""

    class LinearActor(BaseActorHead):
        def __init__(self, state_dim, action_space, gammas, continuous_dist_type=None) -> None:
            from amago.nets.policy_dists import TanhGaussian

            super().__init__(state_dim, action_space, gammas, continuous_dist_type or TanhGaussian)
            self.layer = nn.Linear(state_dim, self.num_gammas * self.policy_dist.input_dimension)

        def actor_network_forward(self, state, log_dict=None, straight_from_obs=None):
            return self.layer(state).unflatten(-1, (self.num_gammas, -1))

    class LinearCritic(BaseCriticHead):
        def __init__(self, state_dim, action_space, gammas, num_critics) -> None:
            super().__init__(state_dim, action_space, gammas, num_critics)
            size = gym.spaces.flatdim(action_space)
            self.layer = nn.Linear(state_dim + size, num_critics)

        def critic_network_forward(self, state, action, log_dict=None):
            k, b, length, g, _ = action.shape
            state = state[None, :, :, None].expand(k, b, length, g, -1)
            return self.layer(torch.cat((state, action), -1)).transpose(-1, -2)[..., None]

    use_config({"Agent.actor_type": LinearActor, "Agent.critic_type": LinearCritic})
    policy = trained(tmp_path, **_reaching()).policy
    assert isinstance(policy.actor, LinearActor) and isinstance(policy.critics, LinearCritic)


class _Reach(gym.Env):
    """Move a point to the middle."""

    observation_space = gym.spaces.Box(-2, 2, (2,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.t = self.np_random.uniform(-1, 1, 2).astype(np.float32), 0
        return self.at, {}

    def step(self, action):
        self.t += 1
        self.at = np.clip(self.at + 0.2 * action, -2, 2).astype(np.float32)
        return self.at, -float(np.abs(self.at).sum()), False, self.t == 5, {}


def _reaching() -> dict[str, Any]:
    make = partial(_make_reach)
    return {"make_train_env": make, "make_val_env": make, "env_mode": "sync"}


def _make_reach() -> AMAGOEnv:
    return AMAGOEnv(_Reach(), "reach")
