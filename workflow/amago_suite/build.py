"""From a cell to an `Experiment`: the one place where the pipeline meets the agent library."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amago.errors import ConfigurationError
from amago_suite.cell import Cell

if TYPE_CHECKING:
    from amago import Experiment
    from amago.envs import AMAGOEnv

#: The run's folder inside ``state/``.
RUN_NAME = "run"
#: The replay's folder inside ``state/``.
REPLAY_NAME = "replay"


def apply_gin(cell: Cell, extra: str = "") -> None:
    """Make the cell's bindings gin's whole configuration.

    Args:
        cell: its ``gin`` is read as bindings alone: gin itself would also import and include.
        extra: more bindings, which win (for checks, never for results).

    Raises:
        ConfigurationError: the text holds anything else, or names modules that may not be imported.
    """
    import gin

    from amago_suite.cell import CELL_FILE
    from amago_suite.configuration.gin_layers import Bindings, parse_layer, register_configurables
    from amago_suite.configuration.imports import import_modules

    register_configurables()
    import_modules(cell.imports)
    text = Bindings([parse_layer(cell.gin, f"{cell.folder / CELL_FILE}: gin")]).text()
    gin.clear_config()
    try:
        gin.parse_config(text + extra)
    except (ValueError, TypeError, SyntaxError, LookupError) as error:
        raise ConfigurationError(f"{cell.folder / CELL_FILE}: gin: {str(error).splitlines()[0]}") from error


def environment_maker(cell: Cell, split: str, actors: int) -> Callable[[], AMAGOEnv]:
    """A function that builds the cell's environment.

    Args:
        cell: says which.
        split: "train" or "eval".
        actors: instances in one environment where it is vectorised; ignored where it is not.
    """
    import envs_suite

    spec = envs_suite.get(cell.env_id)
    count = actors if spec.vectorised else 1
    return lambda: spec.make(cell.env_params, num_envs=count, split=split, name=cell.environment)  # type: ignore[arg-type]


def provide_data(cell: Cell, state: Path) -> None:
    """Put the finished episodes that the environment begins with, if any, where its replay keeps them.

    Raises:
        ConfigurationError: the data are missing, or are not this environment's.
    """
    import envs_suite
    from amago_suite.engines import box

    spec = envs_suite.get(cell.env_id)
    folder = state / REPLAY_NAME / "buffer" / "protected"
    if any(folder.glob("*.safetensors")):
        return
    if box.current() is not None:
        try:
            spec.check_files(cell.env_params)
        except ConfigurationError as error:
            raise ConfigurationError(
                f"{error}. This is a container, which has the files of its image and of the cell's folder: bring yours "
                "in with an image of your own (docs/images.md), or use --engine host"
            ) from error
    if spec.data is not None:
        spec.data(cell.env_params, folder)


def build_experiment(
    cell: Cell,
    *,
    state: Path,
    log_dir: Path,
    resume: str = "never",
    epochs: int | None = None,
    actors: int | None = None,
    on_epoch_end: Callable[[dict[str, Any]], None] | None = None,
) -> Experiment:
    """The cell's experiment, not started yet. Its gin bindings must have been applied.

    Args:
        cell: what to build.
        state: folder of replay and checkpoints.
        log_dir: folder of progress.csv.
        resume: "auto" goes on from the newest checkpoint in ``state``.
        epochs: budget; the cell's by default.
        actors: instead of gin's ``Experiment.parallel_actors``.
        on_epoch_end: called with every epoch's row.
    """
    import gin

    import envs_suite
    from amago import DiskTrajDataset, Experiment

    if actors is None:
        try:
            actors = int(gin.query_parameter("Experiment.parallel_actors"))
        except ValueError:
            actors = int(Experiment.__init__.__kwdefaults__["parallel_actors"])
    spec = envs_suite.get(cell.env_id)
    return Experiment(
        run_name=RUN_NAME,
        ckpt_base_dir=state,
        dataset=DiskTrajDataset(dset_root=state, dset_name=REPLAY_NAME),
        make_train_env=environment_maker(cell, "train", actors),
        make_val_env=environment_maker(cell, "eval" if spec.samples_tasks else "train", actors),
        env_mode="vectorized" if spec.vectorised else "sync",
        parallel_actors=actors,
        epochs=cell.budget_epochs if epochs is None else epochs,
        seed=cell.seed,
        force_reset_train_envs_every=cell.segment_epochs,
        ckpt_interval=cell.checkpoints.every_epochs,
        ckpt_interval_minutes=cell.checkpoints.every_minutes,
        keep_last_checkpoints=cell.checkpoints.keep,
        deterministic=cell.deterministic,
        resume=resume,
        log_dir=log_dir,
        verbose=False,
        on_epoch_end=on_epoch_end,
    )
