"""A training run of a second or two, for tests that stop and continue it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import gin
import torch

import envs_suite
from amago import Experiment
from amago.agent import Agent
from amago.envs.exploration import EpsilonGreedy
from amago.loading import DiskTrajDataset
from amago.nets.traj_encoders import get_traj_encoder_cls
from amago.nets.tstep_encoders import FFTstepEncoder
from amago.tracking import CLOCK_COLUMNS

GIN = {
    "FFTstepEncoder.d_hidden": 16,
    "FFTstepEncoder.d_output": 16,
    "FFTrajEncoder.d_model": 16,
    "GRUTrajEncoder.d_hidden": 16,
    "GRUTrajEncoder.d_output": 16,
    "TformerTrajEncoder.d_model": 16,
    "TformerTrajEncoder.n_heads": 2,
    "TformerTrajEncoder.d_ff": 32,
    "TformerTrajEncoder.n_layers": 2,
    "MambaTrajEncoder.d_model": 16,
    "MambaTrajEncoder.n_layers": 1,
    "Actor.d_hidden": 16,
    "NCritics.d_hidden": 16,
    "Agent.num_critics": 2,
    "Multigammas.discrete": [0.9, 0.97],
    "EpsilonGreedy.steps_anneal": 40,
}


def configure(**more: Any) -> None:
    """Small networks for the next experiment, on one thread."""
    torch.set_num_threads(1)
    gin.clear_config()
    for name, value in {**GIN, **more}.items():
        gin.bind_parameter(name, value)


def experiment(folder: Path, arch: str = "rnn", **changes: Any) -> Experiment:
    """A started (or, with ``start=False``, only built) experiment on a T-Maze of corridor 5, in ``folder``."""
    spec = envs_suite.get("tmaze-passive")
    actors = changes.pop("parallel_actors", 4)

    def make() -> Any:
        return spec.make({"corridor": 5}, num_envs=actors, split="train")

    settings: dict[str, Any] = {
        "run_name": "run",
        "ckpt_base_dir": folder,
        "max_seq_len": 6,
        "dataset": DiskTrajDataset(folder, "replay", 30),
        "tstep_encoder_type": FFTstepEncoder,
        "traj_encoder_type": get_traj_encoder_cls(arch),
        "agent_type": Agent,
        "exploration_wrapper_type": EpsilonGreedy,
        "val_timesteps_per_epoch": 7,
        "make_train_env": make,
        "make_val_env": make,
        "env_mode": "vectorized",
        "parallel_actors": actors,
        "epochs": 6,
        "train_timesteps_per_epoch": 8,
        "train_batches_per_epoch": 4,
        "batch_size": 4,
        "val_interval": 2,
        "ckpt_interval": 2,
        "log_interval": 2,
        "dloader_workers": 0,
        "seed": 7,
        "resume": "auto",
        "force_reset_train_envs_every": 1,
        "verbose": False,
    }
    start = changes.pop("start", True)
    made = Experiment(**{**settings, **changes})
    if start:
        made.start()
    return made


def outcome(run: Experiment) -> tuple[dict[str, torch.Tensor], list[list[str]], list[dict[str, Any]]]:
    """What two equal runs share: weights, progress without clocks, episodes of a test."""
    weights = {k: v.clone() for k, v in run.policy.state_dict().items()}
    assert run.tracker.progress_file is not None
    rows = list(csv.reader(run.tracker.progress_file.open()))
    keep = [i for i, name in enumerate(rows[0]) if name not in CLOCK_COLUMNS]
    tested = run.evaluate_test(run.make_val_env, episodes_per_actor=2, seed=3, greedy=True)
    return weights, [[row[i] for i in keep] for row in rows], tested.episodes


def assert_same(a: Experiment, b: Experiment) -> None:
    """Bit for bit the same weights, progress and episodes."""
    (weights_a, rows_a, episodes_a), (weights_b, rows_b, episodes_b) = outcome(a), outcome(b)
    assert weights_a.keys() == weights_b.keys()
    different = [k for k in weights_a if not torch.equal(weights_a[k], weights_b[k])]
    assert not different, f"weights differ: {different[:5]}"
    assert rows_a == rows_b
    assert repr(episodes_a) == repr(episodes_b)
