"""`Experiment`'s settings: what each means, and what is refused before anything starts."""

from __future__ import annotations

import multiprocessing
import numbers
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from amago.agent.base import BaseAgent
from amago.envs.actors import ENV_MODES
from amago.envs.exploration import ExplorationWrapper
from amago.errors import ConfigurationError
from amago.files import is_name
from amago.loading import PADDED_SAMPLING, RLDataset
from amago.nets.traj_encoders import TrajEncoder
from amago.nets.tstep_encoders import TstepEncoder


class ExperimentSettings:
    """The keyword arguments of `amago.experiment.Experiment`, which keeps them under these names."""

    run_name: str
    """Folder of this run inside ``ckpt_base_dir``."""

    ckpt_base_dir: str | Path
    """Where runs are kept."""

    max_seq_len: int
    """Transitions in a training sequence, and timesteps that a rollout remembers."""

    dataset: RLDataset
    """Where trajectories are kept and sampled."""

    tstep_encoder_type: type
    """Class of the timestep encoder."""

    traj_encoder_type: type
    """Class of the sequence model."""

    agent_type: type
    """Class of the agent."""

    val_timesteps_per_epoch: int
    """Steps of each actor in a validation; 0 for no validation."""

    make_train_env: Any
    """Builds an `AMAGOEnv`; or a list with one such function for each actor."""

    make_val_env: Any
    """Likewise for validation."""

    parallel_actors: int
    """Environments that step together."""

    env_mode: str
    """``sync``, ``async`` (worker processes), ``vectorized`` (one environment steps all instances) or
    ``already_vectorized`` (likewise, resetting itself)."""

    async_env_mp_context: str | None
    """Multiprocessing start method of ``async``."""

    worker_timeout: float
    """Seconds after which an environment of ``async`` that does not answer counts as hung."""

    exploration_wrapper_type: type[ExplorationWrapper] | None
    """Class of the exploration noise; ``None`` for none."""

    sample_actions_train: bool
    """Sample actions in training rollouts, else act greedily."""

    sample_actions_val: bool
    """The same for validation."""

    force_reset_train_envs_every: int | None
    """Epochs in a segment; ``None`` never forces a reset, and then resuming is not exact."""

    log_to_wandb: bool
    """Also send metrics to wandb."""

    wandb_project: str | None
    """Default ``$AMAGO_WANDB_PROJECT``."""

    wandb_entity: str | None
    """Default ``$AMAGO_WANDB_ENTITY``."""

    wandb_group_name: str | None
    """Wandb's group."""

    verbose: bool
    """Print a line for each epoch."""

    log_interval: int
    """Batches between two rows of update metrics."""

    traj_save_len: int
    """Transitions after which a trajectory is cut for storage."""

    has_dset_edit_rights: bool
    """Whether new trajectories may be stored and old ones deleted (a collector of
    ``switch_async_mode`` stores without it)."""

    stagger_traj_file_lengths: bool
    """Vary ``traj_save_len`` so that cuts fall everywhere."""

    save_trajs_as: str
    """``npz`` or ``npz-compressed``, as AMAGO's scripts say, and without effect here: trajectories are stored
    as safetensors, many in a file (`amago.storage`). ``traj``, a pickle, is refused."""

    padded_sampling: str
    """``none``, ``left``, ``right`` or ``both``; see `amago.loading.slice_bounds`."""

    dloader_workers: int
    """Processes that prepare batches; 0 does it in this one."""

    epochs: int
    """In the whole run."""

    start_learning_at_epoch: int
    """First epoch with updates."""

    start_collecting_at_epoch: int
    """First epoch with rollouts."""

    train_timesteps_per_epoch: int
    """Steps of each actor per epoch; 0 learns from stored data alone."""

    train_batches_per_epoch: int
    """Batches per epoch."""

    val_interval: int | None
    """Epochs between validations; ``None`` for none."""

    ckpt_interval: int | None
    """Epochs between checkpoints; ``None`` for only the last."""

    always_save_latest: bool
    """Write ``ckpts/latest/policy.safetensors`` every epoch."""

    always_load_latest: bool
    """Read that file before every epoch (a collector beside a learner)."""

    batch_size: int
    """Sequences in a batch, of each process that trains."""

    batches_per_update: int
    """Batches whose gradients make one optimiser step: their mean. Running statistics (PopArt,
    input normalisation) still move with every batch."""

    learning_rate: float
    """Of AdamW."""

    lr_warmup_steps: int
    """Steps over which it rises linearly from 0."""

    grad_clip: float
    """Largest global gradient norm."""

    l2_coeff: float
    """AdamW's weight decay."""

    mixed_precision: str
    """``no`` or ``bf16``."""

    seed: int | None
    """Of every random stream; drawn and recorded when not given."""

    resume: str
    """``auto`` goes on from the newest whole checkpoint of this run; without one it starts anew, and removes
    what is in the dataset's ``fifo`` as left by an earlier attempt (where it has edit rights). ``never``
    starts anew, beside what is there."""

    keep_last_checkpoints: int | None
    """Newest checkpoints that stay on disk; ``None`` keeps all."""

    ckpt_interval_minutes: float | None
    """Also checkpoint when this many minutes have passed."""

    grace_seconds: float
    """Time to stop in after SIGTERM or SIGINT."""

    deterministic: bool | None
    """``True`` forces deterministic kernels on a GPU, ``False`` allows all; ``None`` leaves torch as it is (a
    CPU always repeats)."""

    log_dir: str | Path | None
    """Folder of the local metric files; default the run's folder."""

    compile: str | None
    """A ``torch.compile`` mode; ``None`` is off."""

    on_epoch_end: Callable[[dict[str, Any]], None] | None
    """Called with each epoch's row."""


