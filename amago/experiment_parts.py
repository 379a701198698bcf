"""What an `Experiment` is made of: environments, dataset, policy, optimiser, logs, and where it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gin
import gymnasium as gym
import numpy as np
import torch

from amago.collection import Collector
from amago.envs.actors import Actors, make_actors
from amago.experiment_settings import ExperimentSettings
from amago.files import write_text
from amago.gin_names import explain_required, operative_settings
from amago.parallel import Processes
from amago.seeding import SeedTree
from amago.storage import ActionFormat
from amago.tracking import Tracker
from amago.updates import Updater
from amago.version import TRAINING_VERSION


class ExperimentParts(ExperimentSettings):
    """Builds the parts, and counts.

    Attributes:
        run_folder: everything that this run writes.
        processes: the group that trains together.
        seeds: of what all of the group share; ``own_seeds`` of what each does by itself.
        DEVICE: where the policy is.
        mode: ``both``, ``collect`` or ``learn``; see `amago.async_mode`.
        epoch: epochs that are done; ``batch`` of the next one's batches.
        env_steps: steps of all actors; ``gradient_steps`` batches learned from.
        wall_seconds: of training, over all sessions.
    """

    run_folder: Path
    processes: Processes
    seeds: SeedTree
    own_seeds: SeedTree
    DEVICE: torch.device
    mode: str
    epoch: int
    batch: int
    env_steps: int
    gradient_steps: int
    wall_seconds: float
    train_envs: Actors
    val_envs: Actors
    collector: Collector
    action_format: ActionFormat
    policy: Any
    optimizer: torch.optim.Optimizer
    updater: Updater
    tracker: Tracker
    _row: dict[str, Any]

    @explain_required()
    def init_envs(self) -> None:
        """Build the actors of training and validation."""
        self.train_envs = self._make_actors(self.make_train_env)
        self.val_envs = self._make_actors(self.make_val_env)
        explore = self.exploration_wrapper_type
        self.action_format = self.train_envs.action_format
        self.collector = Collector(
            self, self.train_envs, explore(self.train_envs) if explore is not None else None, self.val_envs
        )

    def _make_actors(self, make_env: Any) -> Actors:
        return make_actors(
            make_env, self.parallel_actors, self.env_mode, self.async_env_mp_context, self.worker_timeout
        )

    def init_dsets(self) -> None:
        """Tell the dataset about this run."""
        self.dataset.configure_from_experiment(self)

    @explain_required()
    def init_model(self) -> None:
        """Build the policy, from the ``init`` stream, and its optimiser."""
        self.seeds.seed_torch("init")
        self.policy = self.build_policy().to(self.DEVICE)
        self.optimizer = self.init_optimizer(self.policy)
        self.updater = Updater(
            self.policy,
            self.optimizer,
            lr_warmup_steps=self.lr_warmup_steps,
            grad_clip=self.grad_clip,
            batches_per_update=self.batches_per_update,
            mixed_precision=self.mixed_precision,
            compile_mode=self.compile,
            device=self.DEVICE,
        )

    def build_policy(self) -> Any:
        """The agent, with the positional arguments that the library infers."""
        rl2_space = gym.spaces.Box(-np.inf, np.inf, (1 + self.train_envs.action_size,), np.float32)
        return self.agent_type(
            self.train_envs.observation_space,
            rl2_space,
            self.train_envs.action_space,
            self.tstep_encoder_type,
            self.traj_encoder_type,
            self.max_seq_len,
        )

    def init_optimizer(self, policy: Any) -> torch.optim.Optimizer:
        """AdamW over the policy's trainable parameters; override to use another.

        Args:
            policy: the agent.

        Returns:
            An optimiser, whose groups' learning rates are those after warm-up.
        """
        return torch.optim.AdamW(
            policy.trainable_params, lr=self.learning_rate, weight_decay=self.l2_coeff, fused=True
        )

    def init_logger(self) -> None:
        """Write ``config.txt`` (the operative gin configuration) and open the metric files."""
        if not self.processes.is_main:
            self.tracker = Tracker(None)
            return
        config = gin.operative_config_str()
        header = f"# seed: {self.seed}\n# training version: {TRAINING_VERSION}\n"
        folder = self.run_folder if self.mode != "collect" else Path(str(self.log_dir))
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "config.txt", header + config)
        settings = None
        if self.log_to_wandb:
            (self.run_folder / "wandb_logs").mkdir(exist_ok=True)
            settings = {
                "project": self.wandb_project,
                "entity": self.wandb_entity,
                "group": self.wandb_group_name,
                "name": self.run_name,
                "dir": str(self.run_folder / "wandb_logs"),
                "config": operative_settings() | {"gin": config, "seed": self.seed},
            }
        self.tracker = Tracker(Path(self.log_dir) if self.log_dir else self.run_folder, settings)

    @property
    def hidden_state(self) -> Any:
        """The training actors' hidden state."""
        return self.collector.train.hidden_state

    @property
    def segment(self) -> int:
        """Index of the current segment (0 when resets are never forced)."""
        every = self.force_reset_train_envs_every
        return self.epoch // every if every else 0

    def _ends_segment(self, epoch: int) -> bool:
        every = self.force_reset_train_envs_every
        return every is None or (epoch + 1) % every == 0

    def _begins_segment(self, epoch: int) -> bool:
        every = self.force_reset_train_envs_every
        return every is None or epoch % every == 0

    def _counters(self) -> dict[str, int]:
        return {
            "Epoch": self.epoch,
            "gradient_steps": self.gradient_steps,
            "total_frames": self.env_steps,
        }
