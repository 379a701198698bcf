"""How fast the agent learns: environment steps, updates and CPU time until a task is solved.

    python -m benchmarks.learning                          every case, one seed
    python -m benchmarks.learning tmaze-15 --seeds 5 --arch rnn transformer

Each case is trained on one thread until a greedy evaluation reaches its goal or its budget ends. The
reference column is one run of AMAGO v3.3 with the same settings on one CPU thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import gin
import torch
from rich.console import Console
from rich.table import Table

import envs_suite
from amago import Experiment, FFTstepEncoder
from amago.agent import Agent
from amago.envs.exploration import EpsilonGreedy
from amago.loading import DiskTrajDataset
from amago.nets.traj_encoders import get_traj_encoder_cls
from envs_suite.tmaze_exploration import TMazeExploration

WIDTH = {
    "FFTstepEncoder.d_hidden": 64,
    "FFTstepEncoder.d_output": 64,
    "Actor.d_hidden": 64,
    "NCritics.d_hidden": 64,
    "FFTrajEncoder.d_model": 64,
    "GRUTrajEncoder.d_hidden": 64,
    "GRUTrajEncoder.d_output": 64,
    "TformerTrajEncoder.d_model": 64,
    "TformerTrajEncoder.n_heads": 4,
    "TformerTrajEncoder.d_ff": 256,
    "TformerTrajEncoder.n_layers": 2,
    "Agent.num_critics": 2,
    "Agent.tau": 0.01,
    "EpsilonGreedy.steps_anneal": 1500,
}


@dataclass
class Case:
    """A task, its settings, and when it counts as solved.

    Attributes:
        steps, updates: of each actor, and in all, per epoch.
        context: timesteps in a training sequence; the whole episode when not given.
        goal: metric of the greedy evaluation and the value that solves the task.
        reference: architecture -> (env steps, updates, CPU seconds) of the reference.
    """

    env: str
    params: dict[str, Any]
    steps: int
    updates: int
    epochs: int
    goal: tuple[str, float]
    rate: float = 5e-4
    context: int | None = None
    gin: dict[str, Any] = field(default_factory=dict)
    exploration: type = EpsilonGreedy
    reference: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    extra: list[str] = field(default_factory=list)


CASES = {
    "tmaze-15": Case(
        "tmaze-passive",
        {"corridor": 15},
        steps=32,
        updates=77,
        epochs=60,
        goal=("success", 0.95),
        gin={
            "Multigammas.discrete": [0.9, 0.97],
            "Agent.gamma": 0.9999,
            "Agent.reward_multiplier": 100.0,
            "TMazeExploration.steps_anneal": 1500,
        },
        exploration=TMazeExploration,
        reference={"rnn": (7700, 1160, 57), "transformer": (5600, 840, 49)},
    ),
    "popgym-repeat-first-easy": Case(
        "popgym-repeat-first-easy",
        {},
        steps=52,
        updates=45,
        epochs=40,
        goal=("return", 0.95),
        rate=1e-3,
        gin={
            "Multigammas.discrete": [0.9, 0.97],
            "Agent.gamma": 0.99,
            "Agent.reward_multiplier": 10.0,
        },
        reference={"rnn": (12000, 650, 70)},
    ),
    "popgym-repeat-previous-easy": Case(
        "popgym-repeat-previous-easy",
        {},
        steps=52,
        updates=45,
        epochs=40,
        goal=("return", 0.95),
        rate=1e-3,
        gin={
            "Multigammas.discrete": [0.5, 0.8],
            "Agent.gamma": 0.9,
            "Agent.reward_multiplier": 10.0,
        },
    ),
    "popgym-position-only-cartpole-easy": Case(
        "popgym-position-only-cartpole-easy",
        {},
        steps=100,
        updates=60,
        epochs=40,
        goal=("return", 0.95),
        rate=1e-3,
        context=32,
        gin={
            "Multigammas.discrete": [0.9, 0.95],
            "Agent.gamma": 0.98,
            "Agent.reward_multiplier": 100.0,
        },
    ),
    "tmaze-active-10": Case(
        "tmaze-active",
        {"corridor": 10},
        steps=26,
        updates=60,
        epochs=60,
        goal=("success", 0.95),
        gin={
            "Multigammas.discrete": [0.9, 0.97],
            "Agent.gamma": 0.9999,
            "Agent.reward_multiplier": 100.0,
            "TMazeExploration.steps_anneal": 1500,
        },
        exploration=TMazeExploration,
    ),
    "key-door-4": Case(
        "dark-key-to-door",
        {"size": 4, "attempt_steps": 20, "total_steps": 60},
        steps=60,
        updates=60,
        epochs=60,
        goal=("return", 8.0),
        rate=1e-3,
        gin={
            "Multigammas.discrete": [0.8, 0.9],
            "Agent.gamma": 0.95,
            "Agent.reward_multiplier": 10.0,
        },
    ),
    "key-door-3": Case(
        "dark-key-to-door",
        {"size": 3, "attempt_steps": 15, "total_steps": 45},
        steps=45,
        updates=60,
        epochs=60,
        goal=("return", 10.0),
        rate=1e-3,
        gin={
            "Multigammas.discrete": [0.8, 0.9],
            "Agent.gamma": 0.95,
            "Agent.reward_multiplier": 10.0,
        },
    ),
    "lake-3x6": Case(
        "meta-frozen-lake",
        {"size": 3, "attempts": 6},
        steps=54,
        updates=60,
        epochs=60,
        goal=("success", 0.93),
        rate=5e-4,
        gin={
            "Multigammas.discrete": [0.8, 0.9],
            "Agent.gamma": 0.97,
            "Agent.reward_multiplier": 10.0,
        },
    ),
    "lake-4x6": Case(
        "meta-frozen-lake",
        {"size": 4, "attempts": 6},
        steps=48,
        updates=60,
        epochs=50,
        goal=("success", 0.93),
        rate=1e-3,
        gin={
            "Multigammas.discrete": [0.8, 0.9],
            "Agent.gamma": 0.95,
            "Agent.reward_multiplier": 10.0,
            "EpsilonGreedy.steps_anneal": 800,
        },
    ),
    "lake-4": Case(
        "meta-frozen-lake",
        {"size": 4, "attempts": 3},
        steps=48,
        updates=60,
        epochs=60,
        goal=("success", 0.9),
        rate=1e-3,
        gin={
            "Multigammas.discrete": [0.8, 0.9],
            "Agent.gamma": 0.97,
            "Agent.reward_multiplier": 10.0,
        },
    ),
}


def train(case: Case, arch: str, seed: int, echo: bool) -> dict[str, Any]:
    """One run: what it took, and its curve."""
    gin.clear_config()
    for name, value in {**WIDTH, **case.gin}.items():
        gin.bind_parameter(name, value)
    gin.parse_config(case.extra)
    spec = envs_suite.get(case.env)
    actors, horizon = 16, spec.horizon(spec.params | case.params)

    def make(split: Literal["train", "eval"]) -> Any:
        return lambda: spec.make(
            spec.params | case.params, num_envs=actors if spec.vectorised else 1, split=split
        )

    with tempfile.TemporaryDirectory() as folder:
        run = Experiment(
            run_name="run",
            ckpt_base_dir=folder,
            max_seq_len=case.context or horizon,
            dataset=DiskTrajDataset(folder, "replay", 20_000),
            tstep_encoder_type=FFTstepEncoder,
            traj_encoder_type=get_traj_encoder_cls(arch),
            agent_type=Agent,
            exploration_wrapper_type=case.exploration,
            val_timesteps_per_epoch=horizon,
            make_train_env=make("train"),
            make_val_env=make("eval"),
            env_mode="vectorized" if spec.vectorised else "sync",
            parallel_actors=actors,
            epochs=0,
            train_timesteps_per_epoch=case.steps,
            train_batches_per_epoch=case.updates,
            batch_size=24,
            learning_rate=case.rate,
            val_interval=None,
            ckpt_interval=None,
            dloader_workers=0,
            force_reset_train_envs_every=-(-horizon // case.steps),
            seed=seed,
            verbose=False,
        )
        run.start()
        seconds, curve, solved = 0.0, [], False
        for epoch in range(1, case.epochs + 1):
            began = time.process_time()
            run.epochs = epoch
            run.resume = "auto"
            run.learn()
            seconds += time.process_time() - began
            tested = run.evaluate_test(make("eval"), episodes_per_actor=2, seed=1, greedy=True)
            score = statistics.mean(row[case.goal[0]] for row in tested.episodes)
            curve.append((run.env_steps, run.gradient_steps, round(seconds, 2), round(score, 3)))
            if echo:
                print(arch, seed, *curve[-1], flush=True)
            if score >= case.goal[1]:
                solved = True
                break
        run.close()
    return {"arch": arch, "seed": seed, "solved": solved, "curve": curve}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("cases", nargs="*", default=list(CASES), help=f"any of {', '.join(CASES)}")
    parser.add_argument("--arch", nargs="+", default=["ff", "rnn", "transformer"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, help="another budget than the case's")
    parser.add_argument("--rate", type=float, help="another learning rate than the case's")
    parser.add_argument("--set", action="append", default=[], help="a gin binding, such as Agent.tau=0.005")
    parser.add_argument("--json", type=Path, help="also write curves here")
    parser.add_argument("--echo", action="store_true", help="print every epoch")
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = Table("task", "arch", "solved", "env steps", "updates", "CPU s", "ms/update", "reference")
    results = []
    for name in options.cases:
        case = CASES[name]
        case.epochs = options.epochs or case.epochs
        case.rate = options.rate or case.rate
        case.extra = options.set
        for arch in options.arch:
            seeds = range(options.first_seed, options.first_seed + options.seeds)
            runs = [train(case, arch, seed, options.echo) for seed in seeds]
            results += [{"case": name, **r} for r in runs]
            ends = [r["curve"][-1] for r in runs]
            steps, updates, seconds = (statistics.median(e[i] for e in ends) for i in range(3))
            solved = sum(r["solved"] for r in runs)
            reference = case.reference.get(arch)
            known = "{:,} steps, {:,} updates, {} s".format(*reference) if reference else ""
            score = statistics.median(e[3] for e in ends)
            table.add_row(
                name,
                arch,
                f"{solved} of {len(runs)} (score {score})",
                f"{steps:,.0f}",
                f"{updates:,.0f}",
                f"{seconds:.1f}",
                f"{1000 * sum(e[2] for e in ends) / sum(e[1] for e in ends):.1f}",
                known,
            )
    Console(width=140).print(table)
    print("env steps, updates and CPU s: medians over seeds; ms/update: all training CPU time over updates")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
