"""`Experiment`: from environments and choices to a trained policy."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gin
import numpy as np
import torch

from amago import async_mode, parallel, resume
from amago.checkpoints import CheckpointStore, Position
from amago.determinism import set_deterministic
from amago.envs.actors import WORKER_TIMEOUT, Actors
from amago.envs.exploration import EpsilonGreedy, ExplorationWrapper
from amago.errors import CheckpointError
from amago.evaluation import (
    EvaluationResult,
    ReturnHistory,
    SpecialMetricHistory,
    check_counts,
    episode_rows,
    epoch_line,
    histories,
    mean_metric,
    mean_return,
    summarise,
)
from amago.experiment_saving import ExperimentSaving
from amago.experiment_settings import check_settings
from amago.files import make_folder, storage_errors
from amago.gin_names import explains_required
from amago.interrupts import StopRequest
from amago.loading import Batch, RLDataset
from amago.rollout import Episode
from amago.seeding import SeedTree

#: progress.csv column -> name in the agent's metrics.
_ROW_METRICS = {
    "loss": "loss",
    "actor_loss": "Actor Loss",
    "critic_loss": "Critic Loss",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
}


@explains_required
@gin.configurable
class Experiment(ExperimentSaving):
    """Trains one agent: collect, learn, validate, checkpoint, epoch after epoch.

    Training is a chain of segments. With ``force_reset_train_envs_every`` set, every segment begins
    with a seeded reset of all training environments, and a run that was interrupted and resumed ends
    bit for bit where an uninterrupted one ends (CPU; on GPU with ``deterministic=True``).

    Args: see `amago.experiment_settings.ExperimentSettings`, one sentence for each.

    Raises:
        ConfigurationError: impossible settings, before anything starts.
    """

    def __init__(
        self,
        *,
        run_name: str,
        ckpt_base_dir: str | Path,
        max_seq_len: int,
        dataset: RLDataset,
        tstep_encoder_type: type,
        traj_encoder_type: type,
        agent_type: type,
        val_timesteps_per_epoch: int,
        make_train_env: Any,
        make_val_env: Any,
        parallel_actors: int = 12,
        env_mode: str = "async",
        async_env_mp_context: str | None = None,
        worker_timeout: float = WORKER_TIMEOUT,
        exploration_wrapper_type: type[ExplorationWrapper] | None = EpsilonGreedy,
        sample_actions_train: bool = True,
        sample_actions_val: bool = True,
        force_reset_train_envs_every: int | None = None,
        log_to_wandb: bool = False,
        wandb_project: str | None = os.environ.get("AMAGO_WANDB_PROJECT"),
        wandb_entity: str | None = os.environ.get("AMAGO_WANDB_ENTITY"),
        wandb_group_name: str | None = None,
        verbose: bool = True,
        log_interval: int = 300,
        traj_save_len: int = 10**10,
        has_dset_edit_rights: bool = True,
        stagger_traj_file_lengths: bool = True,
        save_trajs_as: str = "npz",
        padded_sampling: str = "none",
        dloader_workers: int = 6,
        epochs: int = 1000,
        start_learning_at_epoch: int = 0,
        start_collecting_at_epoch: int = 0,
        train_timesteps_per_epoch: int = 1000,
        train_batches_per_epoch: int = 1000,
        val_interval: int | None = 20,
        ckpt_interval: int | None = 50,
        always_save_latest: bool = True,
        always_load_latest: bool = False,
        batch_size: int = 24,
        batches_per_update: int = 1,
        learning_rate: float = 1e-4,
        lr_warmup_steps: int = 500,
        grad_clip: float = 1.0,
        l2_coeff: float = 1e-3,
        mixed_precision: str = "no",
        seed: int | None = None,
        resume: str = "never",
        keep_last_checkpoints: int | None = 2,
        ckpt_interval_minutes: float | None = None,
        grace_seconds: float = 60.0,
        deterministic: bool | None = None,
        log_dir: str | Path | None = None,
        compile: str | None = None,
        on_epoch_end: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        settings = {k: v for k, v in locals().items() if k != "self"}
        check_settings(settings)
        for name, value in settings.items():
            setattr(self, name, value)
        self.run_folder = Path(ckpt_base_dir) / run_name
        self.ckpt_folder = self.run_folder / "ckpts"
        self.processes = parallel.join()
        drawn = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else int(seed)
        self.seed: int = self.processes.from_main(drawn)
        self.seeds = self.own_seeds = SeedTree(self.seed)
        if not self.processes.is_main:
            # Shared: weights and validation. Its own: rollouts, batches, noise.
            self.own_seeds = SeedTree(self.seeds.integer("process", self.processes.rank))
        self.DEVICE = self.processes.device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.mode = "both"
        self.store = CheckpointStore(self.ckpt_folder / "training_states", keep_last_checkpoints)
        self.epoch = 0
        self.batch = 0
        self.env_steps = 0
        self.gradient_steps = 0
        self.wall_seconds = 0.0
        self._row: dict[str, Any] = {}
        self._last_checkpoint: Position | None = None
        self._stop = StopRequest(grace_seconds)

    # -- building -----------------------------------------------------------------------------

    @storage_errors()
    def start(self) -> None:
        """Build environments, policy, optimiser and logs; restore the run if ``resume="auto"``."""
        if self.deterministic is not None:
            set_deterministic(self.deterministic, self.DEVICE)
        make_folder(self.run_folder)
        if self.mode != "both":
            async_mode.prepare(self)
        elif self.processes.several:
            self.dataset.share_as("parallel", f"{self.processes.rank:04d}")
        self.init_envs()
        self.init_dsets()
        self.init_model()
        self.init_logger()
        if self.resume == "auto" and self.mode != "collect":
            checkpoint = self.store.newest(resume.replay_check(self))
            self.processes.wait()  # restoring removes what came after it
            if checkpoint is not None:
                resume.restore(self, checkpoint)
                self._last_checkpoint = checkpoint.position
            else:
                # Nothing to go on from: what an earlier attempt left must not be mixed in.
                self.store.discard_after(Position(-1))
                self.dataset.begin_anew()
                self.tracker.cut_back(0, 0)
        self.processes.wait()
        self._clock = self._last_checkpoint_time = time.monotonic()
        self._segment_start = resume.snapshot(self, tensors=False)

    # -- the loop -------------------------------------------------------------------------------

    @storage_errors()
    def learn(self) -> None:
        """Train until ``epochs`` epochs are done.

        Raises:
            TrainingInterrupted: SIGTERM or SIGINT; what the contract allows was checkpointed.
            TrainingDiverged: a loss that is not finite; the last checkpoint is intact.
            EnvironmentFailure: an environment broke.
            CheckpointError: a checkpoint cannot be written, or this run folder holds another attempt's.
            StorageError: another file cannot be written (disk full); the last checkpoint is intact.
        """
        started = self._last_checkpoint is not None or self.mode == "collect"
        if self.resume == "never" and not started and self.store.positions():
            raise CheckpointError(
                f"{self.store.folder} has checkpoints of an earlier run; pass resume='auto' to go on from them, "
                "or choose another run_name"
            )
        self._clock = time.monotonic()
        with self._stop:
            resumed = self._last_checkpoint is not None and self.always_save_latest
            if self.mode == "learn" or (self.mode == "both" and resumed):
                # Collectors need not wait for an epoch, and a power loss may have taken the last one.
                self.write_latest_policy()
            while self.epoch < self.epochs:
                self._run_epoch()
            self._checkpoint_if_due(force=True)
            if self.mode != "collect":
                self.write_latest_policy()

    def request_stop(self) -> None:
        """Stop ``learn`` soon, as SIGTERM would (for other threads)."""
        self._stop.ask()

    def _run_epoch(self) -> None:
        epoch_start = time.monotonic()
        steps_before, updates_before = self.env_steps, self.gradient_steps
        if self.batch == 0:
            if self._begins_segment(self.epoch):
                # In a segment of one epoch the weights do not change before its learning phase.
                self._segment_start = resume.snapshot(self, tensors=not self._ends_segment(self.epoch))
            self._row = {}
            if self.processes.several and self._stop_wanted():
                self._stop_now(live=False)
            if self.always_load_latest:
                self.read_latest_policy()
            validates = self.val_timesteps_per_epoch > 0 and self.processes.is_main
            if validates and self.val_interval and self.epoch % self.val_interval == 0:
                self.evaluate_val()
            if self.train_timesteps_per_epoch > 0 and self.epoch >= self.start_collecting_at_epoch:
                self.collect_new_training_data()
        self.env_steps += self.dataset.on_epoch(self.epoch) or 0
        if self.mode == "learn":
            async_mode.wait_for_data(self)
        # All or none: an update of one process waits for the others'.
        waiting = self.processes.any(not self.dataset.ready_for_training)
        if self.epoch >= self.start_learning_at_epoch and not waiting:
            self._learn_epoch()
        self._finish_epoch(time.monotonic() - epoch_start, steps_before, updates_before)

    def collect_new_training_data(self) -> list[Episode]:
        """One epoch's rollouts, stored; returns the episodes that ended."""
        episodes = self.collector.collect(self._check_stop_while_acting)
        self._row |= {
            "train_episodes": len(episodes),
            "train_return": mean_return(episodes),
            "train_success": mean_metric(episodes, "success"),
        }
        self.tracker.log("train", self.policy_metrics(*histories(episodes)), self._counters())
        return episodes

    def evaluate_val(self) -> dict[str, Any]:
        """Roll out on the validation environments and log what happened."""
        episodes = self.collector.validate(self._check_stop_while_acting)
        self._row |= {
            "val_episodes": len(episodes),
            "val_return": mean_return(episodes),
            "val_success": mean_metric(episodes, "success"),
        }
        metrics = self.policy_metrics(*histories(episodes))
        self.tracker.log("val", metrics, self._counters())
        return metrics

    def policy_metrics(
        self, returns: Sequence[ReturnHistory], specials: Sequence[SpecialMetricHistory]
    ) -> dict[str, Any]:
        """Named metrics of finished episodes; override to add your own.

        Args:
            returns: ``.data[environment's name]`` is the list of its episodes' returns.
            specials: ``.data[environment's name][metric]`` is the list of what its episodes logged.
        """
        return summarise(returns, specials)

    def interact(
        self,
        envs: Actors,
        timesteps: int,
        hidden_state: Any = None,
        render: bool = False,
        save_on_done: bool = False,
        episodes: int | None = None,
    ) -> tuple[Any, tuple[list[ReturnHistory], list[SpecialMetricHistory]]]:
        """Act in ``train_envs`` (with exploration; what happens is recorded), ``val_envs``, or other actors.

        Args:
            envs: what acts.
            timesteps: steps of each actor.
            hidden_state: as the last call with these ``envs`` returned it, to go on from there; without one
                all are reset.
            render: show the first environment after every step.
            save_on_done: put finished trajectories of ``train_envs`` into the dataset at the end; otherwise
                the next collection does so.
            episodes: stop early when so many have ended.

        Returns:
            The hidden state, and the finished episodes' returns and metrics as :meth:`policy_metrics` gets them.
        """
        found = self.collector.interact(
            envs, timesteps, hidden_state, render, save_on_done, episodes, self._check_stop_while_acting
        )
        return found[0], histories(found[1])

    def _learn_epoch(self) -> None:
        self.policy.train()
        for index, batch in self.collector.batches(self.epoch, self.batch):
            # Only here, between optimiser steps, is a stop resumable in the middle of learning.
            if index % self.batches_per_update == 0 and self._stop_wanted():
                # Before the epoch's first update its rollouts are in the replay, and would be made again.
                self._stop_now(live=index > 0 and self._ends_segment(self.epoch))
            last = index + 1 == self.train_batches_per_epoch
            log_step = last or self.gradient_steps % self.log_interval == 0
            self.own_seeds.seed_torch("update", self.gradient_steps)
            metrics = self.train_step(batch, log_step)
            self.gradient_steps += 1
            self.batch = index + 1
            if log_step:
                self._log_update({k: float(v) for k, v in metrics.items()})

    def train_step(self, batch: Batch, log_step: bool) -> dict[str, Any]:
        """Learn from one batch; returns metrics when ``log_step``."""
        return self.updater.step(batch.to(self.DEVICE), log_step, self.gradient_steps)

    def _log_update(self, metrics: dict[str, float]) -> None:
        self.tracker.log("train-update", metrics, self._counters())
        for column, key in _ROW_METRICS.items():
            if key in metrics:
                total, count = self._row.get(f"_{column}", (0.0, 0))
                self._row[f"_{column}"] = (total + metrics[key], count + 1)

    def _finish_epoch(self, seconds: float, steps_before: int, updates_before: int) -> None:
        now = time.monotonic()
        self.wall_seconds += now - self._clock
        self._clock = now
        row = {k: v for k, v in self._row.items() if not k.startswith("_")}
        row |= {k[1:]: v[0] / v[1] for k, v in self._row.items() if k.startswith("_")}
        row |= {
            "epoch": self.epoch,
            "env_steps": self.env_steps,
            "gradient_steps": self.gradient_steps,
            "wall_seconds": round(self.wall_seconds, 3),
            "env_steps_per_second": round((self.env_steps - steps_before) / seconds, 1),
            "updates_per_second": round((self.gradient_steps - updates_before) / seconds, 2),
            "trajectories": len(self.dataset) if hasattr(self.dataset, "__len__") else None,
        }
        self.tracker.epoch_row(row)
        self.epoch, self.batch = self.epoch + 1, 0
        if self.always_save_latest:
            self.write_latest_policy()
        self._checkpoint_if_due()
        if self.verbose and self.processes.is_main:
            print(epoch_line(row, self.epochs, seconds), flush=True)
        if self.on_epoch_end is not None:
            self.on_epoch_end(row)

    # -- testing --------------------------------------------------------------------------------

    def evaluate_test(
        self,
        make_test_env: Any,
        timesteps: int | None = None,
        render: bool = False,
        save_trajs_to: str | Path | None = None,
        episodes: int | None = None,
        *,
        episodes_per_actor: int | None = None,
        seed: int | None = None,
        greedy: bool | None = None,
    ) -> EvaluationResult:
        """Roll out the policy on test environments, without exploration.

        Args:
            make_test_env: builds a test environment (see ``make_train_env``).
            timesteps: steps of each actor; with no count given, the validation's. With a number of
                episodes: at most so many steps.
            render: show the first environment.
            save_trajs_to: folder for the trajectories, which go to ``test.safetensors`` there.
            episodes: episodes in all, shared equally among the actors (rounded up).
            episodes_per_actor: whole episodes of each actor: every actor counts alike, so short
                episodes are not over-represented.
            seed: of the environments' resets; default a child of the run's seed.
            greedy: take the most likely action; default the opposite of ``sample_actions_val``.

        Returns:
            Metrics by name; ``.episodes`` has one row for each episode.

        Raises:
            ConfigurationError: nothing to do, or two different numbers of episodes.
            EnvironmentFailure: an environment broke, or its episodes do not end.
        """
        check_counts(timesteps, episodes, episodes_per_actor, self.val_timesteps_per_epoch)
        if episodes is not None:
            episodes_per_actor = -(-episodes // self.parallel_actors)
        elif timesteps is None and episodes_per_actor is None:
            timesteps = self.val_timesteps_per_epoch
        actors = self._make_actors(make_test_env)
        try:
            found = self.collector.test(
                actors,
                timesteps=timesteps,
                episodes_per_actor=episodes_per_actor,
                tree=self.seeds if seed is None else SeedTree(seed),
                sample=self.sample_actions_val if greedy is None else not greedy,
                render=render,
                save_trajs_to=Path(save_trajs_to) if save_trajs_to else None,
            )
        finally:
            actors.close()
        metrics = self.policy_metrics(*histories(found))
        self.tracker.log("test", metrics, self._counters())
        return EvaluationResult(metrics, episode_rows(found))

    def close(self) -> None:
        """Free environments, workers and logs."""
        self.train_envs.close()
        self.val_envs.close()
        self.tracker.close()
