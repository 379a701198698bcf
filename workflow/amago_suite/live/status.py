"""What a grid is doing, read from the files that its cells leave."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from amago_suite.cell import Cell
from amago_suite.folders.files import read_record
from amago_suite.folders.freeing import is_freed
from amago_suite.folders.prepare import recorded_hash
from amago_suite.folders.progress import last_row, number
from amago_suite.grid import Grid
from amago_suite.locks import is_alive, read_owner
from amago_suite.records import read_failure

STATES = ("done", "evaluating", "training", "interrupted", "failed", "waiting")


@dataclass(frozen=True, slots=True)
class CellStatus:
    """One cell, now."""

    cell: Cell
    state: str  #: one of STATES
    epoch: int = 0  #: epochs done
    steps_per_second: float | None = None
    seconds_per_epoch: float | None = None
    error: str | None = None
    log: Path | None = None

    @property
    def running(self) -> bool:
        return self.state in ("training", "evaluating")

    @property
    def seconds_left(self) -> float | None:
        """Of its training, at its own speed so far."""
        if self.seconds_per_epoch is None or self.state != "training":
            return None
        return max(self.cell.budget_epochs - self.epoch, 0) * self.seconds_per_epoch

    def to_dict(self) -> dict[str, Any]:
        """For --json."""
        return {
            "environment": self.cell.environment,
            "architecture": self.cell.architecture,
            "seed": self.cell.seed,
            "state": self.state,
            "epoch": self.epoch,
            "epochs": self.cell.budget_epochs,
            "env_steps_per_second": self.steps_per_second,
            "seconds_left": self.seconds_left,
            "error": self.error,
            "log": str(self.log) if self.log else None,
        }


def cell_status(cell: Cell) -> CellStatus:
    """Read one cell's files."""
    evaluation = read_record(cell.evaluation_file)
    if evaluation is not None and evaluation.get("evaluation_hash") == cell.evaluation_hash:
        epochs, each = _trained(cell)
        return CellStatus(cell, "done", epochs, seconds_per_epoch=each)
    if not cell.state.is_dir():
        return CellStatus(cell, "waiting")
    lock = cell.state / "lock"
    owner = read_owner(lock)
    alive = owner is not None and is_alive(lock, owner)
    if alive and cell.provenance.exists():
        epochs, each = _trained(cell)
        return CellStatus(cell, "evaluating", epochs, seconds_per_epoch=each)
    if not alive and recorded_hash(cell) not in (None, cell.train_hash):
        return CellStatus(cell, "waiting", error="its results are of other settings, and will be moved aside")
    row = last_row(cell.progress) if alive or not is_freed(cell) else None
    epoch = int(row["epoch"]) + 1 if row else 0
    speed = number(row, "env_steps_per_second")
    seconds = number(row, "wall_seconds")
    each = seconds / epoch if seconds is not None and epoch else None
    if alive:
        return CellStatus(cell, "training", epoch, speed, each)
    failure = read_failure(cell)
    if failure is not None:
        log = failure.get("log")
        error = str(failure.get("error", "no reason was recorded"))
        return CellStatus(cell, "failed", epoch, error=error, log=Path(log) if isinstance(log, str) else None)
    return CellStatus(cell, "interrupted" if epoch else "waiting", epoch, seconds_per_epoch=each)


def _trained(cell: Cell) -> tuple[int, float | None]:
    """(epochs, seconds for each of them, start-up included) of a trained cell."""
    record = read_record(cell.provenance) or {}
    epochs, seconds = record.get("epochs"), record.get("wall_seconds")
    if type(epochs) is not int or epochs < 1:
        epochs = cell.budget_epochs
    return epochs, seconds / epochs if type(seconds) in (int, float) and seconds else None


@dataclass
class Watcher:
    """Repeated looks at a grid; finished cells are read once.

    Args:
        grid: to watch.
        slots: cells that can run side by side; ``None`` where only a cluster knows: as many as run now.
    """

    grid: Grid
    slots: int | None = 1
    _done: dict[tuple[str, str, int], CellStatus] = field(default_factory=dict)

    def look(self) -> Overview:
        """The state of every cell."""
        statuses = []
        for cell in self.grid:
            status = self._done.get(cell.key) or cell_status(cell)
            if status.state == "done":
                self._done[cell.key] = status
            statuses.append(status)
        running = sum(status.running for status in statuses)
        return Overview(self.grid, statuses, max(running, 1) if self.slots is None else self.slots)


@dataclass(frozen=True)
class Overview:
    """One look at a grid."""

    grid: Grid
    cells: list[CellStatus]
    slots: int = 1

    def count(self) -> dict[str, int]:
        """State -> number of cells, in the order of STATES, without zeros."""
        counts = Counter(status.state for status in self.cells)
        return {state: counts[state] for state in STATES if counts[state]}

    @property
    def running(self) -> list[CellStatus]:
        return [status for status in self.cells if status.running]

    @property
    def failed(self) -> list[CellStatus]:
        return [status for status in self.cells if status.state == "failed"]

    def seconds_left(self) -> float | None:
        """Until the whole grid is done: epochs still to train, at the speed of cells like them.

        None as long as no cell has shown its speed.
        """
        speeds = _Speeds(self.cells)
        remaining = []
        for status in self.cells:
            if status.state in ("done", "failed"):
                continue
            epochs = max(status.cell.budget_epochs - status.epoch, 0)
            each = status.seconds_per_epoch or speeds.of(status.cell)
            if each is None:
                return None
            remaining.append(epochs * each)
        if not remaining:
            return 0.0
        return max(sum(remaining) / max(self.slots, 1), max(remaining))

    def fraction(self) -> float:
        """How much of the grid's training is done, by epochs."""
        total = sum(status.cell.budget_epochs for status in self.cells)
        done = sum(
            status.cell.budget_epochs
            if status.state in ("done", "failed")
            else min(status.epoch, status.cell.budget_epochs)
            for status in self.cells
        )
        return done / total if total else 1.0


class _Speeds:
    """Seconds per epoch of cells that nobody has seen run yet, from those most like them."""

    def __init__(self, statuses: Iterable[CellStatus]) -> None:
        pairs: dict[tuple[str, str], list[float]] = defaultdict(list)
        architectures: dict[str, list[float]] = defaultdict(list)
        every: list[float] = []
        for status in statuses:
            if status.seconds_per_epoch:
                pairs[status.cell.environment, status.cell.architecture].append(status.seconds_per_epoch)
                architectures[status.cell.architecture].append(status.seconds_per_epoch)
                every.append(status.seconds_per_epoch)
        self._pairs = {key: fmean(values) for key, values in pairs.items()}
        self._architectures = {key: fmean(values) for key, values in architectures.items()}
        self._all = fmean(every) if every else None

    def of(self, cell: Cell) -> float | None:
        return self._pairs.get(
            (cell.environment, cell.architecture), self._architectures.get(cell.architecture, self._all)
        )
