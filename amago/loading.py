"""Replay: datasets of trajectories and the batches drawn from them."""

from __future__ import annotations

import functools
import inspect
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from amago.errors import ConfigurationError, DataError
from amago.files import make_folder
from amago.hindsight import takes_generator
from amago.storage import ActionFormat, Rows, write_shard

PADDED_SAMPLING = ("none", "left", "right", "both")


@dataclass
class RLData:
    """One sequence of L transitions.

    Args:
        obs: each (L + 1, ...).
        rews: (L, 1) float32.
        dones: (L, 1) bool; true only where an episode terminated (truncation keeps bootstrapping).
        actions: (L, A) float32; one-hot when discrete.
        time_idxs: (L + 1, 1) int64; steps since the episode's reset.
        rl2s: (L + 1, 1 + A) float32: previous reward and action; by default computed from
            ``rews`` and ``actions`` with zeros in the first row.

    Raises:
        DataError: arrays whose shapes do not fit together.
    """

    obs: dict[str, torch.Tensor]
    rews: torch.Tensor
    dones: torch.Tensor
    actions: torch.Tensor
    time_idxs: torch.Tensor
    rl2s: torch.Tensor | None = None

    def __post_init__(self) -> None:
        self._check_shapes()
        if self.rl2s is None:
            previous = torch.cat((self.rews, self.actions.to(self.rews.dtype)), dim=-1)
            self.rl2s = torch.cat((torch.zeros_like(previous[:1]), previous), dim=0)

    def _check_shapes(self) -> None:
        """A missing last observation, say, would be filled with zeros and learned from."""
        steps = len(self.actions)
        rows = {f"obs[{k!r}]": v for k, v in self.obs.items()} | {"time_idxs": self.time_idxs}
        if self.rl2s is not None:
            rows["rl2s"] = self.rl2s
        wrong = [f"{k} {tuple(v.shape)}" for k, v in rows.items() if len(v) != steps + 1]
        per_step = {"rews": self.rews, "dones": self.dones}
        wrong += [f"{k} {tuple(v.shape)}" for k, v in per_step.items() if v.shape != (steps, 1)]
        if steps < 1 or self.actions.dim() != 2 or wrong:
            raise DataError(
                f"RLData: actions {tuple(self.actions.shape)} do not fit with {', '.join(wrong) or 'anything'}; it "
                "needs actions (L, A), rews and dones (L, 1), and L + 1 rows of everything else"
            )

    def __len__(self) -> int:
        """Number of transitions."""
        return len(self.actions)

    def random_slice(
        self, length: int, padded_sampling: str = "none", rng: np.random.Generator | None = None
    ) -> RLData:
        """At most ``length`` consecutive transitions, chosen at random (see :func:`slice_start`)."""
        start, stop = slice_bounds(len(self), length, padded_sampling, rng or np.random.default_rng())
        assert self.rl2s is not None
        return replace(
            self,
            obs={k: v[start : stop + 1] for k, v in self.obs.items()},
            rews=self.rews[start:stop],
            dones=self.dones[start:stop],
            actions=self.actions[start:stop],
            time_idxs=self.time_idxs[start : stop + 1],
            rl2s=self.rl2s[start : stop + 1],
        )


def slice_bounds(total: int, length: int, padded_sampling: str, rng: np.random.Generator) -> tuple[int, int]:
    """First transition and end of a random slice of a trajectory of ``total`` transitions.

    A window of ``length`` slides over the trajectory. Without padding it stays inside, which
    samples the ends less often; ``left`` lets it begin before the start, ``right`` lets it end after
    the end, ``both`` either. What lies outside is cut, so a padded slice is shorter, but never
    begins at the last transition (the reference's convention).

    A trajectory no longer than ``length`` is returned whole.
    """
    if padded_sampling not in PADDED_SAMPLING:
        raise ConfigurationError(
            f"padded_sampling must be one of {', '.join(PADDED_SAMPLING)}, got {padded_sampling!r}"
        )
    if total <= length:
        return 0, total
    low = -length + 1 if padded_sampling in ("left", "both") else 0
    high = total - 2 if padded_sampling in ("right", "both") else total - length
    begin = int(rng.integers(low, high + 1))
    return max(begin, 0), min(begin + length, total)