_AT_LEAST_ONE = (
    "max_seq_len",
    "parallel_actors",
    "batch_size",
    "batches_per_update",
    "log_interval",
    "traj_save_len",
)
_NOT_NEGATIVE = (
    "epochs",
    "train_timesteps_per_epoch",
    "val_timesteps_per_epoch",
    "train_batches_per_epoch",
    "dloader_workers",
    "start_learning_at_epoch",
    "start_collecting_at_epoch",
    "lr_warmup_steps",
    "l2_coeff",
)
_POSITIVE = ("learning_rate", "grad_clip", "grace_seconds", "worker_timeout")
_NONE_OR_AT_LEAST_ONE = (
    "force_reset_train_envs_every",
    "val_interval",
    "ckpt_interval",
    "keep_last_checkpoints",
)
_NONE_OR_NOT_NEGATIVE = ("ckpt_interval_minutes",)
_CHOICES = {
    "env_mode": ENV_MODES,
    "padded_sampling": PADDED_SAMPLING,
    "resume": ("auto", "never"),
    "mixed_precision": ("no", "bf16"),
    "compile": (None, "default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"),
}


def check_settings(settings: dict[str, Any]) -> None:
    """Refuse impossible settings.

    Raises:
        ConfigurationError: names the setting, its value and what is allowed.
    """
    _check_kinds(settings)
    for name in _AT_LEAST_ONE:
        _require(settings[name] >= 1, name, settings[name], "at least 1")
    for name in _NOT_NEGATIVE:
        _require(settings[name] >= 0, name, settings[name], "0 or more")
    for name in _POSITIVE:
        _require(settings[name] > 0, name, settings[name], "positive")
    for name in _NONE_OR_AT_LEAST_ONE:
        value = settings[name]
        _require(value is None or value >= 1, name, value, "None or at least 1")
    for name in _NONE_OR_NOT_NEGATIVE:
        value = settings[name]
        _require(value is None or value >= 0, name, value, "None or 0 or more")
    for name, allowed in _CHOICES.items():
        _require(settings[name] in allowed, name, settings[name], f"one of {', '.join(map(str, allowed))}")
    if settings["seed"] is not None:
        _require(int(settings["seed"]) >= 0, "seed", settings["seed"], "0 or more")
    _check_names(settings)
    _check_storage(settings)


