"""AMAGO's ``.npz`` trajectories (one a file, read whole) turned into shards (many, read by the slice)."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from amago.errors import DataError
from amago.hindsight import FrozenTraj
from amago.storage import ActionFormat, Rows, write_shard

#: Files in one shard: few enough to hold in memory, many enough that shards stay few.
FILES_PER_SHARD = 1000


def converted_npz(source: Path, target: Path, actions: ActionFormat) -> list[Path]:
    """Shards with the trajectories of all ``.npz`` files of a folder, in the files' order.

    A shard's name is made of what it came from, so that it is written once and again only when a
    file changed.

    Args:
        source: folder of ``.npz`` files, which are only read.
        target: folder of the shards.
        actions: what the run's actions are.

    Raises:
        DataError: a torn or foreign file, or actions of another size; names the file.
    """
    files = sorted(source.glob("*.npz"))
    shards = []
    for first in range(0, len(files), FILES_PER_SHARD):
        group = files[first : first + FILES_PER_SHARD]
        stamps = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in group]
        name = hashlib.sha256(repr((stamps, actions)).encode()).hexdigest()[:24]
        shards.append(target / f"{name}.safetensors")
        if not shards[-1].exists():
            target.mkdir(exist_ok=True)
            write_shard(shards[-1], [_rows(f, actions) for f in group], [f.stem for f in group], actions)
    return shards


def _rows(path: Path, actions: ActionFormat) -> Rows:
    traj = FrozenTraj.load(path)
    if traj.actions.shape[1] != actions.size:
        raise DataError(f"{path}: its actions have size {traj.actions.shape[1]}, this run's {actions.size}")
    # Row t holds what led to it; the first row's past is in rl2s alone.
    previous = np.concatenate([traj.rl2s[:1, 1:], traj.actions]).astype(np.float32)
    if actions.discrete:
        previous = previous.argmax(axis=1)[:, None].astype(np.int32)
    return Rows(
        obs=traj.obs,
        actions=previous,
        rewards=np.concatenate([traj.rl2s[:1, 0], traj.rews[:, 0]]).astype(np.float32),
        dones=np.concatenate([[False], traj.dones[:, 0]]),
        time_idxs=traj.time_idxs[:, 0].astype(np.int64),
    )
