"""Read what finished cells left behind, and say why the others are missing.

Ten thousand runs are a normal case: small files are read once, their bytes joined by header,
and parsed together. Nothing here computes a statistic.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
from numpy.typing import NDArray

from amago.errors import DataError
from amago_suite.analysis.accounting import Costs, costs_of
from amago_suite.analysis.columns import EPISODES, Row
from amago_suite.cell import Cell
from amago_suite.folders.files import read_json
from amago_suite.grid import Grid
from amago_suite.locks import is_alive, read_owner
from amago_suite.records import Attempts, read_failure

Floats = NDArray[np.float64]
_ARROW = {"text": pa.dictionary(pa.int32(), pa.string()), "integer": pa.int64(), "number": pa.float64()}


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run.

    Attributes:
        cell: which one.
        provenance, evaluation: the two JSON files it left.
        rows: its rows of the episodes table.
        progress: column -> (epochs,) of ``progress.csv``; empty where there is none.
        accounts: what a cluster's accounts say of its jobs, or ``None`` where they are not known.
    """

    cell: Cell
    provenance: dict[str, Any]
    evaluation: dict[str, Any]
    rows: slice
    progress: Mapping[str, Floats]
    accounts: Costs | None = None

    @property
    def diverged(self) -> bool:
        """Whether training ended in NaN or infinity; the run counts all the same."""
        return bool(self.provenance.get("diverged") or self.evaluation.get("diverged"))


@dataclass(frozen=True, slots=True)
class Collection:
    """Everything that is there of a grid, in the grid's order.

    Attributes:
        grid: what was planned.
        runs: the finished runs.
        episodes: all their episodes, one after the other (``columns.EPISODES`` and logged metrics).
        missing: a row of ``columns.MISSING`` for every other cell.
    """

    grid: Grid
    runs: list[Run]
    episodes: pa.Table
    missing: list[Row]

    def episode_means(self, column: str) -> Floats:
        """(runs,) mean of an episodes column over each run, NaN where a run has no value."""
        if column not in self.episodes.column_names:
            return np.full(len(self.runs), np.nan)
        if not self.runs:
            return np.empty(0)
        values = self.episodes[column].to_numpy().astype(np.float64)
        present = np.isfinite(values)
        starts = [r.rows.start for r in self.runs]
        totals = np.add.reduceat(np.where(present, values, 0.0), starts)
        counts = np.add.reduceat(present.astype(np.int64), starts)
        with np.errstate(invalid="ignore", divide="ignore"):
            return totals / np.where(counts > 0, counts, np.nan)


def collect(grid: Grid) -> Collection:
    """Read every finished cell of ``grid``.

    Raises:
        DataError: a finished cell's file is malformed or belongs to another cell although it is the
            one that the evaluation wrote, or training's record is malformed.
    """
    finished: list[tuple[Cell, dict[str, Any], dict[str, Any]]] = []
    missing: list[Row] = []
    for cell in grid:
        provenance, evaluation = read_json(cell.provenance), read_json(cell.evaluation_file)
        reason = why_missing(cell, provenance, evaluation) or _damage(cell, evaluation or {})
        if reason is None:
            finished.append((cell, provenance or {}, evaluation or {}))
        else:
            missing.append(_missing_row(grid, cell, *reason))
    cells = [cell for cell, _, _ in finished]
    episodes, edges = read_episodes(cells)
    progress = read_progress(cells)
    runs = [
        Run(
            cell, provenance, evaluation, slice(int(edges[i]), int(edges[i + 1])), progress[i], costs_of(cell)
        )
        for i, (cell, provenance, evaluation) in enumerate(finished)
    ]
    return Collection(grid, runs, episodes, missing)


# -- what is missing, and why -----------------------------------------------------------------


