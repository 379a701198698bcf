"""Checkpoints, replay and policies."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from amago import loading, resume
from amago.checkpoints import SENTINEL, STATE, Checkpoint, CheckpointStore, Position
from amago.disk_dataset import _collate_rows
from amago.files import sha256
from amago.policy_files import load_policy_weights
from amago.storage import Shard
from tests.fuzz.inputs import (
    changed_bytes,
    document,
    values,
)
from tests.fuzz.kinds import Target, as_json, each
from tests.unit.core.small_run import configure, experiment


def state_targets(folder: Path) -> list[Target]:
    """Checkpoints, replay and policies of a small run."""
    configure()
    base = folder / "run"
    run = experiment(base, epochs=2, ckpt_interval=1)
    run.learn()
    run.close()
    found = run.store.newest()
    assert found is not None
    state, position, whole = found.state, found.position, found.folder
    fifo = base / "replay" / "buffer" / "fifo"
    kept = folder / "fifo"
    shutil.copytree(fifo, kept)
    scratch = folder / "scratch"
    scratch.mkdir()

    def restore_state(data: bytes) -> None:
        for path in kept.iterdir():
            if not (fifo / path.name).exists():
                shutil.copyfile(path, fifo / path.name)
        store = CheckpointStore(folder / "store")
        target = store.folder / position.folder_name
        if not target.exists():
            shutil.copytree(whole, target)
        (target / STATE).write_bytes(data)
        sums = {name: sha256(target / name) for name in (STATE, resume.POLICY, resume.OPTIMIZER)}
        (target / SENTINEL).write_text(json.dumps({"files": sums}))
        resume.restore(run, store.read(position))

    def read_sentinel(data: bytes) -> None:
        store = CheckpointStore(folder / "sentinels")
        target = store.folder / position.folder_name
        if not target.exists():
            shutil.copytree(whole, target)
        (target / SENTINEL).write_bytes(data)
        each(lambda: store.newest(resume.replay_check(run)), lambda: store.read(position))

    def restore_file(name: str) -> Callable[[bytes], Any]:
        place = scratch / f"checkpoint-{name}"
        shutil.copytree(whole, place)

        def read(data: bytes) -> None:
            (place / name).write_bytes(data)
            resume.restore(run, Checkpoint(Position(position.epoch, position.batch), place, state))

        return read

    def read_shard(data: bytes) -> None:
        path = scratch / "shard.safetensors"
        path.write_bytes(data)
        shard = Shard(path)
        rows = [shard.rows(a, b) for a, b in zip(shard.offsets[:-1], shard.offsets[1:], strict=True)]
        _collate_rows(rows[:4], shard.action_format)

    def read_npz(data: bytes) -> None:
        path = scratch / "trajectory.npz"
        path.write_bytes(data)
        loading.load_traj_from_disk(path)

    def read_policy(name: str) -> Callable[[bytes], Any]:
        path = scratch / name

        def read(data: bytes) -> None:
            path.write_bytes(data)
            load_policy_weights(run.policy, path, torch.device("cpu"))

        return read

    shard = next(iter(sorted(kept.iterdir())))
    headers = [
        *(
            b'"dtype":"F32"',
            b'"dtype":"BF16"',
            b'"dtype":"I64"',
            b'"shape":[1000000000000]',
            b'"data_offsets":[0,',
        ),
        *(b"18446744073709551615", b'"__metadata__"', b"}", b"{", b"[", b"-1", b'"size": 1000000000000'),
    ]
    huge = st.builds(
        _safetensors,
        st.dictionaries(st.sampled_from(["actions", "offsets", "rewards", "x"]), values, max_size=3),
        st.binary(max_size=64),
    )
    buffer = io.BytesIO()
    torch.save(run.policy.state_dict(), buffer)
    arrays = io.BytesIO()
    np.savez(
        arrays,
        **{"_OBS_KEY_x": np.zeros((4, 2), np.float32), "rl2s": np.zeros((4, 3), np.float32)},
        **{"time_idxs": np.arange(4)[:, None], "rews": np.ones((3, 1)), "dones": np.zeros((3, 1), bool)},
        actions=np.zeros((3, 2), np.float32),
    )  # fmt: skip
    pickles = [
        b"cos\nsystem\n(S'touch canary'\ntR.",
        b"\x80\x04cposix\nsystem\n\x8c\x0ctouch canary\x85R.",
        b"PK\x03\x04",
        b"\x93NUMPY",
    ]
    weights_file, optimizer_file = (
        (whole / resume.POLICY).read_bytes(),
        (whole / resume.OPTIMIZER).read_bytes(),
    )
    policy_pt, rows, npz = buffer.getvalue(), shard.read_bytes(), arrays.getvalue()
    sentinel = json.loads((whole / SENTINEL).read_text())
    npz_pieces = [*pickles, b"'descr': '|O'", b"'shape': (1000000000000,)"]
    return [
        Target(
            "checkpoint state.json",
            document(state),
            restore_state,
            0.3,
            ("shutil.rmtree",),
            valid=as_json(state),
        ),
        Target("checkpoint COMPLETE", document(sentinel), read_sentinel, 0.6, valid=as_json(sentinel)),
        Target(
            "checkpoint policy.safetensors",
            changed_bytes([weights_file], headers) | huge,
            restore_file(resume.POLICY),
            0.5,
            valid=weights_file,
        ),
        Target(
            "checkpoint optimizer.pt",
            changed_bytes([optimizer_file, policy_pt], pickles),
            restore_file(resume.OPTIMIZER),
            0.3,
            valid=optimizer_file,
        ),
        Target("replay shard", changed_bytes([rows], headers) | huge, read_shard, 1.6, valid=rows),
        Target("replay .npz", changed_bytes([npz], npz_pieces), read_npz, 1.2, valid=npz),
        Target(
            "policy.safetensors",
            changed_bytes([weights_file], headers) | huge,
            read_policy("policy.safetensors"),
            1.6,
            valid=weights_file,
        ),
        Target("policy .pt", changed_bytes([policy_pt], pickles), read_policy("policy.pt"), valid=policy_pt),
    ]


def _safetensors(header: dict[str, Any], data: bytes) -> bytes:
    """A file with any header."""
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data
