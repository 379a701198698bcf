"""Trajectories on disk: many in one file, any slice readable without reading the rest.

A *shard* is one safetensors file with the trajectories of one collection, their timesteps
laid end to end. A trajectory of T transitions has T + 1 rows; row t holds the observation at
t and what led to it: the previous action, reward and end. So one slice of rows is all that a
training sequence needs.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from amago.errors import DataError
from amago.files import write_atomic, write_bytes

#: Raised when the layout of a shard changes; older shards are then refused by name.
SHARD_VERSION = "1"

_DTYPES = {
    "BOOL": np.bool_,
    "U8": np.uint8,
    "I8": np.int8,
    "I16": np.int16,
    "U16": np.uint16,
    "I32": np.int32,
    "U32": np.uint32,
    "I64": np.int64,
    "F16": np.float16,
    "F32": np.float32,
    "F64": np.float64,
}


@dataclass(frozen=True)
class ActionFormat:
    """How actions are stored and shown: ``discrete`` integers become one-hot vectors of ``size``."""

    discrete: bool
    size: int

    def represent(self, actions: np.ndarray) -> np.ndarray:
        """float32 (..., size) from stored (..., 1) integers or (..., size) numbers."""
        if not self.discrete:
            return actions.astype(np.float32)
        out = np.zeros((*actions.shape[:-1], self.size), dtype=np.float32)
        np.put_along_axis(out, actions.astype(np.int64), 1.0, axis=-1)
        return out


@dataclass
class Rows:
    """Consecutive rows of one trajectory (R rows, R - 1 transitions).

    Attributes:
        obs: each (R, ...).
        actions: (R, 1) integers when discrete, else (R, A): the action *before* each row.
        rewards: (R,) float32: the reward before each row.
        dones: (R,) bool: whether the step before ended in a terminal state.
        time_idxs: (R,) int64: steps since the episode's reset.
    """

    obs: dict[str, np.ndarray]
    actions: np.ndarray
    rewards: np.ndarray
    dones: np.ndarray
    time_idxs: np.ndarray

    def __len__(self) -> int:
        """Number of transitions."""
        return len(self.rewards) - 1


def write_shard(
    path: Path,
    trajectories: list[Rows],
    names: list[str],
    actions: ActionFormat,
    durable: bool = False,
) -> str:
    """Write trajectories to one shard that appears whole or not at all.

    Args:
        path: the shard's file.
        trajectories: at least one.
        names: the environment's name for each trajectory.
        actions: how the stored actions are to be read.
        durable: fsync now; otherwise a checkpoint does so before it refers to the file.

    Returns:
        The file's sha256.
    """
    offsets = np.cumsum([0] + [len(t.rewards) for t in trajectories]).astype(np.int64)
    tensors = {f"obs.{k}": np.concatenate([t.obs[k] for t in trajectories]) for k in trajectories[0].obs}
    tensors["actions"] = np.concatenate([t.actions for t in trajectories])
    tensors["rewards"] = np.concatenate([t.rewards for t in trajectories]).astype(np.float32)
    tensors["dones"] = np.concatenate([t.dones for t in trajectories]).astype(np.bool_)
    tensors["time_idxs"] = np.concatenate([t.time_idxs for t in trajectories]).astype(np.int64)
    tensors["offsets"] = offsets
    tensors = {k: np.ascontiguousarray(v) for k, v in tensors.items()}
    metadata = {
        "amago_shard": SHARD_VERSION,
        "names": json.dumps(names),
        "actions": json.dumps({"discrete": actions.discrete, "size": actions.size}),
    }
    data = save(tensors, metadata=metadata)
    write_atomic(path, lambda temporary: write_bytes(temporary, data), durable)
    return hashlib.sha256(data).hexdigest()


class Shard:
    """One shard opened for reading; rows come from a memory map.

    Raises:
        DataError: not a shard of ours, torn, or of another layout version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # The library validates the header: offsets inside the file, no overlaps, known types.
            with safe_open(path, framework="numpy") as reader:
                metadata = reader.metadata() or {}
                names = list(reader.keys())
        except (SafetensorError, OSError, ValueError) as error:
            raise DataError(
                f"{path}: not a readable trajectory file ({error}); remove it from the buffer"
            ) from error
        if metadata.get("amago_shard") != SHARD_VERSION:
            raise DataError(
                f"{path}: not a trajectory file of this version (has {metadata.get('amago_shard')!r}, "
                f"needs {SHARD_VERSION!r}); remove it from the buffer"
            )
        missing = {"actions", "rewards", "dones", "time_idxs", "offsets"} - set(names)
        if missing:
            raise DataError(f"{path}: trajectory file without {', '.join(sorted(missing))}")
        try:
            self._arrays = _map_arrays(path)
            self.env_names: list[str] = json.loads(metadata["names"])
            self.action_format = _action_format(json.loads(metadata["actions"]))
        except (KeyError, TypeError, ValueError, OSError, RecursionError) as error:
            raise DataError(
                f"{path}: trajectory file with a damaged header ({error}); remove it from the buffer"
            ) from error
        self.offsets = np.array(self._arrays.pop("offsets"))
        self.obs_keys = sorted(k[4:] for k in names if k.startswith("obs."))
        if not self._adds_up():
            raise DataError(f"{path}: trajectory file whose rows do not add up; remove it from the buffer")

    @property
    def layout(self) -> dict[str, tuple[int, ...]]:
        """Shape of one row of each array: alike in all shards of a dataset."""
        return {k: v.shape[1:] for k, v in self._arrays.items()}

    def _adds_up(self) -> bool:
        a, offsets = self._arrays, self.offsets
        if offsets.dtype != np.int64 or offsets.ndim != 1 or len(offsets) < 2 or not self.obs_keys:
            return False
        if any(v.ndim == 0 for v in a.values()):
            return False
        if any(a[k].ndim != 1 for k in ("rewards", "dones", "time_idxs")):
            return False
        rows = len(a["rewards"])
        actions, form = a["actions"], self.action_format
        width = 1 if form.discrete else form.size
        if (
            a["rewards"].dtype != np.float32
            or a["dones"].dtype != np.bool_
            or a["time_idxs"].dtype != np.int64
            or actions.shape != (rows, width)
            or any(len(v) != rows for v in a.values())
        ):
            return False
        # Discrete actions index a one-hot vector.
        if form.discrete and actions.dtype.kind not in "iu":
            return False
        if form.discrete and rows and not 0 <= actions.min() <= actions.max() < form.size:
            return False
        steps = np.diff(offsets)
        # Ordered first: differences of hostile numbers may wrap around.
        ordered = bool(np.all(offsets[1:] > offsets[:-1])) and offsets[0] == 0 and offsets[-1] == rows
        return ordered and bool(np.all(steps >= 2)) and isinstance(self.env_names, list)

    def __len__(self) -> int:
        """Number of trajectories."""
        return len(self.offsets) - 1

    def rows(self, start: int, stop: int) -> Rows:
        """Rows ``start`` to ``stop`` (absolute in the shard), as views of the map."""
        a = self._arrays
        return Rows(
            obs={k: a[f"obs.{k}"][start:stop] for k in self.obs_keys},
            actions=a["actions"][start:stop],
            rewards=a["rewards"][start:stop],
            dones=a["dones"][start:stop],
            time_idxs=a["time_idxs"][start:stop],
        )


