"""How a large suite is planned and collected: time, CPU time and memory.

    python -m benchmarks.scale                          10,000 cells planned, 1,000 collected
    python -m benchmarks.scale --cells 1000 --collect 100 --json scale.json

Planned is a dry run of `amago-suite run`, which reads the suite, merges every layer and lays out Snakemake's whole
graph. Collected are cells as finished runs leave them (written here, 100 episodes and 30 epochs each, with an
attempt and a policy file), by `amago-suite tables`: every file is read and checked, statistics with 50,000
resamples, tables, and the report. Everything happens in a temporary folder. Exits with 1 above an aim.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from amago_suite.cell import Cell
from amago_suite.folders.prepare import prepare
from amago_suite.grid import Grid, plan

EPISODES, EPOCHS = 100, 30


@dataclass(frozen=True)
class Cost:
    """What a command took. Seconds, and MiB of its largest process."""

    what: str
    seconds: float
    cpu_seconds: float
    peak_memory_mb: float
    aim: str
    met: bool


def measure(what: str, command: list[str], folder: Path, aim: str, most: float, memory: float) -> Cost:
    """Run a command to its end; the aim is CPU time, which other work on the machine does not stretch."""
    log = folder / "log.txt"
    began = time.perf_counter()
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "amago_suite", *command],
        {**os.environ, "PWD": str(folder)},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
    )
    _, status, used = os.wait4(pid, 0)
    seconds = time.perf_counter() - began
    if status:
        sys.exit(f"{' '.join(command)} failed:\n{log.read_text()[-2000:]}")
    cpu = used.ru_utime + used.ru_stime
    peak = used.ru_maxrss / 1024
    return Cost(what, round(seconds, 1), round(cpu, 1), round(peak), aim, cpu <= most and peak <= memory)


def suite_text(cells: int) -> str:
    """A suite with so many cells: 10 environments, 10 architectures, the rest seeds."""
    rooms = [
        f"  - {{ name: room-{n}, id: tmaze-passive, params: {{ corridor: {n + 3} }} }}" for n in range(10)
    ]
    kinds = [f"  - {{ name: kind-{n}, id: ff, gin: 'Agent.tau = 0.00{n + 1}' }}" for n in range(10)]
    seeds = list(range(max(cells // 100, 1)))
    lines = ["environments:", *rooms, "architectures:", *kinds, f"seeds: {seeds}"]
    return "\n".join(
        [*lines, f"budget: {{ epochs: {EPOCHS} }}", f"evaluation: {{ episodes: {EPISODES} }}", ""]
    )


def finish(grid: Grid, rng: np.random.Generator) -> None:
    """Leave in every cell's folder what a finished run leaves."""
    prepare(grid)
    for cell in grid:
        cell.state.mkdir(parents=True, exist_ok=True)
        cell.policy.write_bytes(b"weights")
        cell.episodes.write_text(_episodes(cell, rng))
        cell.progress.write_text(_progress(rng))
        _write_records(cell)


def _episodes(cell: Cell, rng: np.random.Generator) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = (
        "suite",
        "environment",
        "task",
        "architecture",
        "seed",
        "actor",
        "episode",
        "return",
        "length",
        "success",
    )
    writer.writerow(names)
    wins = rng.random(EPISODES) < 0.6
    for number, won in enumerate(wins):
        who = (cell.suite, cell.environment, "tmaze-passive", cell.architecture, cell.seed)
        writer.writerow([*who, number % 25, number // 25, repr(float(won)), 10, int(won)])
    return out.getvalue()


def _progress(rng: np.random.Generator) -> str:
    columns = (
        *(
            "epoch",
            "env_steps",
            "gradient_steps",
            "wall_seconds",
            "env_steps_per_second",
            "updates_per_second",
        ),
        *("loss", "val_episodes", "val_return", "val_success"),
    )
    rows = [",".join(columns)]
    for epoch in range(EPOCHS):
        values = rng.random(4).round(6).tolist()
        rows.append(
            ",".join(map(str, (epoch, 256 * (epoch + 1), 40 * (epoch + 1), epoch + 1, 900.5, 20.5, *values)))
        )
    return "\n".join([*rows, ""])


def _write_records(cell: Cell) -> None:
    def sha(path: Path) -> str:
        return hashlib.sha256(path.read_bytes()).hexdigest()

    common: dict[str, Any] = {
        "suite": cell.suite,
        "environment": cell.environment,
        "architecture": cell.architecture,
        "seed": cell.seed,
        "train_hash": cell.train_hash,
        "budget": {"epochs": EPOCHS},
        "diverged": None,
        "policy_sha256": sha(cell.policy),
        "git": {"commit": "0" * 40, "dirty": False},
        "engine": "host",
        "image": None,
        "torch": {"build": "0"},
        "hardware": {"cpu": "a CPU", "gpu": None},
    }
    trained = {
        "epochs": EPOCHS,
        "env_steps": 7680,
        "gradient_steps": 1200,
        "parameters": 54321,
        "attempts": 1,
    }
    costs = {"wall_seconds": 30.0, "gpu_seconds": 0.0, "cpu_seconds": 28.0, "peak_memory_mb": 400.0}
    cell.provenance.write_text(json.dumps({**common, **trained, **costs}))
    evaluated = {
        "evaluation_hash": cell.evaluation_hash,
        "episodes": EPISODES,
        "episodes_sha256": sha(cell.episodes),
    }
    cell.evaluation_file.write_text(json.dumps({**common, **evaluated}))
    attempt = {
        "attempt": 1,
        "start": "2026-01-01T00:00:00Z",
        "host": "n1",
        "pid": 1,
        "job": None,
        "log": None,
    }
    ended = {"end": "2026-01-01T00:00:30Z", "reason": "finished", "seconds": 30.0}
    (cell.state / "attempts.jsonl").write_text(json.dumps(attempt | ended) + "\n")


def main() -> int:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--cells", type=int, default=10_000, help="to plan")
    parser.add_argument("--collect", type=int, default=1000, help="finished cells to collect")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    given = parser.parse_args()
    home = Path.cwd()
    costs = []
    with tempfile.TemporaryDirectory(prefix="scale-") as work:
        folder = Path(work)
        os.chdir(folder)
        try:
            (folder / "large.yaml").write_text(suite_text(given.cells))
            dry = ["run", "large.yaml", "--dry-run", "--quiet", "all"]
            what = f"{given.cells:,} cells planned (dry run)"
            costs.append(measure(what, dry, folder, "60 s, 2 GB", 60, 2000))
            (folder / "done.yaml").write_text(suite_text(given.collect))
            finish(plan("done.yaml"), np.random.default_rng(0))
            what = f"{given.collect:,} finished cells to tables and report"
            costs.append(measure(what, ["tables", "done.yaml"], folder, "20 s", 20, 4000))
        finally:
            os.chdir(home)
    table = Table(box=None)
    for name in ("", "wall s", "CPU s", "peak MiB", "aim"):
        table.add_column(name, justify="left" if not name else "right")
    for cost in costs:
        cells = [cost.what, f"{cost.seconds}", f"{cost.cpu_seconds}", f"{cost.peak_memory_mb:.0f}", cost.aim]
        table.add_row(*cells)
    Console().print(table)
    if given.json:
        given.json.write_text(json.dumps([asdict(cost) for cost in costs], indent=2) + "\n")
    return 0 if all(cost.met for cost in costs) else 1


if __name__ == "__main__":
    sys.exit(main())
