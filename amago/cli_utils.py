"""Helpers for training scripts: choose architectures, set gin values, read a command line."""

from __future__ import annotations

import importlib
import inspect
from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gin

from amago.agent import get_agent_cls, list_registered_agents
from amago.envs.actors import ENV_MODES
from amago.envs.exploration import EpsilonGreedy, get_exploration_cls
from amago.errors import ConfigurationError
from amago.experiment import Experiment
from amago.gin_names import as_gin_value, check_bindings, check_gin_file, selector_of
from amago.nets.traj_encoders import get_traj_encoder_cls, list_registered_traj_encoders
from amago.nets.tstep_encoders import get_tstep_encoder_cls

Config = dict[str, Any]

#: Modules whose names a gin file may use without importing them.
_CONFIGURABLE_MODULES = (
    "amago.agent",
    "amago.envs.exploration",
    "amago.experiment",
    "amago.loading",
    "amago.nets.actor_critic",
    "amago.nets.cnn",
    "amago.nets.ff",
    "amago.nets.goal_embedders",
    "amago.nets.policy_dists",
    "amago.nets.traj_encoders",
    "amago.nets.transformer",
    "amago.nets.tstep_encoders",
    "amago.nets.utils",
)

#: What `memory_size` and `layers` are called by each architecture: (sizes, layers).
_SIZE_NAMES: dict[str, tuple[tuple[str, ...], str | None]] = {
    "identity": ((), None),
    "ff": (("d_model",), "n_layers"),
    "rnn": (("d_hidden", "d_output"), "n_layers"),
    "transformer": (("d_model",), "n_layers"),
    "mamba": (("d_model",), "n_layers"),
}


# -- choosing parts by name -----------------------------------------------------------------------


def switch_tstep_encoder(config: Config, arch: str, **kwargs: Any) -> type:
    """Choose a timestep encoder and set its parameters in ``config``.

    Args:
        config: gin settings, changed in place; give it to :func:`use_config` afterwards.
        arch: registered name: ``ff``, ``cnn``, or a user's own.
        **kwargs: parameters of the encoder.

    Returns:
        The encoder's class, for ``Experiment(tstep_encoder_type=...)``.

    Raises:
        ConfigurationError: unknown name.
    """
    return _configure(config, get_tstep_encoder_cls(arch), kwargs)


#: The user manual spells both.
switch_step_encoder = switch_tstep_encoder


def switch_agent(config: Config, agent: str, **kwargs: Any) -> type:
    """Choose an agent (``agent``, ``multitask``, a user's own); see :func:`switch_tstep_encoder`."""
    return _configure(config, get_agent_cls(agent), kwargs)


def switch_exploration(config: Config, strategy: str, **kwargs: Any) -> type:
    """Choose exploration noise (``egreedy``, ``bilevel``, a user's own); see :func:`switch_tstep_encoder`."""
    return _configure(config, get_exploration_cls(strategy), kwargs)


def switch_traj_encoder(
    config: Config, arch: str, memory_size: int | None = None, layers: int | None = None, **kwargs: Any
) -> type:
    """Choose a trajectory encoder; see :func:`switch_tstep_encoder`.

    Args:
        config: gin settings, changed in place.
        arch: ``identity``, ``ff``, ``rnn``, ``transformer``, ``mamba``, or a user's own.
        memory_size: width of the memory, under the architecture's own names (``d_model``, and
            ``d_ff`` four times that, for ``transformer``; ``d_hidden`` and ``d_output`` for ``rnn``).
        layers: number of layers. Both are ignored by ``identity``, which has neither.
        **kwargs: parameters of the encoder; they win over ``memory_size`` and ``layers``.

    Returns:
        The encoder's class, for ``Experiment(traj_encoder_type=...)``.

    Raises:
        ConfigurationError: unknown name, or a size given to a user's own encoder that has neither
            ``d_model`` nor ``n_layers``.
    """
    cls = get_traj_encoder_cls(arch)
    sizes, depth = _SIZE_NAMES.get(arch) or _guess_size_names(cls, arch, memory_size, layers)
    settings: Config = {}
    if memory_size is not None:
        settings.update(dict.fromkeys(sizes, memory_size))
    if layers is not None and depth is not None:
        settings[depth] = layers
    settings.update(kwargs)
    if arch == "transformer" and memory_size is not None:
        settings.setdefault("d_ff", 4 * settings["d_model"])
    return _configure(config, cls, settings)


def _guess_size_names(
    cls: type, arch: str, memory_size: int | None, layers: int | None
) -> tuple[tuple[str, ...], str | None]:
    """Sizes of a user's own encoder go by the names that most of ours have."""
    known = inspect.signature(cls.__init__).parameters  # type: ignore[misc]
    for name, value, argument in (("d_model", memory_size, "memory_size"), ("n_layers", layers, "layers")):
        if value is not None and name not in known:
            raise ConfigurationError(
                f"the trajectory encoder {arch!r} has no {name!r}, so {argument} cannot set it; "
                f"pass its own parameters by name"
            )
    return ("d_model",), "n_layers"


