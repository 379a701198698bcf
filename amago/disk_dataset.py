"""`DiskTrajDataset`: replay on disk, read slice by slice.

Folder: ``{dset_root}/{dset_name}/buffer/{fifo,protected}/``, each holding shards
(:mod:`amago.storage`). The oldest ``fifo`` trajectories are evicted first, ``protected`` ones never;
those may also be AMAGO's own ``.npz`` files.

What the dataset holds is an index in memory, not a directory listing: so a checkpoint names it
exactly, and a trajectory that was collected after the checkpoint cannot slip in after a resume.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gin
import numpy as np
import torch

from amago.errors import CheckpointError, ConfigurationError, DataError
from amago.files import fsync_folder, is_name, make_folder, sha256, storage_errors
from amago.gin_names import explains_required
from amago.hindsight import FrozenTraj, NoOpRelabeler, takes_generator
from amago.loading import PADDED_SAMPLING, Batch, RLData, RLDataset, rows_to_rldata
from amago.npz_import import converted_npz
from amago.storage import ActionFormat, Rows, Shard, write_shard

logger = logging.getLogger(__name__)

SUFFIX = ".safetensors"


@dataclass
class _Held:
    """A shard in use: trajectories before ``skip`` are evicted."""

    shard: Shard
    name: str
    digest: str
    skip: int = 0


@explains_required
@gin.configurable(module="amago.loading")
class DiskTrajDataset(RLDataset):
    """Trajectories on disk, sampled uniformly.

    Args:
        dset_root: folder that holds datasets.
        dset_name: this dataset's folder inside it.
        dset_max_size: trajectories kept in ``fifo``; the oldest go first.
        dset_min_size: trajectories needed before learning starts.
        relabeler: rewrites whole trajectories as they are sampled (hindsight): an
            `amago.hindsight.Relabeler`, or a function of a `FrozenTraj` and, if it takes one, a generator.

    Raises:
        ConfigurationError: an impossible size, or ``dset_root`` names a file.
    """

    def __init__(
        self,
        dset_root: str | Path,
        dset_name: str,
        dset_max_size: int,
        dset_min_size: int = 1,
        relabeler: Any = None,
    ) -> None:
        super().__init__(dset_name=dset_name)
        if dset_max_size < 1 or dset_min_size < 1:
            raise ConfigurationError(
                f"DiskTrajDataset.dset_max_size and dset_min_size must be at least 1, "
                f"got {dset_max_size} and {dset_min_size}"
            )
        if not is_name(dset_name):
            raise ConfigurationError(
                f"DiskTrajDataset.dset_name must be the name of a folder, got {dset_name!r}"
            )
        self.dset_max_size = int(dset_max_size)
        self.dset_min_size = int(dset_min_size)
        self.relabeler = relabeler
        self.folder = Path(dset_root) / dset_name / "buffer"
        self.fifo_folder, self.protected_folder = self.folder / "fifo", self.folder / "protected"
        try:
            with storage_errors():
                make_folder(self.fifo_folder)
                make_folder(self.protected_folder)
        except (FileExistsError, NotADirectoryError) as error:
            raise ConfigurationError(
                f"DiskTrajDataset: {error.filename} is a file where a folder is needed"
            ) from error
        self._fifo: list[_Held] = []
        self._protected: list[_Held] = []
        self._durable: set[str] = set()
        self._verified: set[tuple[str, str]] = set()  # (name, sha256): hashed once while resuming
        self._role, self._process = "alone", ""
        #: shapes of what this run's environments observe, by array
        self._wanted: dict[str, tuple[int, ...]] = {}
        self._known: set[str] = set()  # fifo files that were taken in, evicted ones too
        self._index()

    # -- RLDataset ------------------------------------------------------------------------

    @property
    def save_new_trajs_to(self) -> str | None:
        return str(self.fifo_folder) if self.has_edit_rights or self._role == "collect" else None

    def get_description(self) -> str:
        return f"{self.folder}: {len(self)} trajectories, at most {self.dset_max_size} in fifo"

    def __len__(self) -> int:
        """Number of trajectories that can be sampled."""
        return len(self._starts)

    @property
    def ready_for_training(self) -> bool:
        return len(self) >= self.dset_min_size

    def configure_from_experiment(self, experiment: Any) -> None:
        super().configure_from_experiment(experiment)
        assert self.action_format is not None
        rewritten = self.relabeler is not None and not isinstance(self.relabeler, NoOpRelabeler)
        if hasattr(experiment, "train_envs") and not rewritten:
            spaces = experiment.train_envs.observation_space.spaces
            self._wanted = {f"obs.{k}": tuple(s.shape) for k, s in spaces.items()}
        converted = converted_npz(self.protected_folder, self.folder / "converted", self.action_format)
        self._protected = self._scan(self.protected_folder) + [_Held(Shard(p), p.name, "") for p in converted]
        # A run that goes on takes what its checkpoint names; what lies beside may be torn. Data that it may
        # not edit are not of its making.
        resumes = getattr(experiment, "resume", "never") == "auto"
        goes_on = self._role != "learn" and resumes and self.has_edit_rights
        if self._role != "collect" and not goes_on:
            self._fifo = self._scan(self.fifo_folder)
            self._known = {h.name for h in self._fifo}
        if unread := len(list(self.fifo_folder.glob("*.npz"))):
            logger.warning(
                "%s: %d .npz files are not read from here; move them to %s to learn from them",
                self.fifo_folder, unread, self.protected_folder,
            )  # fmt: skip
        self._index()

    @staticmethod
    def _scan(folder: Path) -> list[_Held]:
        return [_Held(Shard(p), p.name, "") for p in sorted(folder.glob("*" + SUFFIX))]

    def on_end_of_collection(self, experiment: Any) -> dict[str, Any]:
        evicted = self._evict()
        return {"Trajectory Files Saved": len(self), "Trajectory Files Deleted": evicted}

    def delete(self, delete_protected: bool = False) -> None:
        for path in self.fifo_folder.glob("*" + SUFFIX):
            path.unlink(missing_ok=True)  # processes that train together all do this
        if delete_protected:
            shutil.rmtree(self.protected_folder, ignore_errors=True)
            shutil.rmtree(self.folder / "converted", ignore_errors=True)
            self.protected_folder.mkdir(exist_ok=True)
            self._protected = []
        self._fifo = []
        self._known, self._durable, self._verified = set(), set(), set()  # names may come again
        self._index()

    # -- growing ------------------------------------------------------------------------------

    def share_as(self, role: str, name: str = "") -> None:
        self._role, self._process = role, name

    def refresh(self) -> int:
        names = sorted({p.name for p in self.fifo_folder.glob("*" + SUFFIX)} - self._known)
        new = [_Held(Shard(path), path.name, sha256(path)) for path in map(self.fifo_folder.joinpath, names)]
        self._known.update(names)
        self._fifo = sorted(self._fifo + new, key=lambda h: h.name)
        self._index()
        return sum(int(h.shard.offsets[-1]) - len(h.shard) for h in new)

    def on_epoch(self, epoch: int) -> int | None:
        if self._role != "learn":
            return None
        found = self.refresh()
        self._evict()
        return found

    def add(self, name: str, trajectories: list[Rows], env_names: list[str], actions: ActionFormat) -> None:
        """Store one collection's trajectories as a shard called ``name``.

        Raises:
            OSError: disk full or no permission; the dataset is then unchanged.
        """
        if not trajectories:
            return
        if self._role == "collect":
            # The clock first: the learner evicts by name. Then what no other process has.
            name = f"{time.time_ns():020d}-{self._process}-{name}"
        elif self._role == "parallel":
            name = f"{name}-{self._process}"
        path, count = self.fifo_folder / (name + SUFFIX), 0
        while path.exists():  # another run's data
            count += 1
            path = self.fifo_folder / f"{name}-again{count}{SUFFIX}"
        digest = write_shard(path, trajectories, env_names, actions)
        if self._role != "alone":
            return  # a learner, or `refresh` when all processes are done, takes it in
        self._known.add(path.name)
        self._fifo.append(_Held(Shard(path), path.name, digest))
        self._index()

    def _evict(self) -> int:
        excess = sum(len(h.shard) - h.skip for h in self._fifo) - self.dset_max_size
        evicted = max(excess, 0)
        while excess > 0:
            oldest = self._fifo[0]
            going = min(excess, len(oldest.shard) - oldest.skip)
            oldest.skip += going
            excess -= going
            if oldest.skip == len(oldest.shard):
                self._fifo.pop(0)
        self._index()
        return evicted

    def _index(self) -> None:
        """For each trajectory: which shard, and its first and last-plus-one row."""
        held = self._protected + self._fifo
        offsets = [h.shard.offsets for h in held]
        if held and self.action_format not in (None, held[0].shard.action_format):
            raise DataError(
                f"{held[0].shard.path}: its actions ({held[0].shard.action_format}) are not this run's "
                f"({self.action_format})"
            )
        for name, wanted in self._wanted.items() if held else ():
            found = held[0].shard.layout.get(name, wanted)
            if found != wanted:
                raise DataError(
                    f"{held[0].shard.path}: its {name} has shape {found}, that of this run's environments {wanted}; "
                    "it is of another environment"
                )
        for other in held[1:]:
            if other.shard.layout != held[0].shard.layout:
                raise DataError(
                    f"{other.shard.path}: its observations or actions are not laid out as those of "
                    f"{held[0].shard.path}; keep them in different datasets"
                )
            if other.shard.action_format != held[0].shard.action_format:
                raise DataError(
                    f"{other.shard.path}: its actions ({other.shard.action_format}) are not those of "
                    f"{held[0].shard.path} ({held[0].shard.action_format}); keep them in different datasets"
                )
        self._shards = [h.shard for h in held]
        if held:
            self._shard_of = np.concatenate(
                [np.full(len(h.shard) - h.skip, i) for i, h in enumerate(held)]
            ).astype(np.int64)
            self._starts = np.concatenate([o[h.skip : -1] for o, h in zip(offsets, held, strict=True)])
            self._stops = np.concatenate([o[h.skip + 1 :] for o, h in zip(offsets, held, strict=True)])
        else:
            self._shard_of = self._starts = self._stops = np.zeros(0, np.int64)

    # -- sampling -----------------------------------------------------------------------------

    def _require_data(self) -> None:
        if not len(self):
            raise DataError(
                f"{self.folder} has no trajectories yet; collect some, or point dset_root at data"
            )

    def sample_random_trajectory(self, rng: np.random.Generator) -> RLData:
        self._require_data()
        i = int(rng.integers(len(self)))
        shard = self._shards[self._shard_of[i]]
        data = rows_to_rldata(shard.rows(self._starts[i], self._stops[i]), shard.action_format)
        if self.relabeler is None:
            return data
        own = FrozenTraj.from_rldata(data)
        relabelled = (
            self.relabeler(own, rng) if takes_generator(self.relabeler, after=1) else self.relabeler(own)
        )
        return relabelled.to_rldata()

    def sample_batch(self, rng: np.random.Generator, batch_size: int, length: int, padding: str) -> Batch:
        if self.relabeler is not None and not isinstance(self.relabeler, NoOpRelabeler):
            return super().sample_batch(rng, batch_size, length, padding)
        self._require_data()
        picks = rng.integers(len(self), size=batch_size)
        total = self._stops[picks] - self._starts[picks] - 1
        begin, end = _slice_bounds(total, length, padding, rng)
        rows = [
            self._shards[s].rows(a, b)
            for s, a, b in zip(
                self._shard_of[picks],
                self._starts[picks] + begin,
                self._starts[picks] + end + 1,
                strict=True,
            )
        ]
        return _collate_rows(rows, self._shards[self._shard_of[picks[0]]].action_format)

    # -- exact resume -------------------------------------------------------------------------

    def begin_anew(self) -> None:
        if self._role in ("alone", "parallel") and self.has_edit_rights:
            self.load_state_dict({"fifo": []})

    def make_durable(self, state: dict[str, Any]) -> None:
        for name in {entry["file"] for entry in state["fifo"]} - self._durable:
            with open(self.fifo_folder / name, "rb") as handle:
                os.fsync(handle.fileno())
            self._durable.add(name)
        fsync_folder(self.fifo_folder)

    def state_dict(self) -> dict[str, Any]:
        for h in self._fifo:
            h.digest = h.digest or sha256(h.shard.path)
        return {"fifo": [{"file": h.name, "sha256": h.digest, "skip": h.skip} for h in self._fifo]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        held = self._named(state)
        wanted = {h.name for h in held}
        newest, oldest = max(wanted, default=""), min(wanted, default="")
        self._known = set(wanted)
        for path in self.fifo_folder.glob("*" + SUFFIX):
            # A rollout from a future that did not happen would poison the replay. Older files
            # may belong to an older checkpoint that is still kept. What collectors brought is real.
            if self._role == "learn":
                self._known |= {path.name} if path.name < oldest else set()
            elif path.name > newest and self.has_edit_rights:
                path.unlink(missing_ok=True)
            else:
                self._known.add(path.name)
        self._fifo = held
        self._index()

    def check_state_dict(self, state: dict[str, Any]) -> None:
        self._named(state)

    def _named(self, state: dict[str, Any]) -> list[_Held]:
        """The shards that a checkpoint's state names, each what it was."""
        held = []
        try:
            entries = [(e["file"], e["sha256"], e["skip"]) for e in state["fifo"]]
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"a checkpoint's list of replay files is damaged ({error!r})") from error
        for name, digest, skip in entries:
            if not is_name(name) or type(skip) is not int:
                raise CheckpointError(f"checkpoint names a replay file outside its folder: {name!r}")
            path = self.fifo_folder / name
            if (name, digest) not in self._verified:
                if not path.is_file() or sha256(path) != digest:
                    raise CheckpointError(
                        f"{path}: replay file is missing or not what the checkpoint recorded"
                    )
                self._verified.add((name, digest))
            shard = Shard(path)
            if not 0 <= skip < len(shard):
                raise CheckpointError(f"a checkpoint skips {skip} of the {len(shard)} trajectories of {path}")
            held.append(_Held(shard, name, digest, skip))
        return held

    def release(self, kept_states: list[dict[str, Any]]) -> None:
        if not self.has_edit_rights:
            return
        needed = {h.name for h in self._fifo}
        for state in kept_states:
            needed.update(entry["file"] for entry in state["fifo"])
        for path in (*self.fifo_folder.glob("*" + SUFFIX), *self.fifo_folder.glob(".*.tmp")):
            # Others may be writing, or have written what is not taken in yet.
            if path.name not in needed and (self._role == "alone" or path.name in self._known):
                path.unlink(missing_ok=True)


