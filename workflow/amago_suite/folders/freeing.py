"""`amago-suite gc SUITE`: give back the disk space of what only a longer training would need.

A finished run keeps its last checkpoint with its replay, so that a larger budget continues it.
Freed, it keeps policy, records, attempts and logs; a larger budget then trains it from the start,
which gives the same numbers for all of the work.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amago.errors import AmagoError
from amago_suite.cell import Cell
from amago_suite.folders.files import read_record, write_json
from amago_suite.locks import RunLock, is_alive, read_owner
from amago_suite.provenance import digest
from amago_suite.records import read_failure, utc_now


@dataclass(frozen=True, slots=True)
class Space:
    """What a cell's training state takes, and what became of it.

    Attributes:
        bytes: on the disk.
        kept: why it stays, or None where it can go.
        freed: whether it went.
    """

    cell: Cell
    bytes: int
    kept: str | None = None
    freed: bool = False

    def to_dict(self) -> dict[str, Any]:
        """For --json."""
        cell = self.cell
        names = {"environment": cell.environment, "architecture": cell.architecture, "seed": cell.seed}
        return {**names, "bytes": self.bytes, "kept": self.kept, "freed": self.freed}


def freed_file(cell: Cell) -> Path:
    """Says that the cell's training state was freed; written before the first file goes."""
    return cell.state / "freed.json"


def is_freed(cell: Cell) -> bool:
    """Whether the cell's training state was freed, or began to be."""
    return freed_file(cell).is_file()


def measure(grid: Iterable[Cell]) -> list[Space]:
    """What could be freed, without touching anything.

    Returns:
        One for each cell, in the grid's order.
    """
    return [Space(cell, size, why_kept(cell) if size else None) for cell, size in _sizes(grid)]


def free(grid: Iterable[Cell], on_cell: Callable[[Cell], None] | None = None) -> list[Space]:
    """Free the training state of every finished cell. Safe while others train: it holds each cell's lock.

    Args:
        grid: the cells.
        on_cell: called with each cell before it is looked at.

    Raises:
        AmagoError: files cannot be removed; the cells before it are freed, and this one is marked.
    """
    done = []
    for cell, size in _sizes(grid):
        if on_cell is not None:
            on_cell(cell)
        kept = why_kept(cell) if size else None
        if size and kept is None:
            kept = _free_cell(cell)
        done.append(Space(cell, size, kept, freed=bool(size) and kept is None))
    return done


def begin_anew(cell: Cell) -> bool:
    """Before the training of a freed cell: remove what an interrupted freeing left, then the mark.

    The caller holds the cell's lock.

    Returns:
        Whether the cell was freed.
    """
    if not is_freed(cell):
        return False
    _remove(cell)
    for path in (cell.progress, cell.metrics, freed_file(cell)):
        path.unlink(missing_ok=True)
    return True


def to_train_anew(grid: Iterable[Cell]) -> list[Cell]:
    """Cells whose budget has grown since they were freed."""
    found = []
    for cell in grid:
        record = read_record(freed_file(cell))
        epochs = record.get("epochs") if record is not None else None
        if (
            record is not None
            and record.get("train_hash") == cell.train_hash
            and epochs != cell.budget_epochs
        ):
            found.append(cell)
    return found


def anew_notice(cells: list[Cell]) -> str:
    """What to say of `to_train_anew`'s cells before they start."""
    first = cells[0].label + (f" and {len(cells) - 1} more" if len(cells) > 1 else "")
    return f"{first}: freed by `amago-suite gc`, so the larger budget trains from the start, with the same results"


def why_kept(cell: Cell) -> str | None:
    """Why the training state of a cell must stay, or None."""
    lock = cell.state / "lock"
    owner = read_owner(lock)
    if owner is not None and is_alive(lock, owner):
        return f"in use by {owner}"
    return unfinished(cell)


def unfinished(cell: Cell) -> str | None:
    """What is left to do with a cell, or None.

    None needs all of it: trained to this budget under these settings, evaluated, and the results
    on disk are those that were recorded.
    """
    trained, evaluated = read_record(cell.provenance), read_record(cell.evaluation_file)
    failure = read_failure(cell)
    if failure is not None:
        return f"failed: {failure.get('error', 'no reason was recorded')}"
    if trained is None:
        return "not finished"
    if trained.get("train_hash") != cell.train_hash:
        return "of other settings than the suite's"
    if trained.get("budget") != {"epochs": cell.budget_epochs}:
        return "its budget has changed: training goes on from here"
    if evaluated is None:
        return "not evaluated"
    if evaluated.get("evaluation_hash") != cell.evaluation_hash:
        return "not evaluated under the suite's settings"
    for path, record, key in (
        (cell.policy, trained, "policy_sha256"),
        (cell.episodes, evaluated, "episodes_sha256"),
    ):
        if key not in record or digest(path) != record[key]:
            return f"{path.name} is not the recorded one: `amago-suite verify {cell.suite}`"
    return None


def _free_cell(cell: Cell) -> str | None:
    """Free one cell under its lock. Returns why not, where it is not to be freed after all."""
    lock = RunLock(cell.state / "lock")
    owner = lock.try_acquire()
    if owner is not None:
        return f"in use by {owner}"
    try:
        kept = unfinished(cell)
        if kept is not None:
            return kept  # between the first look and the lock another process went on with it
        write_json(
            freed_file(cell),
            {"time": utc_now(), "train_hash": cell.train_hash, "epochs": cell.budget_epochs},
        )
        _remove(cell)
    finally:
        lock.release()
    return None


def _sizes(grid: Iterable[Cell]) -> Iterator[tuple[Cell, int]]:
    for cell in grid:
        seen: dict[tuple[int, int], int] = {}  # policy_weights/ holds second names of the checkpoints' files
        for folder in _folders(cell):
            for path in (folder, *folder.rglob("*")):
                try:
                    found = path.lstat()
                except FileNotFoundError:
                    continue  # a run that goes on removes its old checkpoints
                seen[found.st_dev, found.st_ino] = found.st_blocks * 512
        yield cell, sum(seen.values())


def _folders(cell: Cell) -> list[Path]:
    """What can go: checkpoints and collected replay. Demonstrations (``protected``) were put there by a person."""
    replay = cell.state / "replay" / "buffer"
    return [
        path
        for path in (cell.state / "run" / "ckpts", replay / "fifo", replay / "converted")
        if path.is_dir()
    ]


def _remove(cell: Cell) -> None:
    for folder in _folders(cell):
        try:
            shutil.rmtree(folder)
        except OSError as error:
            name = error.filename if isinstance(error.filename, str) else os.fspath(folder)
            raise AmagoError(f"cannot remove {name}: {error.strerror}") from error
