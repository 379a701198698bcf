"""`amago-suite verify SUITE`: do the reported numbers come back?

Every finished run is checked in a process of its own (`verify_cell`), as many side by side as there are
cores.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

from amago.errors import ConfigurationError
from amago.registry import nearest
from amago_suite.cell import CELL_FILE, Cell, read_cell
from amago_suite.commands.verify_cell import Report, report_of
from amago_suite.families import python_of
from amago_suite.folders.files import read_json
from amago_suite.grid import Grid
from amago_suite.locks import die_with_parent

_POLL = 0.05  # seconds between two looks at the processes


def verify(
    grid: Grid,
    *,
    cores: int,
    retrain: Sequence[str] = (),
    on_report: Callable[[Report, int, int], None] | None = None,
) -> list[Report]:
    """Check every finished run of a grid.

    Args:
        grid: planned.
        cores: threads of all checks that run side by side.
        retrain: cells to train again from nothing, as folders or ``ENVIRONMENT/ARCHITECTURE/seed_N``;
            with any, only these are checked.
        on_report: called with each report as it comes, how many are in, and how many will come.

    Returns:
        A report for each cell, in the grid's order.

    Raises:
        ConfigurationError: no such cell, or nothing is finished.
        KeyboardInterrupt: Ctrl-C or SIGTERM; all checks are stopped and nothing is left behind.
    """
    cells = [find_cell(grid, name) for name in retrain] or list(grid)
    reports: dict[int, Report] = {}
    due: list[tuple[int, Cell]] = []
    for index, cell in enumerate(cells):
        report = report_of(cell)
        reports[index] = report
        look(cell, report)
        if not report.skipped and not report.differences:
            due.append((index, cell))
    if not due and not any(report.differences for report in reports.values()):
        raise ConfigurationError(f"{grid.suite}: no run is finished yet; `amago-suite status {grid.suite}`")
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with TemporaryDirectory(prefix="amago-verify-") as work:
            for done, (index, report) in enumerate(_in_processes(due, Path(work), cores, bool(retrain)), 1):
                reports[index] = report
                if on_report is not None:
                    on_report(report, done, len(due))
    finally:
        signal.signal(signal.SIGTERM, previous)
    return [reports[index] for index in range(len(cells))]


def find_cell(grid: Grid, name: str) -> Cell:
    """A cell by its folder, or by the last three parts of it.

    Raises:
        ConfigurationError: not one of the grid's.
    """
    names = {"/".join(cell.folder.parts[-3:]): cell for cell in grid}
    if name.strip("/") in names:
        return names[name.strip("/")]
    for cell in grid:
        if cell.folder.resolve() == Path(name).resolve():
            return cell
    raise ConfigurationError(f"{grid.suite} has no cell {name!r}; {nearest(name, list(names))}")


def look(cell: Cell, report: Report) -> None:
    """Note in ``report`` why a cell cannot be checked, or what is wrong already."""
    if not (cell.provenance.is_file() and cell.evaluation_file.is_file()):
        report.skipped = "not finished"
        return
    for path in (cell.provenance, cell.evaluation_file):
        if not isinstance(read_json(path), dict):
            report.differences.append(f"{path.name}: not readable")
            return
    try:
        stored = read_cell(cell.folder)
    except ConfigurationError as error:
        report.differences.append(f"{CELL_FILE}: {error}")
        return
    if (stored.train_hash, stored.evaluation_hash) != (cell.train_hash, cell.evaluation_hash):
        report.skipped = "stale: of other settings than the suite's; run the suite again"


@dataclass
class _Check:
    index: int
    cell: Cell
    process: subprocess.Popen[bytes]
    result: Path
    errors: Path


def _in_processes(
    due: Iterable[tuple[int, Cell]], work: Path, cores: int, retrain: bool
) -> Iterable[tuple[int, Report]]:
    """Reports of the cells, as they come."""
    waiting = deque(due)
    running: list[_Check] = []
    try:
        while waiting or running:
            busy = sum(check.cell.threads for check in running)
            while waiting and (not running or busy + waiting[0][1].threads <= cores):
                check = _start(*waiting.popleft(), work, retrain)
                running.append(check)
                busy += check.cell.threads
            time.sleep(_POLL)
            for check in [check for check in running if check.process.poll() is not None]:
                running.remove(check)
                yield check.index, _read(check)
    finally:
        for check in running:
            check.process.kill()
        for check in running:
            check.process.wait()


def _start(index: int, cell: Cell, work: Path, retrain: bool) -> _Check:
    parent = os.getpid()

    def before() -> None:
        if not die_with_parent(signal.SIGKILL, parent):
            os._exit(1)

    result, errors = work / f"{index}.json", work / f"{index}.log"
    python = python_of(cell.family) or sys.executable
    command = [str(python), "-m", "amago_suite", "verify-cell", str(cell.folder), "--result", str(result)]
    with errors.open("wb") as output:
        # A session of its own: a Ctrl-C in the terminal reaches this process, which ends the others.
        process = subprocess.Popen(
            [*command, *(["--retrain"] if retrain else [])],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            # What a killed check leaves goes with our own folder.
            env={**os.environ, "TMPDIR": str(work)},
            preexec_fn=before,
        )
    return _Check(index, cell, process, result, errors)


def _read(check: _Check) -> Report:
    content = read_json(check.result)
    if content is not None:
        return Report(**content)
    report = report_of(check.cell)
    lines = check.errors.read_text(errors="replace").strip().splitlines()
    report.differences.append(
        f"the check itself failed (exit code {check.process.returncode}): {lines[-1] if lines else 'no output'}"
    )
    return report


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