@dataclass
class Batch:
    """B sequences of L transitions, padded at the end with zeros.

    Args:
        obs: each (B, L + 1, ...).
        rl2s: (B, L + 1, 1 + A) float32.
        rews: (B, L, 1) float32.
        dones: (B, L, 1) bool.
        actions: (B, L, A) float32; one-hot when discrete.
        time_idxs: (B, L + 1, 1) int64.
        mask: (B, L, 1) bool, true where a transition is real; ``None`` when all are.
    """

    obs: dict[str, torch.Tensor]
    rl2s: torch.Tensor
    rews: torch.Tensor
    dones: torch.Tensor
    actions: torch.Tensor
    time_idxs: torch.Tensor
    mask: torch.Tensor | None = None

    def __post_init__(self) -> None:
        if self.mask is None:
            self.mask = torch.ones_like(self.dones, dtype=torch.bool)

    @property
    def obs_mask(self) -> torch.Tensor:
        """(B, L + 1, 1) bool: true where an observation is real."""
        assert self.mask is not None
        return torch.cat((torch.ones_like(self.mask[:, :1]), self.mask), dim=1)

    def with_zeros_in_padding(self) -> Batch:
        """The same batch, with zeros where nothing is real.

        What a network makes of NaN in padding has no influence on the loss, but its gradient would:
        0 times NaN is NaN. Integer observations cannot hold one and are left alone.
        """
        assert self.mask is not None
        seen = self.obs_mask

        def real(x: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
            return torch.where(where.view(*where.shape[:2], *[1] * (x.dim() - 2)), x, x.new_zeros(()))

        return replace(
            self,
            obs={k: real(v, seen) if v.is_floating_point() else v for k, v in self.obs.items()},
            rl2s=real(self.rl2s, seen),
            rews=real(self.rews, self.mask),
            actions=real(self.actions, self.mask),
            # an index far out would not be in a table of positions
            time_idxs=real(self.time_idxs, seen),
        )

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""

        def move(x: torch.Tensor) -> torch.Tensor:
            return x.to(device, non_blocking=True)

        assert self.mask is not None
        return Batch(
            {k: move(v) for k, v in self.obs.items()},
            *(move(x) for x in (self.rl2s, self.rews, self.dones, self.actions, self.time_idxs, self.mask)),
        )


def collate(sequences: list[RLData]) -> Batch:
    """Pad sequences at the end to the longest and stack them."""
    longest = max(len(s) for s in sequences)

    def stack(items: list[torch.Tensor], rows: int) -> torch.Tensor:
        dtype = functools.reduce(torch.promote_types, {item.dtype for item in items})
        out = items[0].new_zeros((len(items), rows, *items[0].shape[1:]), dtype=dtype)
        for i, item in enumerate(items):
            out[i, : len(item)] = item
        return out

    return Batch(
        obs={k: stack([s.obs[k] for s in sequences], longest + 1) for k in sequences[0].obs},
        rl2s=stack([s.rl2s for s in sequences], longest + 1),  # type: ignore[misc]
        rews=stack([s.rews for s in sequences], longest),
        dones=stack([s.dones for s in sequences], longest),
        actions=stack([s.actions for s in sequences], longest),
        time_idxs=stack([s.time_idxs for s in sequences], longest + 1),
        mask=stack([torch.ones(len(s), 1, dtype=torch.bool) for s in sequences], longest),
    )


def rows_to_rldata(rows: Rows, actions: ActionFormat) -> RLData:
    """One trajectory's rows as the sequence that a user's code sees."""
    previous = actions.represent(rows.actions)
    # Nothing came before an episode's first step.
    previous[rows.time_idxs == 0] = 0.0
    rewards = np.where(rows.time_idxs == 0, 0.0, rows.rewards).astype(np.float32)
    rl2s = np.concatenate([rewards[:, None], previous], axis=1)
    return RLData(
        obs={k: torch.from_numpy(np.array(v)) for k, v in rows.obs.items()},
        rews=torch.from_numpy(rewards[1:, None].copy()),
        dones=torch.from_numpy(np.array(rows.dones[1:, None])),
        actions=torch.from_numpy(previous[1:].copy()),
        time_idxs=torch.from_numpy(np.array(rows.time_idxs[:, None])),
        rl2s=torch.from_numpy(rl2s),
    )


class RLDataset(ABC):
    """Where training sequences come from. A user's own dataset implements three methods.

    ``sample_random_trajectory`` may take a ``numpy.random.Generator``; then training is exactly
    reproducible and resumable with it too.
    """

    #: what `share_as` called this process, and the run's name
    _process = _run = ""

    def __init__(self, dset_name: str | None = None) -> None:
        self.dset_name = dset_name
        self.has_edit_rights = False
        self.action_format: ActionFormat | None = None

    @property
    @abstractmethod
    def save_new_trajs_to(self) -> str | None:
        """Folder for new trajectories, or ``None`` when this dataset does not grow."""

    @abstractmethod
    def get_description(self) -> str:
        """One line for the log."""

    @abstractmethod
    def sample_random_trajectory(self, *args: Any) -> RLData:
        """A trajectory; ``(self)`` or ``(self, rng)``."""

    @property
    def ready_for_training(self) -> bool:
        """Whether there is enough data to learn from."""
        return True

    def on_end_of_collection(self, experiment: Any) -> dict[str, Any]:
        """Called after every collection; returns metrics to log."""
        return {}

    def on_epoch(self, epoch: int) -> int | None:
        """Called in every epoch before it learns (again when a run resumes in its middle).

        Returns:
            Transitions that other processes collected since the last call, when it knows them.
        """
        return None

    def refresh(self) -> int:
        """Take in what other processes have stored; returns its number of transitions."""
        return 0

    def share_as(self, role: str, name: str = "") -> None:
        """Share the stored trajectories with other processes.

        Args:
            role: ``collect`` (only add), ``learn`` (only read and delete) or ``parallel`` (all do
                the same, in step).
            name: of this process, unlike any other's; part of the names of what it stores.
        """
        self._process = name

    def add(self, name: str, trajectories: list[Rows], env_names: list[str], actions: ActionFormat) -> None:
        """Store one collection's trajectories in ``save_new_trajs_to``, each as a file whose name begins with ``name``.

        `amago.loading.load_traj_from_disk` reads them.
        """
        if self.save_new_trajs_to is not None:
            make_folder(Path(self.save_new_trajs_to))
            own = "-".join(filter(None, (name, self._run, self._process)))
            for i, (trajectory, env_name) in enumerate(zip(trajectories, env_names, strict=True)):
                path = Path(self.save_new_trajs_to) / f"{own}-{i:05d}.safetensors"
                write_shard(path, [trajectory], [env_name], actions)

    def delete(self, delete_protected: bool = False) -> None:
        """Delete the stored trajectories, also those that are kept for ever if ``delete_protected``."""
        raise NotImplementedError(f"{type(self).__name__} does not delete")

    def configure_from_experiment(self, experiment: Any) -> None:
        """Called once by ``Experiment.start``."""
        self._run = getattr(experiment, "run_name", "")
        self.has_edit_rights = experiment.has_dset_edit_rights
        self.action_format = experiment.action_format

    def sample_batch(self, rng: np.random.Generator, batch_size: int, length: int, padding: str) -> Batch:
        """``batch_size`` random slices of random trajectories, every draw from ``rng``."""
        return collate(
            [sample_trajectory(self, rng).random_slice(length, padding, rng) for _ in range(batch_size)]
        )

    # -- exact resume: a dataset that grows says what it held at a checkpoint -----------------

    def begin_anew(self) -> None:
        """Forget what an earlier attempt of this run collected."""
        return None

    def make_durable(self, state: dict[str, Any]) -> None:
        """What ``state`` names survives a power loss from now on."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """What this dataset holds now, as JSON values."""
        return {}

    def check_state_dict(self, state: dict[str, Any]) -> None:
        """Raise CheckpointError or DataError where what ``state`` names is damaged; change nothing."""
        return None

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Hold again exactly what ``state`` names; remove anything newer."""
        return None

    def release(self, kept_states: list[dict[str, Any]]) -> None:
        """Free what neither the present nor any of ``kept_states`` refers to."""
        return None


def sample_trajectory(dataset: RLDataset, rng: np.random.Generator) -> RLData:
    """One trajectory of a dataset, which may take the generator or not."""
    sample: Any = dataset.sample_random_trajectory
    if takes_generator(sample, after=0):
        found = sample(rng)
    elif "rng" in inspect.signature(sample).parameters:
        found = sample(rng=rng)
    else:
        found = sample()
    size = dataset.action_format.size if dataset.action_format is not None else found.actions.shape[1]
    if found.actions.shape[1] != size:
        raise DataError(
            f"{type(dataset).__name__}: a trajectory's actions have size {found.actions.shape[1]}, this run's {size} "
            "(one-hot when discrete)"
        )
    return found


class DoNothingDataset(RLDataset):
    """Holds nothing and is never ready: for agents that only act."""

    @property
    def save_new_trajs_to(self) -> None:
        return None

    def get_description(self) -> str:
        return "no data"

    @property
    def ready_for_training(self) -> bool:
        return False

    def sample_random_trajectory(self) -> RLData:
        raise ConfigurationError(
            "DoNothingDataset has no trajectories; give the Experiment a DiskTrajDataset"
        )

    def delete(self, delete_protected: bool = False) -> None:
        return None


from amago.disk_dataset import DiskTrajDataset, load_traj_from_disk  # noqa: E402
from amago.mixture import MixtureOfDatasets  # noqa: E402

__all__ = [
    "ActionFormat",
    "Batch",
    "DiskTrajDataset",
    "DoNothingDataset",
    "MixtureOfDatasets",
    "RLData",
    "RLDataset",
    "collate",
    "load_traj_from_disk",
]
