"""One finished run, checked: its files against their hashes, its episodes played again, or all of it trained again.

Nothing in the cell's folder is written.
"""

from __future__ import annotations

import csv
import io
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from amago.errors import AmagoError, ConfigurationError
from amago_suite.cell import CELL_FILE, Cell, read_cell
from amago_suite.evaluate import episodes_text, run_episodes
from amago_suite.exits import DONE, RESUMABLE
from amago_suite.folders.files import read_json
from amago_suite.images import resolve
from amago_suite.provenance import digest, software
from amago_suite.records import read_failure


@dataclass
class Report:
    """What was found in one cell.

    Attributes:
        checks: what was looked at.
        differences: what is not as it was recorded, in the order of the checks, each one line.
        notes: what could not be checked, or may explain a difference.
        seconds: that the checks took.
        skipped: why there was nothing to check (the run is not finished, say), or None.
    """

    environment: str
    architecture: str
    seed: int
    folder: str
    checks: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    skipped: str | None = None

    @property
    def label(self) -> str:
        return f"{self.environment} / {self.architecture} / seed {self.seed}"

    @property
    def result(self) -> str:
        """One word."""
        if self.differences:
            return "DIFFERS"
        return "not checked" if self.skipped else "same"


def report_of(cell: Cell) -> Report:
    """An empty report."""
    return Report(cell.environment, cell.architecture, cell.seed, str(cell.folder))


def verify_cell(folder: Path, *, retrain: bool = False) -> Report:
    """Check the finished run in ``folder``.

    Args:
        folder: of a cell that is trained and evaluated.
        retrain: also train it again from nothing, in a temporary folder, and compare the results.

    Raises:
        KeyboardInterrupt: stopped; nothing is left behind.
    """
    began = time.monotonic()
    try:
        cell = read_cell(folder)
    except AmagoError as error:
        environment, architecture, seed = folder.absolute().parts[-3:]
        number = seed.removeprefix("seed_")
        report = Report(environment, architecture, int(number) if number.isdigit() else -1, str(folder))
        report.differences.append(f"{CELL_FILE}: {error}")
        return report
    report = report_of(cell)
    trained, evaluated = read_json(cell.provenance) or {}, read_json(cell.evaluation_file) or {}
    for name, check in (
        ("hashes", files_differ(cell, trained, evaluated, report.notes)),
        ("configuration", identity_differs(cell, trained, evaluated)),
        ("image", image_differs(cell, trained, evaluated, report.notes)),
        ("episodes", episodes_differ(cell)),
        *([("retrained", retraining_differs(cell))] if retrain else []),
    ):
        report.checks.append(name)
        try:
            report.differences += check
        except AmagoError as error:
            report.differences.append(f"{name}: {error}")
    if report.differences:
        report.notes += surroundings(evaluated)
    report.seconds = round(time.monotonic() - began, 2)
    return report


def files_differ(
    cell: Cell, trained: dict[str, Any], evaluated: dict[str, Any], notes: list[str]
) -> Iterator[str]:
    """Every artefact against the hash that was recorded when it was written."""
    for path, record, key in (
        (cell.policy, trained, "policy_sha256"),
        (cell.policy, evaluated, "policy_sha256"),
        (cell.progress, trained, "progress_sha256"),
        (cell.metrics, trained, "metrics_sha256"),
        (cell.config, trained, "config_sha256"),
        (cell.episodes, evaluated, "episodes_sha256"),
    ):
        source = cell.provenance.name if record is trained else cell.evaluation_file.name
        if key not in record:
            notes.append(f"{path.name}: {source} has no {key} (written by an earlier version)")
            continue
        found = digest(path)
        if found != record[key]:
            yield f"{path.name}: its sha256 is {_short(found)}, {source} says {_short(record[key])}"


def identity_differs(cell: Cell, trained: dict[str, Any], evaluated: dict[str, Any]) -> Iterator[str]:
    """The records against the configuration in cell.yaml, whose own hashes `read_cell` has checked."""
    budget = {"epochs": cell.budget_epochs}
    for name, record, key, expected in (
        ("provenance.json", trained, "train_hash", cell.train_hash),
        ("provenance.json", trained, "budget", budget),
        ("evaluation.json", evaluated, "train_hash", cell.train_hash),
        ("evaluation.json", evaluated, "evaluation_hash", cell.evaluation_hash),
    ):
        if record.get(key) != expected:
            yield f"{name}: its {key} is {record.get(key)}, {CELL_FILE} says {expected}"


