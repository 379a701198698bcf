"""What a checkpoint of an experiment is: taking, saving and restoring it.

Every random stream is found by name (:mod:`amago.seeding`), so no generator's state is stored.
Environments cannot be stored either: a checkpoint is of a moment after which all of them are reset.
"""

from __future__ import annotations

import copy
import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_bytes

from amago.checkpoints import _NAME, STATE, Checkpoint, Position
from amago.errors import CheckpointError, DataError, is_out_of_memory
from amago.files import write_bytes
from amago.policy_files import check_same_architecture, is_plain, load_without_running
from amago.version import TRAINING_VERSION

if TYPE_CHECKING:
    from amago.experiment_saving import ExperimentSaving

POLICY = "policy.safetensors"
OPTIMIZER = "optimizer.pt"


@dataclass
class Snapshot:
    """A moment of training.

    Attributes:
        state: counters, replay, exploration, and the epoch's unfinished row (JSON values).
        tensors: weights and optimiser as they were, or ``None`` when the live ones still are.
    """

    position: Position
    state: dict[str, Any]
    tensors: tuple[dict[str, torch.Tensor], dict[str, Any]] | None


def snapshot(experiment: ExperimentSaving, tensors: bool) -> Snapshot:
    """The present moment; ``tensors`` copies weights, for when they will have changed by its saving."""
    exploration = experiment.collector.train.exploration
    state = {
        "training_version": TRAINING_VERSION,
        "seed": experiment.seed,
        "epoch": experiment.epoch,
        "batch": experiment.batch,
        "env_steps": experiment.env_steps,
        "gradient_steps": experiment.gradient_steps,
        "exploration": exploration.state_dict(),
        "dataset": experiment.dataset.state_dict(),
        "row": copy.deepcopy(experiment._row) if experiment.batch else {},
    }
    kept = None
    if tensors:
        kept = (
            {k: v.detach().clone() for k, v in experiment.policy.state_dict().items()},
            copy.deepcopy(experiment.optimizer.state_dict()),
        )
    return Snapshot(Position(experiment.epoch, experiment.batch), state, kept)


def save(experiment: ExperimentSaving, moment: Snapshot) -> Path:
    """Write ``moment`` as a checkpoint, then free what no kept checkpoint needs. Returns its folder.

    Raises:
        CheckpointError: the disk is full or cannot be written; older checkpoints are intact.
    """
    weights, optimizer = moment.tensors or (
        experiment.policy.state_dict(),
        experiment.optimizer.state_dict(),
    )
    weights = {k: v.detach().cpu().contiguous() for k, v in weights.items()}
    now = time.monotonic()
    experiment.wall_seconds += now - experiment._clock
    experiment._clock = now
    try:
        experiment.dataset.make_durable(moment.state["dataset"])
        experiment.tracker.make_durable()
    except OSError as error:
        raise CheckpointError(f"replay could not be made durable: {error}") from error
    # Serialised here and written by Python: torch's own writer hides why a disk refused.
    serialised = io.BytesIO()
    torch.save(optimizer, serialised)
    folder = experiment.store.save(
        moment.position,
        moment.state | {"wall_seconds": experiment.wall_seconds},
        {
            POLICY: lambda p: write_bytes(p, safetensors_bytes(weights)),
            OPTIMIZER: lambda p: write_bytes(p, serialised.getbuffer()),
        },
    )
    kept = [s["dataset"] for s in experiment.store.prune()]
    # A stop in this segment goes back to its start, which must still find its replay.
    kept.append(experiment._segment_start.state["dataset"])
    experiment.dataset.release(kept)
    return folder


def restore(experiment: ExperimentSaving, checkpoint: Checkpoint, weights_only: bool = False) -> None:
    """Continue ``experiment`` from ``checkpoint``.

    Args:
        weights_only: take the policy's weights and leave counters, optimiser and replay alone.

    Raises:
        CheckpointError: another architecture, seed or training version, or replay is missing.
    """
    folder, state = checkpoint.folder, checkpoint.state
    try:
        weights = load_file(folder / POLICY, device=str(experiment.DEVICE))
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        if is_out_of_memory(error):
            raise
        raise CheckpointError(f"{folder}: unreadable checkpoint ({error})") from error
    check_same_architecture(experiment.policy, weights, folder / POLICY)
    if weights_only:
        experiment.policy.load_state_dict(weights)
        experiment.policy.on_checkpoint_loaded(is_resume=False)
        return
    for name, own in (("seed", experiment.seed), ("training_version", TRAINING_VERSION)):
        if state.get(name) != own:
            raise CheckpointError(
                f"{folder}: its {name} is {state.get(name)}, this run's is {own}; it cannot be continued exactly"
            )
    optimizer = load_without_running(folder / OPTIMIZER, experiment.DEVICE)
    _check_optimizer(optimizer, experiment.optimizer, folder / OPTIMIZER)
    check_state(checkpoint)
    try:
        experiment.dataset.load_state_dict(state["dataset"])
        experiment.policy.load_state_dict(weights)
        experiment.optimizer.load_state_dict(optimizer)
        experiment.collector.train.exploration.load_state_dict(state["exploration"])
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError, DataError) as error:
        if is_out_of_memory(error):
            raise
        raise CheckpointError(f"{folder}: not a checkpoint of this run ({error!r})") from error
    experiment.epoch, experiment.batch = int(state["epoch"]), int(state["batch"])
    experiment.env_steps = int(state["env_steps"])
    experiment.gradient_steps = int(state["gradient_steps"])
    experiment.wall_seconds = float(state["wall_seconds"])
    experiment._row = dict(state["row"])
    experiment.store.discard_after(checkpoint.position)
    experiment.tracker.cut_back(experiment.epoch, experiment.gradient_steps)
    experiment._segment_start = snapshot(experiment, tensors=False)
    experiment.policy.on_checkpoint_loaded(is_resume=True)