def why_missing(cell: Cell, provenance: Any, evaluation: Any) -> tuple[str, str] | None:
    """(reason, detail) of a cell that cannot be used, or ``None`` for a finished one.

    Args:
        cell: of the grid.
        provenance, evaluation: content of its two JSON files, ``None`` where absent or torn.
    """
    if isinstance(provenance, dict) and cell.policy.is_file():
        if provenance.get("train_hash") != cell.train_hash:
            return "stale", "its results are of other settings: run the suite again to train it anew"
        if isinstance(evaluation, dict) and cell.episodes.is_file():
            if evaluation.get("evaluation_hash") != cell.evaluation_hash:
                return "stale", "evaluated under other settings or another budget: run the suite again"
            weights = provenance.get("policy_sha256"), evaluation.get("policy_sha256")
            if None not in weights and weights[0] != weights[1]:
                return (
                    "stale",
                    "evaluated with other weights: delete its evaluation.json and run the suite again",
                )
            return None
        if failure := _failure(cell):
            return "failed", failure
        return "not evaluated", "trained, but its evaluation is not there"
    if failure := _failure(cell):
        return "failed", failure
    attempts = Attempts(cell).read()
    if not attempts:
        return "not started", ""
    epochs = _epochs_done(cell)
    so_far = f"{epochs} of {cell.budget_epochs} epochs" if epochs is not None else ""
    owner = read_owner(cell.state / "lock")
    if owner is not None and is_alive(cell.state / "lock", owner):
        return "running", so_far
    how = attempts[-1].reason or "lost: its process is gone"
    return "interrupted", "; ".join(part for part in (so_far, how if how != "interrupted" else "") if part)


def _damage(cell: Cell, evaluation: dict[str, Any]) -> tuple[str, str] | None:
    """As `why_missing`, of a finished cell whose episodes are not the ones that its evaluation wrote."""
    recorded = evaluation.get("episodes_sha256")
    if recorded is None or hashlib.sha256(cell.episodes.read_bytes()).hexdigest() == recorded:
        return None
    return "damaged", f"{cell.episodes.name} changed since it was written: delete it and run the suite again"


def _failure(cell: Cell) -> str | None:
    """Why the last invocation gave the cell up, in one line."""
    failure = read_failure(cell)
    if failure is None:
        return "no reason was recorded" if cell.failed.exists() else None
    return " ".join(
        f"{failure.get('stage', 'run')}: {failure.get('error', 'no reason was recorded')}".split()
    )


def _epochs_done(cell: Cell) -> int | None:
    """Rows of ``progress.csv``, one an epoch."""
    try:
        return max(cell.progress.read_bytes().count(b"\n") - 1, 0)
    except OSError:
        return None


def _missing_row(grid: Grid, cell: Cell, reason: str, detail: str) -> Row:
    log = cell.state / "train.log"
    return {
        "environment": cell.environment,
        "architecture": cell.architecture,
        "seed": cell.seed,
        "reason": reason,
        "detail": detail or None,
        "log": str(log.relative_to(grid.folder))
        if log.is_file() and log.is_relative_to(grid.folder)
        else None,
    }


# -- many small CSV files -----------------------------------------------------------------------


def _split(path: Path) -> tuple[bytes, bytes, int]:
    """(header, body with a last newline, rows) of a CSV file; empty where there is none.

    Raises:
        DataError: a quoted field spans lines, so that rows cannot be counted by newlines.
    """
    try:
        content = path.read_bytes()
    except OSError:
        return b"", b"", 0
    header, _, body = content.replace(b"\r\n", b"\n").partition(b"\n")
    if body and not body.endswith(b"\n"):
        body += b"\n"
    rows = body.count(b"\n")
    try:
        names = next(csv.reader([header.decode()]), [])
        if b'"' in body and sum(1 for _ in csv.reader(io.StringIO(body.decode()))) != rows:
            raise DataError(f"{path}: a quoted field holds a line break")
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: malformed: {error}") from error
    if len(set(names)) != len(names):
        raise DataError(f"{path}: malformed: a column is there twice")
    return header, body, rows


def _parse(header: bytes, bodies: Sequence[bytes], types: Mapping[str, pa.DataType]) -> pa.Table:
    """One table of files that share a header; columns without a type are numbers."""
    names = next(csv.reader([header.decode()]))
    convert = pa_csv.ConvertOptions(
        column_types={n: types.get(n, pa.float64()) for n in names},
        null_values=["", "nan", "NaN", "None"],
        true_values=["True", "true"],
        false_values=["False", "false"],
    )
    buffer = pa.py_buffer(b"".join([header, b"\n", *bodies]))
    return pa_csv.read_csv(pa.BufferReader(buffer), convert_options=convert)