def image_differs(
    cell: Cell, trained: dict[str, Any], evaluated: dict[str, Any], notes: list[str]
) -> Iterator[str]:
    """The images that the run was made in against those that are installed here, by their engines."""
    for name, record in (("provenance.json", trained), ("evaluation.json", evaluated)):
        engine, made = record.get("engine"), record.get("image_id")
        if made is None:
            continue  # on the host
        installed = None
        try:
            installed = resolve(str(engine), cell.family).image_id
        except ConfigurationError as error:
            notes.append(f"{name}: its image {_short(made)} cannot be compared: {error}")
            continue
        if installed != made:
            yield f"{name}: made in image {made}, and {engine} has {installed} for family {cell.family}"


def episodes_differ(cell: Cell) -> Iterator[str]:
    """The stored policy, played again under the stored settings, against episodes.csv."""
    again = _text_of(cell)
    try:
        stored = cell.episodes.read_bytes()
    except OSError as error:
        yield f"episodes.csv: cannot be read: {error.strerror}"
        return
    if stored != again.encode():
        yield f"episodes.csv: {first_difference(stored.decode(errors='replace'), again)}"


def retraining_differs(cell: Cell) -> Iterator[str]:
    """A run from nothing, of the same cell.yaml, against the stored weights, curves and episodes."""
    from amago_suite.train import train

    with TemporaryDirectory(prefix="amago-retrain-") as work:
        folder = Path(work, *cell.folder.absolute().parts[-4:])
        folder.mkdir(parents=True)
        (folder / CELL_FILE).write_bytes((cell.folder / CELL_FILE).read_bytes())
        code = train(folder)
        if code == RESUMABLE:
            raise KeyboardInterrupt
        again = read_cell(folder)
        if code != DONE:
            failure = read_failure(again) or {}
            yield f"retrained: training failed: {failure.get('error', f'exit code {code}')}"
            return
        yield from weights_differ(cell.policy, again.policy)
        stored, new = (without_clocks(c.progress) for c in (cell, again))
        if stored != new:
            yield f"retrained: progress.csv: {first_difference(stored, new)}"
        stored, new = cell.episodes.read_text(), _text_of(again)
        if stored != new:
            yield f"retrained: episodes.csv: {first_difference(stored, new)}"


def weights_differ(stored: Path, new: Path) -> Iterator[str]:
    """Two policy files; names the first tensor that is not equal to the bit."""
    if stored.read_bytes() == new.read_bytes():
        return
    import torch

    from amago.policy_files import read_tensors

    a, b = (read_tensors(path, torch.device("cpu")) for path in (stored, new))
    for name in sorted(a.keys() | b.keys()):
        if name not in a or name not in b:
            yield f"retrained: {stored.name}: only one of both has {name}"
            return
        if a[name].dtype != b[name].dtype or not torch.equal(a[name], b[name]):
            yield f"retrained: {stored.name}: {name} differs"
            return
    yield f"retrained: {stored.name}: the tensors are equal, the bytes are not"


def surroundings(record: dict[str, Any]) -> list[str]:
    """What is not here as it was there, for a reader who wonders why a number does not come back."""
    from amago_suite.provenance import hardware

    here = {**software(), "hardware": hardware()}
    return [
        f"{name}: was {record.get(name)}, here {here[name]}"
        for name in ("training_version", "git", "packages", "torch", "hardware", "deterministic")
        if name in record and record[name] != here[name]
    ]


def first_difference(stored: str, again: str) -> str:
    """Line, column and both values of the first field in which two CSV texts differ."""
    rows = zip_longest(csv.reader(io.StringIO(stored)), csv.reader(io.StringIO(again)))
    header: list[str] = []
    for number, (a, b) in enumerate(rows, 1):
        if a is None or b is None:
            return f"line {number}: only in the {'new' if a is None else 'stored'} one"
        header = header or a
        for index, (left, right) in enumerate(zip_longest(a, b)):
            if left != right:
                column = header[index] if index < len(header) else f"field {index + 1}"
                return f"line {number}, {column}: stored {left!r}, again {right!r}"
    return "the values are equal, the bytes are not"


def without_clocks(path: Path) -> str:
    """progress.csv without the columns that a clock decides; empty where there is no file."""
    from amago.tracking import CLOCK_COLUMNS

    if not path.is_file():
        return ""
    rows = list(csv.reader(io.StringIO(path.read_text())))
    keep = [i for i, name in enumerate(rows[0]) if name not in CLOCK_COLUMNS] if rows else []
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([[row[i] for i in keep if i < len(row)] for row in rows])
    return out.getvalue()


def _text_of(cell: Cell) -> str:
    try:
        return episodes_text(cell, run_episodes(cell))
    except AmagoError:
        raise
    except Exception as error:  # a damaged policy can fail anywhere
        message = str(error).partition(os.linesep)[0]
        raise AmagoError(f"the policy cannot be played again: {type(error).__name__}: {message}") from error


def _short(value: Any) -> str:
    return f"{str(value)[:12]}..." if value is not None else "not there"