#: May also be infinite: never.
_OR_NEVER = ("start_learning_at_epoch", "start_collecting_at_epoch")
_NOT_WHOLE = ("l2_coeff",)


_BASES = {"tstep_encoder_type": TstepEncoder, "traj_encoder_type": TrajEncoder, "agent_type": BaseAgent}


def _check_kinds(settings: dict[str, Any]) -> None:
    """Numbers where numbers are needed, and parts that are what their names say."""
    for name in (*_AT_LEAST_ONE, *_NOT_NEGATIVE, *_NONE_OR_AT_LEAST_ONE):
        value = settings[name]
        whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        never = name in _OR_NEVER and value == float("inf")
        number = name in _NOT_WHOLE and isinstance(value, numbers.Real)
        none = name in _NONE_OR_AT_LEAST_ONE and value in (None, False)
        _require(whole or never or number or none, name, value, "a whole number")
    for name in (*_POSITIVE, *_NONE_OR_NOT_NEGATIVE):
        value = settings[name]
        optional = value is None and name in _NONE_OR_NOT_NEGATIVE
        _require(optional or isinstance(value, numbers.Real), name, value, "a number")
    for name in _BASES:
        _require(callable(settings[name]), name, settings[name], "a class")
        for other, base in _BASES.items():
            mixed = other != name and isinstance(settings[name], type) and issubclass(settings[name], base)
            _require(not mixed, name, settings[name], f"a {_BASES[name].__name__}")
    explore = settings["exploration_wrapper_type"]
    _require(explore is None or callable(explore), "exploration_wrapper_type", explore, "None or a class")
    _require(
        isinstance(settings["dataset"], RLDataset),
        "dataset",
        settings["dataset"],
        "an amago.loading.RLDataset",
    )
    for name in ("make_train_env", "make_val_env"):
        value = settings[name]
        several = isinstance(value, Iterable) and all(callable(v) for v in value)
        _require(
            callable(value) or several, name, value, "a function that builds an AMAGOEnv, or a list of such"
        )
    contexts = (None, *multiprocessing.get_all_start_methods())
    context = settings["async_env_mp_context"]
    _require(context in contexts, "async_env_mp_context", context, f"one of {', '.join(map(str, contexts))}")


def _check_names(settings: dict[str, Any]) -> None:
    """A run's name is a folder's: it must not lead out of ``ckpt_base_dir``."""
    _require(is_name(settings["run_name"]), "run_name", settings["run_name"], "the name of a folder")


def _check_storage(settings: dict[str, Any]) -> None:
    kind = settings["save_trajs_as"]
    if kind in ("traj", "pickle"):
        raise ConfigurationError(
            f"Experiment.save_trajs_as={kind!r} would write pickles, which can run code when read; use 'npz'"
        )
    _require(kind in ("npz", "npz-compressed"), "save_trajs_as", kind, "'npz'")
    if settings["traj_save_len"] < settings["max_seq_len"]:
        raise ConfigurationError(
            f"Experiment.traj_save_len ({settings['traj_save_len']}) is below max_seq_len "
            f"({settings['max_seq_len']}): no stored trajectory could fill a training sequence"
        )
    if settings["train_batches_per_epoch"] % settings["batches_per_update"]:
        raise ConfigurationError(
            f"Experiment.train_batches_per_epoch ({settings['train_batches_per_epoch']}) must be a multiple of "
            f"batches_per_update ({settings['batches_per_update']}), so that an epoch ends with a whole update"
        )


def _require(holds: bool, name: str, value: Any, allowed: str) -> None:
    if not holds:
        raise ConfigurationError(f"Experiment.{name} must be {allowed}, got {value!r}")