def read_episodes(cells: Sequence[Cell]) -> tuple[pa.Table, NDArray[np.int64]]:
    """The episodes of ``cells``, in their order.

    Args:
        cells: finished ones.

    Returns:
        The table, and (cells + 1,) edges: cell i has rows edges[i]:edges[i + 1].

    Raises:
        DataError: a file is malformed, empty or of another cell; the message names it.
    """
    types = {c.name: _ARROW[c.kind] for c in EPISODES.columns}
    counts = np.zeros(len(cells), dtype=np.int64)
    groups: dict[bytes, list[tuple[int, bytes]]] = {}
    for i, cell in enumerate(cells):
        header, body, counts[i] = _split(cell.episodes)
        absent = set(EPISODES.header) - set(header.decode().split(","))
        if absent:
            raise DataError(f"{cell.episodes}: lacks the columns {', '.join(sorted(absent))}")
        if counts[i] == 0:
            raise DataError(f"{cell.episodes}: holds no episode; delete it to evaluate the cell again")
        groups.setdefault(header, []).append((i, body))
    parts, owners = [], []
    for header, members in groups.items():
        try:
            parts.append(_parse(header, [body for _, body in members], types))
        except pa.ArrowInvalid:
            _blame(header, [(cells[i].episodes, body) for i, body in members], types)
        owners.append(np.repeat([i for i, _ in members], counts[[i for i, _ in members]]))
    edges = np.concatenate([[0], np.cumsum(counts)])
    if not parts:
        schema = pa.schema([(c.name, _ARROW[c.kind]) for c in EPISODES.columns])
        return schema.empty_table(), edges
    table = pa.concat_tables(parts, promote_options="default").unify_dictionaries().combine_chunks()
    owner = np.concatenate(owners)
    if len(parts) > 1:
        order = np.argsort(owner, kind="stable")
        table, owner = table.take(pa.array(order)), owner[order]
    extra = sorted(set(table.column_names) - set(EPISODES.header))
    table = table.select([*EPISODES.header, *extra])
    _check_owner(table, owner, cells)
    for column in EPISODES.columns:
        if not column.optional and table[column.name].null_count:
            row = int(np.argmax(table[column.name].is_null().to_numpy(zero_copy_only=False)))
            raise DataError(f"{cells[owner[row]].episodes}: column {column.name!r} may not be empty")
    return table, edges


def _blame(header: bytes, files: Sequence[tuple[Path, bytes]], types: Mapping[str, pa.DataType]) -> None:
    """Find the file that does not parse and say so."""
    for path, body in files:
        try:
            _parse(header, [body], types)
        except pa.ArrowInvalid as error:
            raise DataError(f"{path}: malformed: {error}") from error
    raise DataError(f"{files[0][0]} and its neighbours do not parse together")


def _check_owner(table: pa.Table, owner: NDArray[np.int64], cells: Sequence[Cell]) -> None:
    """Every row must name the cell whose folder it was found in."""
    for column, of in (("environment", "environment"), ("architecture", "architecture"), ("seed", "seed")):
        expected = pa.array([getattr(c, of) for c in cells]).take(pa.array(owner))
        found = table[column]
        if pa.types.is_dictionary(found.type):
            found = found.cast(pa.string())
        wrong = pc.fill_null(pc.not_equal(found, expected), True).to_numpy(zero_copy_only=False)
        if wrong.any():
            cell = cells[owner[int(np.argmax(wrong))]]
            raise DataError(f"{cell.episodes}: its column {column!r} names another cell")


def read_progress(cells: Sequence[Cell]) -> list[dict[str, Floats]]:
    """Training curves of ``cells``: column -> (epochs,) for each; empty where there is no file.

    Raises:
        DataError: a file is malformed; the message names it.
    """
    curves: list[dict[str, Floats]] = [{} for _ in cells]
    groups: dict[bytes, list[tuple[int, bytes, int]]] = {}
    for i, cell in enumerate(cells):
        header, body, rows = _split(cell.progress)
        if rows:
            groups.setdefault(header, []).append((i, body, rows))
    for header, members in groups.items():
        try:
            table = _parse(header, [body for _, body, _ in members], {})
        except pa.ArrowInvalid:
            _blame(header, [(cells[i].progress, body) for i, body, _ in members], {})
        columns = {name: table[name].to_numpy() for name in table.column_names}
        start = 0
        for i, _, rows in members:
            curves[i] = {name: values[start : start + rows] for name, values in columns.items()}
            start += rows
    return curves