def _configure(config: Config, cls: type, settings: Mapping[str, Any]) -> type:
    selector = selector_of(cls)
    if selector is None and settings:
        raise ConfigurationError(
            f"{cls.__name__} is not gin-configurable, so {', '.join(settings)} cannot be set; "
            "decorate the class with @gin.configurable"
        )
    config.update({f"{selector}.{name}": value for name, value in settings.items()})
    return cls


# -- applying settings ------------------------------------------------------------------------------


def use_config(
    custom_params: Mapping[str, Any] | None,
    gin_configs: Sequence[str | Path] | str | Path | None = None,
    finalize: bool = True,
) -> None:
    """Change default values: first the dict, then the files from left to right; the last one wins.

    Everything is checked before anything is bound, so a mistake leaves the configuration as it was.

    Args:
        custom_params: ``{"Name.parameter": value}``; the name with or without its module. A name alone
            defines a macro, for files to use.
        gin_configs: paths of gin files.
        finalize: lock the configuration afterwards (another ``use_config`` may still add to it).

    Raises:
        ConfigurationError: missing file, syntax error, unknown name or parameter, with the
            nearest known ones.
    """
    for module in _CONFIGURABLE_MODULES:
        importlib.import_module(module)
    custom_params = custom_params or {}
    files = [gin_configs] if isinstance(gin_configs, (str, Path)) else list(gin_configs or ())
    for file in files:  # first: they may import what the dict names
        check_gin_file(file)
    check_bindings(custom_params)
    with gin.unlock_config():
        for key, value in custom_params.items():
            macro = "." not in key.rsplit("/", 1)[-1]
            _translated(
                gin.bind_parameter, (key, "gin.macro", "value") if macro else key, as_gin_value(value)
            )
        for file in files:
            _translated(gin.parse_config_file, str(file))
    if finalize and not gin.config_is_locked():
        _translated(gin.finalize)


def _translated(function: Callable[..., Any], *args: Any) -> None:
    """Call gin, and give what it still finds wrong (an undefined macro, say) as a user's error."""
    try:
        function(*args)
    except (ValueError, OSError, SyntaxError) as error:
        raise ConfigurationError(" ".join(str(error).split())) from error


# -- command line -----------------------------------------------------------------------------------


def add_common_cli(parser: ArgumentParser) -> ArgumentParser:
    """Add the options that most training scripts share.

    A script may have options of the same names: its own count, whether it adds them before or after.

    Returns:
        The same parser, for chaining.
    """
    own = set(parser._option_string_actions)
    parser.conflict_handler = parser._optionals.conflict_handler = "resolve"
    run = _adding(parser, "run", own)
    run("--run_name", default="run", help="name of the run and of its folder")
    run("--buffer_dir", default="amago_runs", help="folder for replay and checkpoints")
    run("--trials", type=int, default=1, help="how many times to repeat the run")
    run("--seed", type=int, default=None, help="the run's seed (drawn and recorded when absent)")
    run("--mode", choices=_MODES, default="both", help="see switch_async_mode")
    run("--configs", nargs="*", default=[], metavar="FILE", help="gin files, the last one wins")
    run("--log", action="store_true", help="log to wandb")
    run("--no_log", dest="log", action="store_false", help="do not (the default)")
    run("--ckpt", type=int, default=None, help="epoch for the script's load_checkpoint")
    schedule = _adding(parser, "schedule", own)
    schedule("--parallel_actors", type=int, default=12, help="environments that run side by side")
    schedule("--env_mode", default="async", choices=ENV_MODES)
    schedule("--epochs", type=int, default=1000)
    schedule("--timesteps_per_epoch", type=int, default=1000, help="steps of each actor")
    schedule("--batches_per_epoch", type=int, default=1000, help="batches to learn from")
    schedule("--updates_per_epoch", type=int, default=SUPPRESS, help="the same; goes before")
    schedule("--start_learning_at_epoch", type=int, default=0)
    schedule("--eval_timesteps", type=int, default=1000, help="validation steps of each actor")
    schedule("--val_interval", type=int, default=20, help="epochs between validations")
    schedule("--ckpt_interval", type=int, default=50, help="epochs between checkpoints")
    schedule("--batch_size", type=int, default=24, help="sequences in a batch")
    schedule("--dloader_workers", type=int, default=6, help="processes that prepare batches")
    schedule("--mixed_precision", choices=("no", "bf16"), default="no")
    schedule("--dset_max_size", type=int, default=20_000, help="trajectories in the replay buffer")
    parts = _adding(parser, "architecture", own)
    parts("--agent_type", default="agent", choices=list_registered_agents())
    parts("--traj_encoder", default="transformer", choices=list_registered_traj_encoders())
    parts("--memory_size", type=int, default=256, help="width of the trajectory encoder")
    parts("--memory_layers", type=int, default=3, help="layers of the trajectory encoder")
    return parser


