"""What a container adds to a job: its start and end, around a command that does nothing.

    python -m benchmarks.engines [--engines docker podman] [--repeats 5] [--json FILE]

Measured is the very box that a training gets. The host's row is a process that does nothing, so the difference is
the engine's price a job; "imports" is the CPU time of the launcher's own start beyond that of a job on the host.
Engines or images that are not here are left out, and said.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from amago.errors import AmagoError
from amago_suite import engines, gpus
from amago_suite.cell import Cell
from amago_suite.engines.boxed import Boxed
from amago_suite.engines.job import Job
from amago_suite.engines.settings import HOST, Settings
from amago_suite.engines.user import give
from amago_suite.folders.prepare import prepare
from amago_suite.grid import plan

MODULES = {"docker": "sdk", "podman": "sdk", "apptainer": "apptainer"}


def empty_job(name: str, cell: Cell) -> float:
    """Wall seconds of a job that does nothing."""
    if name == HOST:
        began = time.perf_counter()
        subprocess.run(["/bin/true"], check=True)
        return time.perf_counter() - began
    boxed = engines.engine(name)
    assert isinstance(boxed, Boxed)
    began = time.perf_counter()
    box = boxed.plan(Job("train", cell.folder), cell, Settings(name), gpus.Slot(()))
    give(box.folder, *box.user)
    first = box.command[: box.command.index("amago-suite")]
    container = boxed.start(replace(box, command=(*first, "true")))
    try:
        while (ended := container.wait(0.05)) is None:
            pass
    finally:
        container.remove()
    if ended.code:
        raise AmagoError(f"{name}: an empty job ended with {ended.code}")
    return time.perf_counter() - began


def import_seconds(name: str) -> float:
    """CPU seconds of a process that imports what a launcher needs beyond a job on the host."""

    def of(module: str) -> float:
        process = subprocess.Popen([sys.executable, "-c", f"import {module}"])
        _, _, usage = os.wait4(process.pid, 0)
        return float(usage.ru_utime + usage.ru_stime)

    return max(of(f"amago_suite.engines.{MODULES[name]}") - of("amago_suite.train"), 0.0)


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engines", nargs="+", default=[*MODULES], choices=[*MODULES])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as work:
        grid = plan("quick", smoke=True, results=Path(work))
        prepare(grid)
        cell = next(iter(grid))
        for name in [HOST, *arguments.engines]:
            try:
                seconds = [empty_job(name, cell) for _ in range(arguments.repeats)]
            except AmagoError as error:
                print(f"left out: {error}", file=sys.stderr)
                continue
            imports = 0.0 if name == HOST else import_seconds(name)
            rows.append(
                {
                    "engine": name,
                    "median": statistics.median(seconds),
                    "best": min(seconds),
                    "imports": imports,
                }
            )
    table = Table(box=None)
    for header in ("engine", "median, s", "best, s", "imports, CPU s"):
        table.add_column(header, justify="left" if header == "engine" else "right")
    for row in rows:
        table.add_row(row["engine"], *(f"{row[key]:.2f}" for key in ("median", "best", "imports")))
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
