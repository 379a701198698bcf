"""Trajectories on disk: many in one file, any slice readable without reading the rest.

A *shard* is one safetensors file with the trajectories of one collection, their timesteps
laid end to end. A trajectory of T transitions has T + 1 rows; row t holds the observation at
t and what led to it: the previous action, reward and end. So one slice of rows is all that a
training sequence needs.
"""

from __future__ import annotations

import json
import mmap
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from amago.errors import DataError
from amago.files import sha256, write_atomic

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
    digest = ""

    def write(temporary: Path) -> None:
        nonlocal digest
        save_file(tensors, temporary, metadata=metadata)
        digest = sha256(temporary)

    write_atomic(path, write, durable)
    return digest


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
        self._arrays = _map_arrays(path)
        self.offsets = np.array(self._arrays.pop("offsets"))
        self.obs_keys = sorted(k[4:] for k in names if k.startswith("obs."))
        self.env_names: list[str] = json.loads(metadata["names"])
        self.action_format = ActionFormat(**json.loads(metadata["actions"]))
        rows = len(self._arrays["rewards"])
        valid = len(self.offsets) >= 2 and self.offsets[0] == 0 and self.offsets[-1] == rows
        if (
            not valid
            or np.any(np.diff(self.offsets) < 2)
            or any(len(a) != rows for a in self._arrays.values())
        ):
            raise DataError(f"{path}: trajectory file whose rows do not add up; remove it from the buffer")

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
