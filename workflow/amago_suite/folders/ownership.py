"""Which Snakemake process works on a suite, so that a lock it left behind can be told from a live one."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from amago.errors import ConfigurationError
from amago_suite.folders.files import write_text
from amago_suite.grid import Grid
from amago_suite.locks import Owner, read_owner


def owner_file(grid: Grid) -> Path:
    """Where a suite's owner is named: beside Snakemake's lock, so that both live or go together.

    Were it in the results, deleting those after a crash would leave a lock that nobody may remove.
    """
    key = hashlib.sha256(str(grid.folder.resolve()).encode()).hexdigest()[:12]
    return Path(".snakemake") / "owners" / f"{grid.suite}-{key}.json"


def write_owner(grid: Grid, pid: int | None = None) -> None:
    """Name this process (or process ``pid`` of this machine) as the one that works on the suite."""
    owner = Owner.this() if pid is None else Owner.of(pid)
    write_text(owner_file(grid), json.dumps(asdict(owner)), durable=False)


def clear_owner(grid: Grid) -> None:
    """Nobody works on the suite any more."""
    owner_file(grid).unlink(missing_ok=True)


def check_owner(grid: Grid) -> bool:
    """Whether an earlier run of the suite ended without clearing up.

    Raises:
        ConfigurationError: a run is alive, or on another machine, where nobody here can tell.
    """
    path = owner_file(grid)
    owner = read_owner(path)
    if owner is None:
        return False
    if not owner.here:
        raise ConfigurationError(
            f"{grid.suite} is being run by {owner}; if that machine is gone, delete {path} and try again"
        )
    if owner.running:
        raise ConfigurationError(
            f"{grid.suite} is already being run by {owner}; `amago-suite status {grid.suite}`"
        )
    return True


def remove_stale_locks(grid: Grid) -> list[Path]:
    """Remove the locks that a dead Snakemake left on this suite's files, and no others.

    Only call it when `check_owner` found its owner dead.
    """
    prefix = f"{grid.folder}/"
    removed = []
    for lock in sorted(Path(".snakemake/locks").glob("*.lock")):
        lines = lock.read_text().splitlines()
        if any(line.startswith(prefix) for line in lines):
            lock.unlink()
            removed.append(lock)
    clear_owner(grid)
    return removed
