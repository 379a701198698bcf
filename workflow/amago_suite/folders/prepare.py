"""Making the results folder ready for a grid, before its first job."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from amago.errors import ConfigurationError
from amago_suite.cell import CELL_FILE, Cell, cell_text
from amago_suite.folders.files import read_record, write_text
from amago_suite.grid import Grid, write_plan
from amago_suite.locks import is_alive, read_owner
from amago_suite.paths import SUPERSEDED
from amago_suite.records import clear_failure
from amago_suite.train import too_small


def check_results(grid: Grid) -> None:
    """Find out what would stop the grid, without changing anything.

    Raises:
        ConfigurationError: the results folder cannot be written, or a budget shrank below what is
            already trained.
    """
    folder = grid.folder
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigurationError(
            f"the results folder {folder} cannot be written ({existing} is not writable)"
        )
    for cell in grid:
        record = read_record(cell.provenance)
        if record is None or record.get("train_hash") != cell.train_hash:
            continue
        epochs = record.get("epochs")
        if type(epochs) is int and epochs > cell.budget_epochs:
            raise ConfigurationError(too_small(cell, epochs))


def prepare(grid: Grid, *, retry_failed: bool = True) -> list[tuple[Cell, Path]]:
    """Move aside results of other configurations, write every cell.yaml and the plan.

    Args:
        grid: about to run.
        retry_failed: forget failures of earlier invocations.

    Returns:
        (cell, where its old folder went) of every superseded cell.

    Raises:
        ConfigurationError: a cell is being trained under its old settings right now.
    """
    moved = []
    for cell in grid:
        path = cell.folder / CELL_FILE
        text = cell_text(cell)
        if not _same_text(path, text):
            if cell.folder.is_dir():
                old = recorded_hash(cell)
                if old is not None and old != cell.train_hash:
                    moved.append((cell, supersede(cell, old)))
            write_text(path, text, durable=False)
        if retry_failed:
            clear_failure(cell)
    write_plan(grid)
    return moved


def recorded_hash(cell: Cell) -> str | None:
    """The train_hash of what lies in the cell's folder, or None where nothing was trained there."""
    for path in (cell.state / "identity.json", cell.provenance):
        record = read_record(path)
        old = record.get("train_hash") if record is not None else None
        if isinstance(old, str) and old.isalnum():  # it becomes part of a folder's name
            return old
    return None


def supersede(cell: Cell, old: str) -> Path:
    """Move a cell's folder to results/.superseded/, where nothing is ever overwritten."""
    lock = cell.state / "lock"
    owner = read_owner(lock)
    if owner is not None and is_alive(lock, owner):
        raise ConfigurationError(
            f"{cell.label} is being trained under its old settings by {owner}; stop that first"
        )
    results = cell.folder.parents[3]
    base = results / SUPERSEDED / cell.folder.relative_to(results)
    target = base.with_name(f"{base.name}.{old[:8]}")
    number = 2
    while target.exists():
        target = base.with_name(f"{base.name}.{old[:8]}.{number}")
        number += 1
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(cell.folder, target)
    return target


def _same_text(path: Path, text: str) -> bool:
    try:
        return path.read_bytes() == text.encode()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return False
