"""Every file that the program reads, a valid one of each, and how the program reads it."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from hypothesis import strategies as st

from amago import loading, resume
from amago.checkpoints import SENTINEL, STATE, Checkpoint, CheckpointStore, Position
from amago.disk_dataset import _collate_rows
from amago.files import sha256
from amago.policy_files import load_policy_weights
from amago.storage import Shard
from amago.tracking import Tracker
from amago_suite import records, status
from amago_suite.analysis import analyse
from amago_suite.build import apply_gin
from amago_suite.cell import cell_text, read_cell
from amago_suite.collect import collect, why_missing
from amago_suite.columns import RUNS
from amago_suite.evaluate import trained_record
from amago_suite.files import read_json
from amago_suite.gin_layers import Bindings, parse_layer, register_configurables
from amago_suite.grid import plan, read_plan, write_plan
from amago_suite.locks import Owner, RunLock
from amago_suite.ownership import check_owner, owner_file
from amago_suite.prepare import check_results, recorded_hash
from amago_suite.progress import last_row, number, tail_rows
from amago_suite.tables import csv_bytes, read_rows
from amago_suite.train import epochs_done, is_trained
from tests.fuzz.inputs import (
    GIN_BOMBS,
    GIN_TOKENS,
    YAML_BOMBS,
    YAML_TOKENS,
    changed_bytes,
    document,
    values,
)
from tests.unit.core.small_run import configure, experiment
from tests.unit.tables.writer import SCORES, make_grid, write_run

SUITE = """\
title: Tiny
environments:
  - { id: tmaze-passive, params: { corridor: 3 }, gin: "Agent.tau = 0.01" }
  - { name: lake, id: meta-frozen-lake, params: { size: 3, attempts: 2 }, budget: { epochs: 3 } }
architectures: [ff, { id: rnn, name: small, gin: "GRUTrajEncoder.d_hidden = 16" }]
seeds: [0, 1]
budget: { epochs: 4 }
checkpoint: { every_epochs: 3, keep: 1 }
evaluation: { episodes: 20, actors: 5, greedy: true, seed: 3 }
gin: |
  Experiment.train_batches_per_epoch = 3
smoke: { seeds: [0], budget: { epochs: 1 } }
"""
GIN = """\
import amago.agent
size = 16
Agent.tau = 0.005
a/Agent.tau = 0.01
Experiment.batch_size = %size
Multigammas.discrete = [0.9, (1, 'x'), {'k': None}]
Experiment.exploration_wrapper_type = @EpsilonGreedy
EpsilonGreedy:
    steps_anneal = 1000
"""


@dataclass(frozen=True)
class Target:
    """One kind of file.

    Attributes:
        inputs: contents.
        read: gives the content to the program; may raise only AmagoError.
        share: weight in the long form; slow readers get less.
        allowed: audit events that belong to the reader.
        valid: a content that must be accepted, so that the others are known to get that far.
    """

    name: str
    inputs: st.SearchStrategy[bytes]
    read: Callable[[bytes], Any]
    share: float = 1.0
    allowed: tuple[str, ...] = ()
    valid: bytes = b""


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _block(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)


def yaml_document(text: str) -> st.SearchStrategy[bytes]:
    return (
        document(yaml.safe_load(text), _block, YAML_TOKENS)
        | changed_bytes([text.encode()], YAML_TOKENS)
        | st.sampled_from(YAML_BOMBS)
    )


def targets(folder: Path) -> list[Target]:
    """All targets, working in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    register_configurables()
    return [*_suite_targets(folder), *_cell_targets(folder), *_state_targets(folder)]


