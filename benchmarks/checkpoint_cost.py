"""What checkpoints cost: their share of a suite's training time, at the suite's own settings.

    python -m benchmarks.checkpoint_cost                         the quick suite, one seed, 20 epochs a cell
    python -m benchmarks.checkpoint_cost --suite memory --epochs 60 --json cost.json

Every (environment, architecture) of the suite is trained in a temporary folder (give one on the disk that
holds your results with --folder: the price of fsync is the disk's), just as the pipeline would. Timed are
whole checkpoints (weights, optimiser, state, making the replay durable, pruning) and the policy that is
written after every epoch. The last checkpoint, which comes however short a run is, is in the sums.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

AIM = 0.02  # largest share of the training time, as the project promises


class Clock:
    """Sums the wall and CPU seconds of a function's calls."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.calls, self.wall, self.cpu = function, 0, 0.0, 0.0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            return self.function(*args, **kwargs)
        finally:
            self.calls += 1
            self.wall += time.perf_counter() - wall
            self.cpu += time.process_time() - cpu


def measure(suite: str, pair: int, epochs: int, folder: Path | None) -> dict[str, Any]:
    """Train one (environment, architecture) of the suite for so many epochs; times in seconds."""
    from amago_suite.build import apply_gin, build_experiment
    from amago_suite.grid import plan
    from amago_suite.process import prepare_process

    cell = pairs(plan(suite))[pair]
    prepare_process(cell)
    apply_gin(cell)
    with tempfile.TemporaryDirectory(prefix="checkpoint-cost-", dir=folder) as work:
        cell = replace(cell, folder=Path(work))
        experiment = build_experiment(cell, state=cell.state, log_dir=cell.folder, epochs=epochs)
        experiment.start()
        checkpoint = Clock(experiment.save_checkpoint)
        latest = Clock(experiment.write_latest_policy)
        experiment.save_checkpoint = checkpoint
        experiment.write_latest_policy = latest
        learn = Clock(experiment.learn)
        learn()
        newest = experiment.store.newest()
        assert newest is not None
        size = sum(path.stat().st_size for path in newest.folder.iterdir())
        experiment.close()
    return {
        "environment": cell.environment,
        "architecture": cell.architecture,
        "epochs": epochs,
        "train_wall": learn.wall,
        "train_cpu": learn.cpu,
        "checkpoints": checkpoint.calls,
        "checkpoint_wall": checkpoint.wall,
        "checkpoint_cpu": checkpoint.cpu,
        "latest_wall": latest.wall,
        "latest_cpu": latest.cpu,
        "checkpoint_mb": size / 1e6,
        "wall_share": (checkpoint.wall + latest.wall) / learn.wall,
        "cpu_share": (checkpoint.cpu + latest.cpu) / learn.cpu,
    }


def pairs(grid: Any) -> list[Any]:
    """The first cell of every (environment, architecture)."""
    found: dict[tuple[str, str], Any] = {}
    for cell in grid:
        found.setdefault((cell.environment, cell.architecture), cell)
    return list(found.values())


def show(rows: list[dict[str, Any]], console: Console) -> None:
    """A table, times in milliseconds."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for name in (
        "environment",
        "architecture",
        "train s",
        "ckpts",
        "MB",
        "ms each",
        "latest ms",
        "CPU %",
        "wall %",
    ):
        table.add_column(name, justify="left" if name[:2] in ("en", "ar") else "right")
    for r in rows:
        table.add_row(
            r["environment"],
            r["architecture"],
            f"{r['train_wall']:.1f}",
            str(r["checkpoints"]),
            f"{r['checkpoint_mb']:.1f}",
            f"{1e3 * r['checkpoint_wall'] / max(r['checkpoints'], 1):.1f}",
            f"{1e3 * r['latest_wall'] / r['epochs']:.1f}",
            f"{100 * r['cpu_share']:.2f}",
            f"{100 * r['wall_share']:.2f}",
        )
    console.print(table)


def main() -> int:
    """Measure every pair in a process of its own; 1 when a share is above the aim."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--suite", default="quick")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--folder", type=Path, help="where to write; default the system's temporary folder")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    parser.add_argument("--pair", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.pair is not None:
        print(json.dumps(measure(options.suite, options.pair, options.epochs, options.folder)))
        return 0
    from amago_suite.grid import plan

    rows = []
    for pair in range(len(pairs(plan(options.suite)))):
        command = [sys.executable, "-m", "benchmarks.checkpoint_cost", "--pair", str(pair)]
        command += ["--suite", options.suite, "--epochs", str(options.epochs)]
        command += ["--folder", str(options.folder)] if options.folder else []
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(done.stderr, file=sys.stderr)
            return 1
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    total = {key: sum(row[key] for row in rows) for key in rows[0] if key.endswith(("wall", "cpu"))}
    shares = {
        clock: (total[f"checkpoint_{clock}"] + total[f"latest_{clock}"]) / total[f"train_{clock}"]
        for clock in ("wall", "cpu")
    }
    show(rows, Console(width=140))
    print(
        f"\nin all: {100 * shares['cpu']:.2f} % of the CPU time, {100 * shares['wall']:.2f} % of the wall time"
    )
    if options.json:
        options.json.write_text(
            json.dumps({"suite": options.suite, "shares": shares, "cells": rows}, indent=1)
        )
    return int(max(shares.values()) > AIM)


if __name__ == "__main__":
    sys.exit(main())