def _adding(parser: ArgumentParser, title: str, taken: set[str]) -> Callable[..., None]:
    """What adds options to a group of this title, but none that the script has."""
    group = parser.add_argument_group(title)

    def add(*names: str, **settings: Any) -> None:
        if free := [n for n in names if n not in taken]:
            group.add_argument(*free, **settings)

    return add


def create_experiment_from_cli(
    command_line_args: Namespace,
    make_train_env: Any,
    make_val_env: Any,
    max_seq_len: int,
    group_name: str,
    run_name: str,
    agent_type: type,
    tstep_encoder_type: type,
    traj_encoder_type: type,
    traj_save_len: int | None = None,
    exploration_wrapper_type: type | None = EpsilonGreedy,
    experiment_type: Any = Experiment,
    dataset: Any = None,
    **extra_experiment_kwargs: Any,
) -> Any:
    """Build an ``Experiment`` from the options of :func:`add_common_cli`.

    Args:
        command_line_args: parsed options; ones that are missing keep the Experiment's default.
        make_train_env: builds a training environment (or one builder for each actor).
        make_val_env: builds a validation environment.
        max_seq_len: longest sequence that the policy sees, in timesteps.
        group_name: wandb group.
        run_name: name of the run.
        agent_type: see :func:`switch_agent`.
        tstep_encoder_type: see :func:`switch_tstep_encoder`.
        traj_encoder_type: see :func:`switch_traj_encoder`.
        traj_save_len: longest trajectory file, in timesteps; default the Experiment's.
        exploration_wrapper_type: see :func:`switch_exploration`.
        experiment_type: a subclass of ``amago.Experiment``, or it.
        dataset: default a ``DiskTrajDataset`` under ``--buffer_dir``.
        **extra_experiment_kwargs: anything else for the Experiment; they win.

    Returns:
        The experiment; call ``switch_async_mode(experiment, args.mode)`` and ``start()`` next.
    """
    args = vars(command_line_args)
    folder = args.get("buffer_dir", "amago_runs")
    if dataset is None:
        loading = importlib.import_module("amago.loading")
        dataset = loading.DiskTrajDataset(
            dset_root=folder, dset_name=run_name, dset_max_size=args.get("dset_max_size", 20_000)
        )
    settings: Config = {
        keyword: args[option] for option, keyword in _EXPERIMENT_OPTIONS.items() if option in args
    }
    if traj_save_len is not None:
        settings["traj_save_len"] = traj_save_len
    settings |= dict(
        run_name=run_name,
        ckpt_base_dir=folder,
        max_seq_len=max_seq_len,
        dataset=dataset,
        tstep_encoder_type=tstep_encoder_type,
        traj_encoder_type=traj_encoder_type,
        agent_type=agent_type,
        exploration_wrapper_type=exploration_wrapper_type,
        make_train_env=make_train_env,
        make_val_env=make_val_env,
        wandb_group_name=group_name,
    )
    return experiment_type(**(settings | extra_experiment_kwargs))


#: Option of `add_common_cli` -> keyword of Experiment.
_EXPERIMENT_OPTIONS = {
    "seed": "seed",
    "log": "log_to_wandb",
    "parallel_actors": "parallel_actors",
    "env_mode": "env_mode",
    "epochs": "epochs",
    "timesteps_per_epoch": "train_timesteps_per_epoch",
    "batches_per_epoch": "train_batches_per_epoch",
    "updates_per_epoch": "train_batches_per_epoch",
    "eval_timesteps": "val_timesteps_per_epoch",
    "val_interval": "val_interval",
    "ckpt_interval": "ckpt_interval",
    "batch_size": "batch_size",
    "start_learning_at_epoch": "start_learning_at_epoch",
    "dloader_workers": "dloader_workers",
    "mixed_precision": "mixed_precision",
}

_MODES = ("both", "collect", "learn")


def switch_async_mode(experiment: Any, mode: str | Namespace) -> Any:
    """Let this process only collect or only learn, beside others that share its folders.

    Args:
        experiment: an Experiment that was not started yet; changed in place.
        mode: ``both`` (no change), ``collect`` (acts with the newest shared policy, never learns, leaves
            the replay folder's clean-up to the learner) or ``learn`` (never acts, publishes its policy);
            or parsed options that have it.

    Returns:
        The experiment.

    Raises:
        ConfigurationError: unknown mode.
    """
    never = float("inf")
    if isinstance(mode, Namespace):
        mode = getattr(mode, "mode", "both")
    if mode in ("collect", "learn"):
        experiment.mode = mode
    if mode == "collect":
        experiment.start_learning_at_epoch = never
        experiment.train_batches_per_epoch = 0
        experiment.always_load_latest = True
        experiment.always_save_latest = False
        experiment.has_dset_edit_rights = False
        experiment.val_interval = None
    elif mode == "learn":
        experiment.start_collecting_at_epoch = never
        experiment.train_timesteps_per_epoch = 0
        experiment.always_load_latest = False
        experiment.always_save_latest = True
        experiment.has_dset_edit_rights = True
    elif mode != "both":
        raise ConfigurationError(f"unknown mode {mode!r}; choose one of {', '.join(_MODES)}")
    return experiment