def replay_check(experiment: ExperimentSaving) -> Callable[[Checkpoint], None]:
    """For `CheckpointStore.newest`: refuses a checkpoint with damaged replay, or that cannot be continued exactly."""

    def check(checkpoint: Checkpoint) -> None:
        check_state(checkpoint)
        epoch, batch = checkpoint.position.epoch, checkpoint.position.batch
        within = experiment.mode == "both" and batch == 0 and not experiment._begins_segment(epoch)
        if within and epoch < experiment.epochs:
            raise CheckpointError(
                f"{checkpoint.folder}: an earlier budget ended here, between two resets of the environments"
            )
        try:
            experiment.dataset.check_state_dict(checkpoint.state["dataset"])
        except (DataError, OSError) as error:
            raise CheckpointError(f"{checkpoint.folder}: {error}") from error

    return check


def check_state(checkpoint: Checkpoint) -> None:
    """Refuse a ``state.json`` that no run wrote.

    Raises:
        CheckpointError: a counter is missing or no number, or it is of another moment.
    """
    state = checkpoint.state
    counters: list[Any] = [state.get(k) for k in ("epoch", "batch", "env_steps", "gradient_steps")]
    seconds: Any = state.get("wall_seconds")
    whole = all(type(c) is int and 0 <= c < 2**62 for c in counters)
    if (
        not whole
        or Position(*counters[:2]) != checkpoint.position
        or type(seconds) not in (int, float)
        or not 0 <= seconds < 1e18
        or not all(isinstance(state.get(k), dict) for k in ("row", "dataset", "exploration"))
        or not all(_is_row_value(k, v) for k, v in state["row"].items())
    ):
        raise CheckpointError(f"{checkpoint.folder / STATE}: damaged (its counters are not those of a run)")


def _is_row_value(name: str, value: Any) -> bool:
    """Sums that are still growing are pairs, under names with an underscore."""
    if name.startswith("_"):
        pair = isinstance(value, list) and len(value) == 2
        return pair and all(type(v) in (int, float) for v in value) and value[1] > 0
    return value is None or type(value) in (int, float)


def _check_optimizer(found: Any, own: torch.optim.Optimizer, path: Path) -> None:
    """Compare structure and sizes before torch copies anything."""
    try:
        groups, states = found["param_groups"], found["state"]
        own_groups = own.state_dict()["param_groups"]
        sizes = [p.numel() for group in own.param_groups for p in group["params"]]
        fits = [g["params"] for g in groups] == [g["params"] for g in own_groups]
        fits = fits and all(g.keys() == o.keys() for g, o in zip(groups, own_groups, strict=True))
        for index, values in states.items():
            tensors = [v for v in values.values() if isinstance(v, torch.Tensor)]
            fits = fits and type(index) is int and 0 <= index < len(sizes)
            fits = fits and all(is_plain(v) and v.numel() <= max(sizes[index], 1) for v in tensors)
    except (TypeError, KeyError, AttributeError, ValueError, IndexError) as error:
        raise CheckpointError(f"{path}: not an optimiser's state ({error!r})") from error
    if not fits:
        raise CheckpointError(
            f"{path}: the state of another optimiser; use the configuration that it was saved with"
        )


def position_of(folder: Path) -> Position:
    """The moment that a checkpoint folder's name says.

    Raises:
        CheckpointError: not the name of a checkpoint folder.
    """
    match = _NAME.match(folder.name)
    if match is None:
        raise CheckpointError(
            f"{folder} is not a checkpoint folder (named like {Position(50).folder_name}); "
            "for a policy file pass is_accelerate_state=False"
        )
    return Position(int(match[1]), int(match[2]))