def _suite_targets(folder: Path) -> list[Target]:
    suite = folder / "tiny.yaml"
    results = folder / "results"

    def read_suite(data: bytes) -> None:
        suite.write_bytes(data)
        grid = plan(str(suite), results=results)
        for cell in grid.cells[:3]:
            cell_text(cell)

    suite.write_text(SUITE)
    grid = plan(str(suite), results=results)
    write_plan(grid)
    valid_plan = json.loads(grid.plan_file.read_text())

    def read_plan_file(data: bytes) -> None:
        grid.plan_file.write_bytes(data)
        for cell in read_plan(grid.plan_file):
            assert results in cell.folder.parents

    def read_gin(data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        Bindings([parse_layer(text, "layer.gin")]).text()

    cell = replace(grid.cells[0], folder=folder / "cell")
    cell.folder.mkdir(exist_ok=True)

    def read_cell_file(data: bytes) -> None:
        (cell.folder / "cell.yaml").write_bytes(data)
        read_cell(cell.folder)

    def read_cell_gin(data: bytes) -> None:
        apply_gin(replace(cell, gin=data.decode("utf-8", "replace")))

    gin = changed_bytes([GIN.encode(), cell.gin.encode()], GIN_TOKENS) | st.sampled_from(GIN_BOMBS)

    def read_owner_file(data: bytes) -> None:
        owner_file(grid).parent.mkdir(parents=True, exist_ok=True)
        owner_file(grid).write_bytes(data)
        check_owner(grid)

    text = cell_text(cell)
    owner = asdict(replace(Owner.this(), pid=2**22 + 1))
    lock_path = folder / "cell" / "lock"

    def read_lock(data: bytes) -> None:
        lock_path.write_bytes(data)
        lock = RunLock(lock_path)
        lock.try_acquire()
        lock.release()

    return [
        Target("suite file (YAML)", yaml_document(SUITE), read_suite, 0.7, valid=SUITE.encode()),
        Target("plan.json", document(valid_plan), read_plan_file, valid=_json(valid_plan)),
        Target("gin layer", gin, read_gin, 1.6, valid=GIN.encode()),
        Target("cell.yaml", yaml_document(text), read_cell_file, valid=text.encode()),
        Target("gin of a cell", gin, read_cell_gin, valid=cell.gin.encode()),
        Target("lock", document(owner), read_lock, 0.8, valid=_json(owner)),
        Target("owner of a suite", document(owner), read_owner_file, valid=_json(owner)),
    ]


def _cell_targets(folder: Path) -> list[Target]:
    """What a finished cell left, read for status, tables and the next attempt."""
    grid = make_grid(
        folder / "finished", environments={"lake": SCORES["lake"]}, architectures=("rnn",), seeds=(0,)
    )
    (cell,) = grid.cells
    score = grid.environment(cell.environment).score
    write_run(cell, score, 0.5, budget={"epochs": cell.budget_epochs})
    cell.state.mkdir(exist_ok=True)
    valid = {
        path: path.read_bytes()
        for path in (cell.provenance, cell.evaluation_file, cell.episodes, cell.progress)
    }

    def with_file(path: Path, read: Callable[[], Any]) -> Callable[[bytes], Any]:
        def run(data: bytes) -> None:
            for other, content in valid.items():
                if other != path:
                    other.write_bytes(content)
            path.write_bytes(data)
            try:
                read()
            finally:
                if path not in valid:
                    path.unlink()

        return run

    def read_all() -> None:
        status.cell_status(cell)
        is_trained(cell)
        recorded_hash(cell)
        check_results(grid)
        analyse(collect(grid), resamples=10)

    def read_json_files() -> None:
        _each(
            lambda: trained_record(cell),
            lambda: why_missing(cell, read_json(cell.provenance), read_json(cell.evaluation_file)),
            read_all,
        )

    def read_csv() -> None:
        _each(lambda: epochs_done(cell), lambda: status.cell_status(cell), read_all)

    def read_progress() -> None:
        tail_rows(cell.progress, 20)
        number(last_row(cell.progress), "wall_seconds")
        _each(read_csv, lambda: Tracker(cell.folder).cut_back(3, 10))

    def read_attempts() -> None:
        attempts = records.Attempts(cell)
        known = attempts.read()
        records.died_silently(known, 0, 1)
        attempts.begin(None, 0)
        why_missing(cell, None, None)

    def read_failed() -> None:
        records.read_failure(cell)
        cell.provenance.unlink()
        cell.evaluation_file.unlink()
        status.cell_status(cell)
        why_missing(cell, None, None)

    attempt = asdict(records.Attempt(1, "2026-01-01T00:00:00Z", "host", 77, None, None, 1, 0))
    failure = {"stage": "train", "error": "disk", "time": "", "host": "h", "log": "x.log"}
    metrics = folder / "tracker" / "metrics.jsonl"
    metrics.parent.mkdir()

    def read_metrics(data: bytes) -> None:
        metrics.write_bytes(data)
        Tracker(metrics.parent).cut_back(2, 5)

    runs = folder / "runs.csv"
    table = csv_bytes(RUNS, analyse(collect(grid), resamples=10).runs)

    def read_table(data: bytes) -> None:
        runs.write_bytes(data)
        read_rows(runs, RUNS)

    tokens = [
        b",",
        b"\n",
        b"\r",
        b'"',
        b"\0",
        b"\xff",
        b"nan",
        b"inf",
        b"1e400",
        b"9" * 30,
        b"\xc2\xb2",
        b";",
        b",,",
    ]
    bombs = st.sampled_from(
        [b"a," * 50_000 + b"\n1\n", b'"' + b"x" * 200_000, b"\n" * 100_000, b"x" * 2_000_000]
    )

    def csv_of(path: Path) -> st.SearchStrategy[bytes]:
        return changed_bytes([valid[path]], tokens) | bombs

    line = {"section": "train", "Epoch": 1, "gradient_steps": 3, "loss": 0.5}
    return [
        *(
            Target(
                path.name,
                document(json.loads(valid[path])),
                with_file(path, read_json_files),
                0.4,
                valid=valid[path],
            )
            for path in (cell.provenance, cell.evaluation_file)
        ),
        Target(
            "identity.json",
            document({"train_hash": cell.train_hash}),
            with_file(cell.state / "identity.json", read_json_files),
            0.4,
            valid=_json({"train_hash": cell.train_hash}),
        ),
        *(
            Target(
                path.name,
                changed_bytes([valid[path]], tokens) | bombs,
                with_file(path, read),
                0.4,
                valid=valid[path],
            )
            for path, read in ((cell.episodes, read_csv), (cell.progress, read_progress))
        ),
        Target(
            "attempts.jsonl", document(attempt), with_file(cell.state / "attempts.jsonl", read_attempts), 0.6
        ),
        Target("failed.json", document(failure), with_file(cell.failed, read_failed)),
        Target("metrics.jsonl", document(line), read_metrics, 0.6),
        Target("runs.csv", changed_bytes([table], tokens) | bombs, read_table, valid=table),
    ]


def _each(*reads: Callable[[], Any]) -> None:
    """All of several readers, also when an earlier one refuses the file; its error is raised in the end."""
    from amago.errors import AmagoError

    refused: AmagoError | None = None
    for read in reads:
        try:
            read()
        except AmagoError as error:
            refused = error
    if refused is not None:
        raise refused


def _state_targets(folder: Path) -> list[Target]:
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
        _each(lambda: store.newest(resume.replay_check(run)), lambda: store.read(position))

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
            valid=_json(state),
        ),
        Target("checkpoint COMPLETE", document(sentinel), read_sentinel, 0.6, valid=_json(sentinel)),
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