#: More actions than any environment has; keeps a hostile file from asking for endless one-hot vectors.
_MOST_ACTIONS = 1_000_000


def _action_format(content: dict[str, Any]) -> ActionFormat:
    discrete, size = content["discrete"], content["size"]
    if not isinstance(discrete, bool) or type(size) is not int or not 1 <= size <= _MOST_ACTIONS:
        raise ValueError(f"actions {content!r}")
    return ActionFormat(discrete, size)


def _map_arrays(path: Path) -> dict[str, np.ndarray]:
    """Memory-mapped arrays of a safetensors file whose header was validated already."""
    with open(path, "rb") as handle:
        header_bytes = int.from_bytes(handle.read(8), "little")
        header = json.loads(handle.read(header_bytes))
        size = os.fstat(handle.fileno()).st_size
        mapped = mmap.mmap(handle.fileno(), size, access=mmap.ACCESS_READ)
    base = 8 + header_bytes
    arrays: dict[str, np.ndarray] = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        dtype = np.dtype(_DTYPES[entry["dtype"]])
        begin, _ = entry["data_offsets"]
        count = int(np.prod(entry["shape"], dtype=np.int64))
        arrays[name] = np.frombuffer(mapped, dtype, count, base + begin).reshape(entry["shape"])
    return arrays
