"""One training run of a case, judged after every epoch."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import gin

import envs_suite
from amago import Experiment, FFTstepEncoder
from amago.agent import get_agent_cls
from amago.envs import AMAGOEnv
from amago.envs.exploration import EpsilonGreedy
from amago.hindsight import Relabeler
from amago.loading import DiskTrajDataset
from amago.nets.traj_encoders import get_traj_encoder_cls

Split = Literal["train", "eval"]

#: What all cases share: small networks, for one CPU thread.
SMALL = {
    "FFTstepEncoder.d_hidden": 64,
    "FFTstepEncoder.d_output": 64,
    "Actor.d_hidden": 64,
    "NCritics.d_hidden": 64,
    "NCriticsTwoHot.d_hidden": 64,
    "FFTrajEncoder.d_model": 64,
    "GRUTrajEncoder.d_hidden": 64,
    "GRUTrajEncoder.d_output": 64,
    "TformerTrajEncoder.d_model": 64,
    "TformerTrajEncoder.n_heads": 4,
    "TformerTrajEncoder.d_ff": 256,
    "TformerTrajEncoder.n_layers": 2,
    "MambaTrajEncoder.d_model": 64,
    "MambaTrajEncoder.n_layers": 2,
    "Agent.num_critics": 2,
    "Agent.tau": 0.01,
    "MultiTaskAgent.num_critics": 2,
    "MultiTaskAgent.tau": 0.01,
    "EpsilonGreedy.steps_anneal": 1500,
}


@dataclass(frozen=True)
class Reference:
    """One run of AMAGO v3.3 with the same settings on one CPU thread."""

    env_steps: int
    updates: int
    cpu_seconds: float


@dataclass(frozen=True)
class Case:
    """A task, its settings, and when it counts as solved.

    Attributes:
        what: the task, in a few words for the table.
        env: id in the registry of environments, or a function (split) -> single environment.
        params: of a registered environment.
        horizon: the longest episode of an environment that is not registered.
        steps, updates: of each actor, and in all, per epoch.
        epochs: the budget.
        metric: of a greedy evaluation, averaged over its episodes.
        goal: value of ``metric`` that solves the task; ``None`` when the whole budget is spent.
        milestone: a lower value, whose first time is reported too.
        architectures: that the case is run with unless others are named.
        context: timesteps in a training sequence; the whole episode when not given.
        save_len: steps after which a trajectory is cut. Replay draws trajectories, however long they are: cut, long
            episodes count by their steps.
        replay: trajectories kept, the oldest leave first.
        agent: registered name.
        tstep: timestep encoder.
        relabeler: builds what rewrites trajectories as they are sampled.
        parts: further metrics of the last evaluation to keep.
        gin: settings on top of ``SMALL``.
    """

    what: str
    env: str | Callable[[Split], AMAGOEnv]
    steps: int
    updates: int
    epochs: int
    metric: str
    goal: float | None
    params: dict[str, Any] = field(default_factory=dict)
    horizon: int | None = None
    milestone: float | None = None
    architectures: tuple[str, ...] = ("rnn",)
    rate: float = 5e-4
    warmup: int = 500
    batch_size: int = 24
    context: int | None = None
    save_len: int = 10**10
    replay: int = 20_000
    agent: str = "agent"
    tstep: type = FFTstepEncoder
    exploration: type = EpsilonGreedy
    relabeler: Callable[[], Relabeler] | None = None
    parts: tuple[str, ...] = ()
    gin: dict[str, Any] = field(default_factory=dict)
    reference: dict[str, Reference] = field(default_factory=dict)

    @property
    def longest(self) -> int:
        """The most steps of an episode."""
        if isinstance(self.env, str):
            return envs_suite.get(self.env).horizon(self.params)
        assert self.horizon is not None
        return self.horizon

    def maker(self, split: Split, actors: int) -> tuple[Callable[[], AMAGOEnv], str]:
        """What builds the environments, and the ``env_mode`` that it is for."""
        if not isinstance(self.env, str):
            build = self.env
            return (lambda: build(split)), "sync"
        spec = envs_suite.get(self.env)
        n = actors if spec.vectorised else 1
        return (lambda: spec.make(self.params, n, split)), "vectorized" if spec.vectorised else "sync"


@dataclass(frozen=True)
class Point:
    """An evaluation on the way: what was spent until then, and the score."""

    env_steps: int
    updates: int
    cpu_seconds: float
    score: float


ACTORS = 16


def train(
    case: Case, arch: str, seed: int, extra: list[str] | None = None, report: Callable[[Point], None] = print
) -> dict[str, Any]:
    """Train until the goal or the end of the budget.

    Args:
        case: what to train.
        arch: registered trajectory encoder.
        seed: of the run.
        extra: more gin bindings, the last word.
        report: called after every epoch.

    Returns:
        JSON values: ``solved``, ``curve`` (a list for each `Point`) and ``parts``.
    """
    gin.clear_config()
    for name, value in {**SMALL, **case.gin}.items():
        gin.bind_parameter(name, value)
    gin.parse_config(extra or [])
    make_train, mode = case.maker("train", ACTORS)
    make_eval, _ = case.maker("eval", ACTORS)
    horizon = case.longest
    with tempfile.TemporaryDirectory() as folder:
        run = Experiment(
            run_name="run",
            ckpt_base_dir=folder,
            max_seq_len=case.context or horizon,
            dataset=DiskTrajDataset(
                folder, "replay", case.replay, relabeler=case.relabeler() if case.relabeler else None
            ),
            tstep_encoder_type=case.tstep,
            traj_encoder_type=get_traj_encoder_cls(arch),
            agent_type=get_agent_cls(case.agent),
            exploration_wrapper_type=case.exploration,
            val_timesteps_per_epoch=horizon,
            make_train_env=make_train,
            make_val_env=make_eval,
            env_mode=mode,
            parallel_actors=ACTORS,
            epochs=0,
            train_timesteps_per_epoch=case.steps,
            train_batches_per_epoch=case.updates,
            batch_size=case.batch_size,
            learning_rate=case.rate,
            lr_warmup_steps=case.warmup,
            val_interval=None,
            ckpt_interval=None,
            dloader_workers=0,
            traj_save_len=case.save_len,
            force_reset_train_envs_every=-(-horizon // case.steps),
            seed=seed,
            verbose=False,
        )
        run.start()
        curve: list[Point] = []
        rows: list[dict[str, Any]] = []
        solved = False
        while len(curve) < case.epochs and not solved:
            began = time.process_time()
            run.epochs += 1
            run.resume = "auto"  # go on where the last call ended
            run.learn()
            spent = time.process_time() - began + (curve[-1].cpu_seconds if curve else 0.0)
            rows = run.evaluate_test(make_eval, episodes_per_actor=2, seed=1, greedy=True).episodes
            score = statistics.mean(row[case.metric] for row in rows)
            curve.append(Point(run.env_steps, run.gradient_steps, round(spent, 2), round(score, 3)))
            report(curve[-1])
            solved = case.goal is not None and score >= case.goal
        run.close()
    parts = {name: statistics.mean(row[name] for row in rows if name in row) for name in case.parts}
    points = [(p.env_steps, p.updates, p.cpu_seconds, p.score) for p in curve]
    return {"arch": arch, "seed": seed, "solved": solved, "curve": points, "parts": parts}
