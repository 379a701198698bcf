"""Short training runs whose figures are kept: what `amago.TRAINING_VERSION` promises stays as it is.

    python -m tests.unit.core.golden        run them and write tests/reference/training.json anew

A version of the library that trains to other figures needs a higher `TRAINING_VERSION`: cells that older
versions trained are then not taken for its own.
"""

from __future__ import annotations

import csv
import json
import math
import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import envs_suite
from amago.agent import get_agent_cls
from amago.version import TRAINING_VERSION
from tests.unit.core.small_run import configure, experiment

FILE = Path(__file__).parents[2] / "reference" / "training.json"
COLUMNS = ("loss", "actor_loss", "critic_loss", "grad_norm", "train_return", "val_return")


@dataclass
class Run:
    """One kept run.

    Attributes:
        arch, agent: registered names.
        gin: settings on top of the small run's.
        env: another environment than the T-Maze; not vectorised.
    """

    arch: str
    agent: str = "agent"
    gin: dict[str, Any] = field(default_factory=dict)
    env: str | None = None


_MULTITASK = {
    "MultiTaskAgent.num_critics": 2,
    "NCriticsTwoHot.d_hidden": 16,
    "NCriticsTwoHot.output_bins": 32,
}
_CONTINUOUS = {"Multigammas.continuous": [0.9]}

RUNS = {
    "ff": Run("ff"),
    "rnn": Run("rnn"),
    "transformer": Run("transformer"),
    "mamba": Run("mamba"),
    "n-step, exp filter": Run("ff", gin={"Agent.n_step": 3, "Agent.fbc_filter_func": "@exp_filter"}),
    "continuous": Run("ff", env="gym-pendulum", gin=_CONTINUOUS),
    "multitask": Run("rnn", "multitask", _MULTITASK),
    "multitask, hlgauss": Run("ff", "multitask", _MULTITASK | {"NCriticsTwoHot.label_type": "hlgauss"}),
    "multitask, online": Run("ff", "multitask", _MULTITASK | {"MultiTaskAgent.online_coeff": 1.0}),
    "multitask, continuous": Run("ff", "multitask", _MULTITASK | _CONTINUOUS, env="gym-pendulum"),
}


def figures(run: Run, folder: Path) -> dict[str, list[float]]:
    """Train, then: every epoch's losses and returns, and two projections of each network's weights."""
    bindings = dict(run.gin)
    references = {k: bindings.pop(k) for k in list(bindings) if str(bindings[k]).startswith("@")}
    configure(**bindings)
    import gin

    gin.parse_config([f"{k} = {v}" for k, v in references.items()])
    changes: dict[str, Any] = {}
    if run.env is not None:
        make: Callable[[], Any] = lambda: envs_suite.get(str(run.env)).make()  # noqa: E731
        changes = {
            "make_train_env": make,
            "make_val_env": make,
            "env_mode": "sync",
            "val_timesteps_per_epoch": 200,
        }
    trained = experiment(
        folder,
        run.arch,
        agent_type=get_agent_cls(run.agent),
        epochs=4,
        learning_rate=3e-3,
        lr_warmup_steps=4,
        **changes,
    )
    trained.learn()
    assert trained.tracker.progress_file is not None
    rows = list(csv.DictReader(trained.tracker.progress_file.open()))
    found = {name: [float(row[name]) for row in rows if row[name]] for name in COLUMNS}
    networks: dict[str, list[torch.Tensor]] = defaultdict(list)
    for name, weight in trained.policy.state_dict().items():
        networks[name.split(".")[0]].append(weight.double().flatten())
    for name, weights in networks.items():
        flat = torch.cat(weights)
        angle = torch.arange(len(flat), dtype=torch.float64)
        # two fixed directions of unit length, near enough: a change in any weight shows in them
        scale = math.sqrt(2.0 / len(flat))
        found[f"weights of {name}"] = [float(f(angle) @ flat) * scale for f in (torch.sin, torch.cos)]
    trained.close()
    return {name: values for name, values in found.items() if values}


def main() -> None:
    kept: dict[str, Any] = {"training_version": TRAINING_VERSION, "runs": {}}
    for name, run in RUNS.items():
        with tempfile.TemporaryDirectory() as folder:
            found = figures(run, Path(folder))
        kept["runs"][name] = {k: [float(f"{v:.7g}") for v in values] for k, values in found.items()}
    FILE.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
