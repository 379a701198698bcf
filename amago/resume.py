"""What a checkpoint of an experiment is: taking, saving and restoring it.

Every random stream is found by name (:mod:`amago.seeding`), so no generator's state is stored.
Environments cannot be stored either: a checkpoint is of a moment after which all of them are reset.
"""

from __future__ import annotations

import copy
import pickle
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from amago.checkpoints import _NAME, Checkpoint, Position
from amago.errors import CheckpointError
from amago.policy_files import check_same_architecture
from amago.version import TRAINING_VERSION

if TYPE_CHECKING:
    from amago.experiment import Experiment

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


def snapshot(experiment: Experiment, tensors: bool) -> Snapshot:
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


def save(experiment: Experiment, moment: Snapshot) -> None:
    """Write ``moment`` as a checkpoint, then free what no kept checkpoint needs.

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
    except OSError as error:
        raise CheckpointError(f"replay could not be made durable: {error}") from error
    experiment.store.save(
        moment.position,
        moment.state | {"wall_seconds": experiment.wall_seconds},
        {
            POLICY: lambda p: save_file(weights, p),
            OPTIMIZER: lambda p: torch.save(optimizer, p),
        },
    )
    kept = [s["dataset"] for s in experiment.store.prune()]
    # A stop in this segment goes back to its start, which must still find its replay.
    kept.append(experiment._segment_start.state["dataset"])
    experiment.dataset.release(kept)


def restore(experiment: Experiment, checkpoint: Checkpoint, weights_only: bool = False) -> None:
    """Continue ``experiment`` from ``checkpoint``.

    Args:
        weights_only: take the policy's weights and leave counters, optimiser and replay alone.

    Raises:
        CheckpointError: another architecture, seed or training version, or replay is missing.
    """
    folder, state = checkpoint.folder, checkpoint.state
    try:
        weights = load_file(folder / POLICY, device=str(experiment.DEVICE))
        optimizer = torch.load(folder / OPTIMIZER, map_location=experiment.DEVICE, weights_only=True)
    except (OSError, SafetensorError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{folder}: unreadable checkpoint ({error})") from error
    check_same_architecture(experiment.policy, weights, folder / POLICY)
    if weights_only:
        experiment.policy.load_state_dict(weights)
        experiment.policy.on_checkpoint_loaded(is_resume=False)
        return
    for name, own in (("seed", experiment.seed), ("training_version", TRAINING_VERSION)):
        if state[name] != own:
            raise CheckpointError(
                f"{folder}: its {name} is {state[name]}, this run's is {own}; it cannot be continued exactly"
            )
    experiment.dataset.load_state_dict(state["dataset"])
    experiment.policy.load_state_dict(weights)
    experiment.optimizer.load_state_dict(optimizer)
    experiment.collector.train.exploration.load_state_dict(state["exploration"])
    experiment.epoch, experiment.batch = int(state["epoch"]), int(state["batch"])
    experiment.env_steps = int(state["env_steps"])
    experiment.gradient_steps = int(state["gradient_steps"])
    experiment.wall_seconds = float(state["wall_seconds"])
    experiment._row = dict(state["row"])
    experiment.store.discard_after(checkpoint.position)
    experiment.tracker.cut_back(experiment.epoch, experiment.gradient_steps)
    experiment._segment_start = snapshot(experiment, tensors=False)
    experiment.policy.on_checkpoint_loaded(is_resume=True)


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