def _slice_bounds(
    total: np.ndarray, length: int, padding: str, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """``amago.loading.slice_bounds`` for many trajectories: first transitions and ends."""
    if padding not in PADDED_SAMPLING:
        raise ConfigurationError(
            f"padded_sampling must be one of {', '.join(PADDED_SAMPLING)}, got {padding!r}"
        )
    low = -length + 1 if padding in ("left", "both") else 0
    high = total - 2 if padding in ("right", "both") else total - length
    begin = rng.integers(low, np.maximum(high, low) + 1)
    whole = total <= length
    begin = np.where(whole, 0, begin)
    end = np.where(whole, total, np.minimum(begin + length, total))
    return np.maximum(begin, 0), end


def _collate_rows(rows: list[Rows], actions: ActionFormat) -> Batch:
    """Padded batch of row slices; one copy from the memory map into the batch."""
    b, longest = len(rows), max(len(r) for r in rows)
    lengths = np.array([len(r) for r in rows])

    def pad(first: np.ndarray, get: Any) -> np.ndarray:
        # Shards may differ in it: images as bytes here, as floats there.
        dtype = np.result_type(*{get(r).dtype for r in rows})
        out = np.zeros((b, longest + 1, *first.shape[1:]), dtype)
        for i, r in enumerate(rows):
            out[i, : lengths[i] + 1] = get(r)
        return out

    stored = pad(rows[0].actions, lambda r: r.actions)
    time_idxs = pad(rows[0].time_idxs, lambda r: r.time_idxs)
    rewards = pad(rows[0].rewards, lambda r: r.rewards)
    dones = pad(rows[0].dones, lambda r: r.dones)
    real = np.arange(longest + 1)[None, :] <= lengths[:, None]
    # Nothing came before an episode's first step, and nothing is known of the padding.
    known = real & (time_idxs > 0)
    shown = actions.represent(stored) * known[..., None]
    rewards = (rewards * known)[..., None]
    return Batch(
        obs={k: torch.from_numpy(pad(v, lambda r, k=k: r.obs[k])) for k, v in rows[0].obs.items()},
        rl2s=torch.from_numpy(np.concatenate([rewards, shown], axis=-1)),
        rews=torch.from_numpy(rewards[:, 1:]),
        dones=torch.from_numpy(dones[:, 1:, None]),
        actions=torch.from_numpy(shown[:, 1:]),
        time_idxs=torch.from_numpy(time_idxs[..., None]),
        mask=torch.from_numpy(real[:, 1:, None]),
    )


def load_traj_from_disk(path: str | Path) -> RLData:
    """The only trajectory of a file: one of our shards, or AMAGO's ``.npz``.

    Raises:
        DataError: unreadable, several trajectories, or a pickle (``.traj``).
    """
    path = Path(path)
    if path.suffix == ".npz":
        return FrozenTraj.load(path).to_rldata()
    if path.suffix == ".traj":
        raise DataError(
            f"{path}: .traj files are pickles, which can run code when read; save as 'npz' instead"
        )
    shard = Shard(path)
    if len(shard) != 1:
        raise DataError(f"{path} holds {len(shard)} trajectories; read them with amago.storage.Shard")
    return rows_to_rldata(shard.rows(0, int(shard.offsets[-1])), shard.action_format)
