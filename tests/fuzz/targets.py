"""Every file that the program reads, a valid one of each, and how the program reads it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from amago.tracking import Tracker
from amago_suite import records
from amago_suite.analysis.collect import collect, why_missing
from amago_suite.analysis.columns import RUNS
from amago_suite.analysis.rows import analyse
from amago_suite.build import apply_gin
from amago_suite.cell import cell_text, read_cell
from amago_suite.configuration.gin_layers import Bindings, parse_layer, register_configurables
from amago_suite.evaluate import trained_record
from amago_suite.folders.files import read_json
from amago_suite.folders.ownership import check_owner, owner_file
from amago_suite.folders.prepare import check_results, recorded_hash
from amago_suite.folders.progress import last_row, number, tail_rows
from amago_suite.grid import plan, read_plan, write_plan
from amago_suite.live import status
from amago_suite.locks import Owner, RunLock
from amago_suite.tables import csv_bytes, read_rows
from amago_suite.train import epochs_done, is_trained
from tests.fuzz.inputs import (
    GIN_BOMBS,
    GIN_TOKENS,
    YAML_BOMBS,
    YAML_TOKENS,
    changed_bytes,
    document,
)
from tests.fuzz.kinds import Target, as_json, each
from tests.fuzz.state_targets import state_targets
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
    return [*_suite_targets(folder), *_cell_targets(folder), *state_targets(folder)]


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
        Target("plan.json", document(valid_plan), read_plan_file, valid=as_json(valid_plan)),
        Target("gin layer", gin, read_gin, 1.6, valid=GIN.encode()),
        Target("cell.yaml", yaml_document(text), read_cell_file, valid=text.encode()),
        Target("gin of a cell", gin, read_cell_gin, valid=cell.gin.encode()),
        Target("lock", document(owner), read_lock, 0.8, valid=as_json(owner)),
        Target("owner of a suite", document(owner), read_owner_file, valid=as_json(owner)),
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
        each(
            lambda: trained_record(cell),
            lambda: why_missing(cell, read_json(cell.provenance), read_json(cell.evaluation_file)),
            read_all,
        )

    def read_csv() -> None:
        each(lambda: epochs_done(cell), lambda: status.cell_status(cell), read_all)

    def read_progress() -> None:
        tail_rows(cell.progress, 20)
        number(last_row(cell.progress), "wall_seconds")
        each(read_csv, lambda: Tracker(cell.folder).cut_back(3, 10))

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
            valid=as_json({"train_hash": cell.train_hash}),
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
