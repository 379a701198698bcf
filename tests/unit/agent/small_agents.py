"""Small agents and batches for the tests of this folder."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import gin
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from amago.agent import Agent, MultiTaskAgent
from amago.loading import Batch
from amago.nets import actor_critic as ac
from amago.nets.traj_encoders import GRUTrajEncoder
from amago.nets.tstep_encoders import FFTstepEncoder

FIGURES = Path(__file__).parents[2] / "reference"
OBS = 4
ACTION_SPACES = {
    "discrete": spaces.Discrete(3),
    "multibinary": spaces.MultiBinary(3),
    "continuous": spaces.Box(-1.0, 1.0, (3,)),
}


def figures(name: str) -> dict[str, Tensor]:
    """One file of reference figures."""
    with np.load(FIGURES / f"{name}.npz", allow_pickle=False) as file:
        return {key: torch.from_numpy(np.array(file[key])) for key in file.files}


def build(
    cls: type[Agent] = Agent,
    space: spaces.Space | str = "discrete",
    gammas: tuple[float, ...] = (0.9, 0.97),
    gamma: float = 0.99,
    dist: Any = None,
    **settings: Any,
) -> Any:
    """A small agent in training mode (GRU 24 -> 20, hidden layers of 16, three discounts)."""
    action_space = ACTION_SPACES[space] if isinstance(space, str) else space
    two_hot = issubclass(cls, MultiTaskAgent)
    bins: dict[str, Any] = dict(min_return=-1000.0, max_return=1000.0, output_bins=32) if two_hot else {}
    critic = partial(ac.NCriticsTwoHot if two_hot else ac.NCritics, d_hidden=16, n_layers=2, **bins)
    head: dict[str, Any] = {} if dist is None else {"continuous_dist_type": dist}
    settings = {
        "actor_type": partial(ac.Actor, d_hidden=16, n_layers=2, **head),
        "critic_type": critic,
        "num_critics": 2,
        **settings,
    }
    # Only the lists are set: whatever else a test configured stays.
    with gin.unlock_config():
        gin.bind_parameter("Multigammas.discrete", list(gammas))
        gin.bind_parameter("Multigammas.continuous", list(gammas))
    agent = cls(
        spaces.Dict({"observation": spaces.Box(-np.inf, np.inf, (OBS,))}),
        spaces.Box(-np.inf, np.inf, (1 + spaces.flatdim(action_space),)),
        action_space,
        partial(FFTstepEncoder, n_layers=2, d_hidden=16, d_output=12, normalize_inputs=False),
        partial(GRUTrajEncoder, d_hidden=24, n_layers=2, d_output=20),
        9,
        gamma=gamma,
        **settings,
    )
    return agent.train()


def make_batch(
    space: str = "discrete", lengths: tuple[int, ...] = (8, 8, 5), seed: int = 0, padding: float = 0.0
) -> Batch:
    """Random sequences; what lies beyond a sequence's length is ``padding`` times noise."""
    rng = torch.Generator().manual_seed(seed)
    b, length = len(lengths), max(lengths)
    if space == "discrete":
        actions = torch.nn.functional.one_hot(torch.randint(3, (b, length), generator=rng), 3).float()
    elif space == "multibinary":
        actions = torch.randint(2, (b, length, 3), generator=rng).float()
    else:
        actions = torch.rand(b, length, 3, generator=rng) * 2 - 1
    obs = torch.randn(b, length + 1, OBS, generator=rng)
    rews = torch.randn(b, length, 1, generator=rng)
    dones = torch.rand(b, length, 1, generator=rng) < 0.15
    rl2s = torch.cat((torch.zeros(b, 1, 4), torch.cat((rews, actions), -1)), 1)
    mask = torch.arange(length)[None, :, None] < torch.tensor(lengths)[:, None, None]
    seen = torch.cat((torch.ones_like(mask[:, :1]), mask), 1)
    junk = torch.randn(b, length + 1, 4, generator=rng) * padding
    time_idxs = torch.arange(length + 1)[None, :, None].expand(b, -1, 1).clone()
    return Batch(
        obs={"observation": torch.where(seen, obs, junk)},
        rl2s=torch.where(seen, rl2s, junk),
        rews=torch.where(mask, rews, junk[:, 1:, :1]),
        dones=torch.where(mask, dones, junk[:, 1:, :1] > 0),
        actions=torch.where(mask, actions, junk[:, 1:, :3]),
        time_idxs=time_idxs,
        mask=mask,
    )


def reference_batch(d: dict[str, Tensor]) -> Batch:
    """The batch of a whole-agent reference file."""
    actions, rewards = d["action"], d["reward"]
    previous = torch.cat((rewards, actions), -1)
    steps = torch.arange(actions.shape[1])[None, :, None]
    return Batch(
        obs={"observation": d["obs"]},
        rl2s=torch.cat((torch.zeros_like(previous[:, :1]), previous), 1),
        rews=rewards,
        dones=d["done"],
        actions=actions,
        time_idxs=d["time_idxs"],
        mask=steps < d["length"][:, None, None],
    )


def gradients(agent: Any) -> dict[str, Tensor]:
    """Gradients by parameter name; zeros where there is none."""
    return {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in agent.named_parameters()}


def loss_and_gradients(agent: Any, batch: Batch, seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    """One forward and backward from a fixed draw of random numbers."""
    torch.manual_seed(seed)
    agent.zero_grad(set_to_none=True)
    loss = agent(batch, log_step=False)
    loss.backward()
    return loss.detach(), gradients(agent)


def spread_targets(agent: Any, seed: int = 1) -> None:
    """Make target networks differ from the learned ones, and PopArt from its start."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in agent.named_parameters():
            if name.startswith("target_"):
                p.add_(0.1 * torch.randn(p.shape, generator=rng))
        agent.popart.update_stats(3.0 + 2.0 * torch.randn(50, len(agent.gammas), 1, generator=rng))
