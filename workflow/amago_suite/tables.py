"""Write the tables of a suite: the same bytes for the same runs, all of them or none."""

from __future__ import annotations

import csv
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from amago.errors import AmagoError, DataError
from amago_suite.analysis.bootstrap import RESAMPLES
from amago_suite.analysis.collect import Collection, collect
from amago_suite.analysis.columns import TABLES, Row, Table
from amago_suite.analysis.rows import FINAL, Analysis, analyse
from amago_suite.grid import Grid
from amago_suite.presentation import layout
from amago_suite.statistics import FEWEST_RUNS

TABLES_FOLDER = "tables"
PARTIAL_FOLDER = "partial"


@dataclass(frozen=True)
class TablesResult:
    """What was written.

    Attributes:
        folder: where the tables lie.
        markdown: the page to print.
        missing: runs of the grid that are in no table.
        partial: whether the tables are marked as such.
        collection, analysis: what they were made from, for the report.
    """

    folder: Path
    markdown: str
    missing: int
    partial: bool
    collection: Collection
    analysis: Analysis


def write_tables(
    suite_folder: Path, grid: Grid, *, partial: bool, resamples: int = RESAMPLES
) -> TablesResult:
    """Write every table of a suite.

    Args:
        suite_folder: ``results/{suite}``.
        grid: what was planned.
        partial: write to ``partial/`` from what is finished. Otherwise to ``tables/``, which is
            only done for a whole grid.
        resamples: of every bootstrap; fewer are for tests.

    Raises:
        DataError: runs are missing and ``partial`` is false; a cell's file is malformed.
        AmagoError: the folder cannot be written.
    """
    collection = collect(grid)
    if collection.missing and not partial:
        first = collection.missing[0]
        why = f"{first['reason']}{': ' + first['detail'] if first['detail'] else ''}"
        raise DataError(
            f"{len(collection.missing)} of {len(grid)} runs of {grid.suite} are missing "
            f"({first['environment']} / {first['architecture']} / seed {first['seed']}: {why}); "
            f"`amago-suite tables {grid.suite}` writes partial tables from the others"
        )
    analysis = analyse(collection, resamples=resamples)
    folder = Path(suite_folder) / (PARTIAL_FOLDER if partial else TABLES_FOLDER)
    markdown = layout.page(grid, analysis)
    write_folder(folder, render(grid, collection, analysis, markdown))
    if not partial:
        _remove_partial(Path(suite_folder) / PARTIAL_FOLDER)
    return TablesResult(folder, markdown, len(collection.missing), partial, collection, analysis)


def render(grid: Grid, collection: Collection, analysis: Analysis, markdown: str) -> dict[str, bytes]:
    """File name -> content of every table."""
    files = {"episodes.parquet": parquet_bytes(collection.episodes)}
    for name, table in TABLES.items():
        if name != "episodes":
            files[f"{name}.csv"] = csv_bytes(table, getattr(analysis, name))
    files["scores.md"] = markdown.encode()
    partial = (
        f" Partial: {len(analysis.missing)} of {len(grid)} runs are missing." if analysis.missing else ""
    )
    header, rows = layout.score_grid(grid, analysis)
    interval = " and 95 % t interval" if any(r["n"] >= FEWEST_RUNS for r in analysis.scores) else ""
    caption = f"Scores of {grid.title or grid.suite}: mean over runs{interval}.{partial}"
    marks = [
        f"[{mark}] {text}" for mark, kind, text in layout.published_notes(grid, analysis) if kind == FINAL
    ]
    label = f"{grid.suite}-scores"
    marks = [note for note in layout.notes(grid, analysis) if not note.startswith("[")] + marks
    files["scores.tex"] = layout.latex_table(header, rows, caption, label, notes=marks).encode()
    header, rows = layout.aggregate_grid(analysis)
    caption = f"Aggregates of {grid.title or grid.suite} over environments, normalised scores.{partial}"
    files["aggregate.md"] = (layout.markdown_table(header, rows, left=1) + "\n").encode()
    about = layout.aggregate_notes(analysis)
    label = f"{grid.suite}-aggregate"
    files["aggregate.tex"] = layout.latex_table(header, rows, caption, label, 1, notes=about).encode()
    header, rows = layout.comparison_grid(analysis)
    caption = f"Comparisons of architectures on {grid.title or grid.suite}.{partial}"
    files["comparisons.md"] = (layout.markdown_table(header, rows) + "\n").encode()
    about = layout.comparison_notes(analysis)
    label = f"{grid.suite}-comparisons"
    files["comparisons.tex"] = layout.latex_table(header, rows, caption, label, notes=about).encode()
    return files


def csv_bytes(table: Table, rows: list[Row]) -> bytes:
    """A checked table as CSV: ``\\n`` line ends, empty for "none", 12 significant digits.

    Twelve, because the last ones of a sum depend on how many threads added it up.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table.header)
    for row in table.check(rows):
        writer.writerow([_text(value) for value in row.values()])
    return out.getvalue().encode()


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def read_rows(path: Path, table: Table) -> list[Row]:
    """Rows of a table's CSV file, typed and checked.

    Raises:
        DataError: no such file, or it does not have the table's columns.
    """
    convert: dict[str, Callable[[str], Any]] = {
        "text": str,
        "integer": int,
        "number": float,
        "flag": lambda t: t == "true",
    }
    try:
        with path.open(newline="") as file:
            records = list(csv.DictReader(file))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; write the tables first") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: malformed: {error}") from error
    rows: list[Row] = []
    for record in records:
        if record.keys() != set(table.header):
            raise DataError(f"{path}: not the columns of a {table.name} table; write the tables again")
        try:
            rows.append(
                {c.name: convert[c.kind](record[c.name]) if record[c.name] else None for c in table.columns}
            )
        except ValueError as error:
            raise DataError(f"{path}: {error}") from error
    return table.check(rows)


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as Parquet, without anything that changes from one writing to the next."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write several files so that a failure leaves every old one as it was.

    All are staged in a hidden neighbour and fsynced before the first is moved into place.

    Raises:
        AmagoError: the folder cannot be written (permissions, full disk).
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise AmagoError(f"cannot write {folder}: {error.strerror}") from error
    try:
        for name, content in files.items():
            with (stage / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for name in files:
            (stage / name).replace(folder / name)
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise AmagoError(f"cannot write {folder}: {error.strerror}") from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _remove_partial(folder: Path) -> None:
    """Partial tables would only mislead once there are complete ones."""
    names = [f"{n}.csv" for n in TABLES] + ["episodes.parquet", "report.html"]
    names += [f"{n}.{end}" for n in ("scores", "aggregate", "comparisons") for end in ("md", "tex")]
    for name in names:
        (folder / name).unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
