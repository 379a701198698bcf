"""Random SIGKILLs, again and again, and then: are the results the ones of a run that nobody disturbed?

    python -m tests.torture.torture                       30 kills a cell, about ten minutes on 2 cores
    python -m tests.torture.torture --kills 4 --launcher 1 --epochs 10

A suite of small cells, one for each entry of `ARCHITECTURES`, is run twice. One run is left alone. The
other is killed: first `amago-suite run` itself with all that it started, then every cell's training and
evaluation. Moments come from a seeded generator. To say truly where a kill hit, the process is stopped
(SIGSTOP), what lies on its disk is read, and only then it is killed: no code of the program knows of this.
Compared are weights, progress.csv without its clock columns and episodes.csv.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from amago_suite.commands.verify_cell import first_difference, weights_differ, without_clocks

#: Name of a cell -> its entry in the suite: the quick suite's architectures, the scan of mamba, and the other agent.
ARCHITECTURES = {
    "ff": "ff",
    "rnn": "rnn",
    "transformer": "transformer",
    "mamba": "mamba",
    "multitask": json.dumps(
        {
            "name": "multitask",
            "id": "rnn",
            "gin": "Experiment.agent_type = @MultiTaskAgent\nMultiTaskAgent.num_critics = 2\n"
            "NCriticsTwoHot.d_hidden = 64\n",
        }
    ),
}
VALIDATION_EVERY = 3
SUITE = """
environments:
  - {{ id: tmaze-passive, params: {{ corridor: 6 }} }}
architectures: [{architectures}]
seeds: [0]
budget: {{ epochs: {epochs} }}
evaluation: {{ episodes: 200, actors: 5 }}
checkpoint: {{ every_epochs: 2 }}
gin: |
  Experiment.train_batches_per_epoch = 8
  Experiment.parallel_actors = 4
  Experiment.val_interval = {validation}
"""
PHASES = (
    "start",
    "validation",
    "rollout",
    "replay write",
    "learning",
    "epoch's end",
    "checkpoint",
    "evaluation",
    "launcher",
)
#: What the next kill of a training aims at, and how often.
AIMS = {"anywhere": 0.1, "rollout": 0.25, "learning": 0.3, "checkpoint": 0.35}
PATIENCE = 4.0  # seconds to wait for a phase before killing wherever the process is


@dataclass
class Kill:
    """One SIGKILL: when, seconds after its process began, and what the process was doing."""

    phase: str
    detail: str
    seconds: float


@dataclass
class Tortured:
    """A cell, its kills, and what differs in the end."""

    cell: str
    kills: list[Kill] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)


class Look:
    """Reads from a cell's folder what its process is doing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.states = folder / "state" / "run" / "ckpts" / "training_states"
        self.log = folder / "state" / "train.log"
        self.began_wall = time.time()
        self.log_size = self.log.stat().st_size if self.log.exists() else 0
        self.fresh = not any(self.states.glob("epoch_*/COMPLETE"))

    def begun(self) -> bool:
        """Whether this attempt's training loop runs: it says so in its log, or has nothing to go on from."""
        if self.fresh:
            config = self.folder / "state" / "run" / "config.txt"
            return config.exists() and config.stat().st_mtime >= self.began_wall - 0.01
        if not self.log.exists():
            return False
        with self.log.open() as file:
            file.seek(self.log_size)
            return "going on at epoch" in file.read()

    def checkpoint(self) -> str | None:
        """How far the checkpoint is that is being written, or None."""
        try:
            for path in self.states.iterdir():
                if path.name.endswith(".tmp"):
                    return f"{len(list(path.iterdir()))} files written"
                if not (path / "COMPLETE").exists():
                    return "in place, no sentinel yet"
        except FileNotFoundError:
            pass
        return None

    def training(self) -> tuple[str, str]:
        """(phase, detail) of a training process, exact when it is stopped."""
        if not self.begun():
            return "start", ""
        if written := self.checkpoint():
            return "checkpoint", written
        rows = max(_whole_lines(self.folder / "progress.csv") - 1, 0)
        if any((self.folder / "state" / "replay" / "buffer" / "fifo").glob(".*.tmp")):
            return "replay write", f"epoch {rows}"
        latest = self.folder / "state" / "run" / "ckpts" / "latest" / "policy.safetensors"
        progress = self.folder / "progress.csv"
        if rows and (not latest.exists() or latest.stat().st_mtime_ns < progress.stat().st_mtime_ns):
            return "epoch's end", f"epoch {rows - 1}"
        logged = [r["section"] for r in _last_records(self.folder / "metrics.jsonl") if r["Epoch"] == rows]
        if logged and logged[-1] in ("buffer", "train-update"):
            return "learning", f"epoch {rows}"
        if rows % VALIDATION_EVERY == 0 and "val" not in logged:
            return "validation", f"epoch {rows}"
        return "rollout", f"epoch {rows}"


def _whole_lines(path: Path) -> int:
    try:
        return path.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def _last_records(path: Path) -> list[dict]:
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - 4096, 0))
            lines = file.read().splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:  # cut at the front, or being written
            continue
    return found


def stop(process: subprocess.Popen[bytes]) -> bool:
    """SIGSTOP, and wait until it has stopped; False when the process has ended instead."""
    process.send_signal(signal.SIGSTOP)
    while process.poll() is None:
        if psutil.Process(process.pid).status() == psutil.STATUS_STOPPED:
            return True
        time.sleep(0.0002)
    return False


class Desk:
    """A folder in which a suite is run."""

    def __init__(self, folder: Path, suite: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        (folder / "torture.yaml").write_text(suite)

    def cell(self, architecture: str) -> Path:
        return self.folder / "results" / "torture" / "tmaze-passive" / architecture / "seed_0"

    def start(self, *words: str, temporary: Path | None = None) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "TMPDIR": str(temporary or self.folder)}
        with (self.folder / "output.txt").open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "amago_suite", *words],
                cwd=self.folder,
                stdout=output,
                stderr=output,
                env=environment,
            )

    def run(self) -> None:
        """The suite to its end."""
        code = self.start("run", "torture.yaml", "--cores", "2").wait()
        if code:
            raise RuntimeError(
                f"the suite failed ({code}): {(self.folder / 'output.txt').read_text()[-2000:]}"
            )


def kill_training(desk: Desk, architecture: str, aim: str, rng: np.random.Generator) -> Kill | None:
    """Go on with a training and kill it; None when it came to its end."""
    folder = desk.cell(architecture)
    look = Look(folder)
    process = desk.start("train", str(folder))
    began = time.monotonic()
    if aim == "anywhere":
        return _kill_at(process, began, began + float(rng.uniform(0.0, 6.0)), look.training)
    while process.poll() is None and not look.begun():
        time.sleep(0.005)
    # Somewhere in the epochs to come, then somewhere in the phase: also deep inside a write.
    time.sleep(float(rng.uniform(0.0, 0.7)))
    deadline = time.monotonic() + PATIENCE
    pause = 0.0003 if aim == "checkpoint" else 0.003
    while process.poll() is None and time.monotonic() < deadline:
        here = look.checkpoint() is not None if aim == "checkpoint" else look.training()[0] == aim
        if not here:
            time.sleep(pause)
            continue
        time.sleep(float(rng.uniform(0.0, 0.006 if aim == "checkpoint" else 0.03)))
        if not stop(process):
            return None
        phase, detail = look.training()
        if phase == aim:
            return _kill(process, began, phase, detail)
        process.send_signal(signal.SIGCONT)
    return _kill_at(process, began, began, look.training)


def kill_evaluation(desk: Desk, architecture: str, rng: np.random.Generator) -> Kill | None:
    """Evaluate a trained cell and kill it while it plays; None when it was done before."""
    temporary = Path(tempfile.mkdtemp(dir=desk.folder, prefix=f"{architecture}-"))
    process = desk.start("evaluate", str(desk.cell(architecture)), temporary=temporary)
    began = time.monotonic()

    def phase() -> tuple[str, str]:
        if any(desk.cell(architecture).glob(".e*.tmp")):
            return "evaluation", "writing"
        return "evaluation", "playing" if any(temporary.glob("*/run/config.txt")) else "building"

    playing = rng.uniform() < 0.8
    while playing and process.poll() is None and phase()[1] == "building":
        time.sleep(0.001)
    wait = float(rng.uniform(0.0, 0.3 if playing else 4.0))
    kill = _kill_at(process, began, time.monotonic() + wait, phase)
    shutil.rmtree(temporary, ignore_errors=True)
    return kill


def _kill_at(
    process: subprocess.Popen[bytes], began: float, moment: float, look: Callable[[], tuple[str, str]]
) -> Kill | None:
    while process.poll() is None and time.monotonic() < moment:
        time.sleep(0.001)
    if process.poll() is not None or not stop(process):
        return None
    return _kill(process, began, *look())


def _kill(process: subprocess.Popen[bytes], began: float, phase: str, detail: str) -> Kill:
    seconds = round(time.monotonic() - began, 3)
    process.kill()
    process.wait()
    return Kill(phase, detail, seconds)


def kill_launcher(desk: Desk, cells: dict[str, Tortured], rng: np.random.Generator) -> None:
    """Run the suite, kill `amago-suite run`, and wait until all that it started is gone."""
    launcher = desk.start("run", "torture.yaml", "--cores", "2")
    began = time.monotonic()
    time.sleep(float(rng.uniform(2.0, 14.0)))
    family = psutil.Process(launcher.pid).children(recursive=True) if launcher.poll() is None else []
    hit = set()
    for process in family:
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        for architecture in cells:
            if f"tmaze-passive/{architecture}/seed_0" in " ".join(words):
                hit.add(architecture)
    if launcher.poll() is None:
        launcher.kill()
        for architecture in sorted(hit):
            seconds = round(time.monotonic() - began, 3)
            cells[architecture].kills.append(Kill("launcher", "with its jobs", seconds))
    launcher.wait()
    left = psutil.wait_procs(family, timeout=120)[1]
    if left:
        raise RuntimeError(f"processes outlived their launcher: {left}")


def torture_cell(desk: Desk, cell: Tortured, kills: int, rng: np.random.Generator) -> None:
    """Kill a cell until it has had its share; a sixth of the kills, at least one, in evaluations."""
    of_evaluations = max(kills // 6, 1)
    aim = "checkpoint"  # at least one, however few there are
    while len(cell.kills) < kills - of_evaluations:
        kill = kill_training(desk, cell.cell, aim, rng)
        if kill is None:
            break  # trained
        cell.kills.append(kill)
        aim = str(rng.choice(list(AIMS), p=list(AIMS.values())))
    if desk.start("train", str(desk.cell(cell.cell))).wait():
        raise RuntimeError(
            f"{cell.cell}: training failed: {(desk.folder / 'output.txt').read_text()[-2000:]}"
        )
    for _ in range(20 * kills):
        if len(cell.kills) >= kills:
            return
        kill = kill_evaluation(desk, cell.cell, rng)
        if kill is not None:
            cell.kills.append(kill)
    raise RuntimeError(f"{cell.cell}: evaluations end before they can be killed")


def differences(calm: Path, tortured: Path) -> list[str]:
    """What is not the same in two cells, in words."""
    found = list(weights_differ(calm / "policy.safetensors", tortured / "policy.safetensors"))
    a, b = (without_clocks(folder / "progress.csv") for folder in (calm, tortured))
    if a != b:
        found.append(f"progress.csv: {first_difference(a, b)}")
    a, b = ((folder / "episodes.csv").read_text() for folder in (calm, tortured))
    if a != b:
        found.append(f"episodes.csv: {first_difference(a, b)}")
    return found


def torture(
    folder: Path,
    kills: int,
    launcher: int,
    epochs: int,
    seed: int,
    architectures: Sequence[str] = tuple(ARCHITECTURES),
) -> list[Tortured]:
    """The whole thing.

    Args:
        folder: where both runs lie.
        kills: of each cell, those of the launcher included.
        launcher: kills of `amago-suite run`.
        epochs: budget of the cells.
        seed: of the moments.
        architectures: the cells, keys of `ARCHITECTURES`.
    """
    entries = ", ".join(ARCHITECTURES[name] for name in architectures)
    suite = SUITE.format(architectures=entries, epochs=epochs, validation=VALIDATION_EVERY)
    calm, rough = Desk(folder / "calm", suite), Desk(folder / "rough", suite)
    calm.run()
    # Writes every cell.yaml, and is the first to be killed.
    streams = np.random.default_rng(seed).spawn(len(architectures) + 1)
    cells = {name: Tortured(name) for name in architectures}
    for _ in range(launcher):
        kill_launcher(rough, cells, streams[-1])
    while not all((rough.cell(name) / "cell.yaml").exists() for name in architectures):
        kill_launcher(rough, cells, streams[-1])
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda c, rng: torture_cell(rough, c, kills, rng), cells.values(), streams))
    rough.run()
    for name, cell in cells.items():
        cell.differences = differences(calm.cell(name), rough.cell(name))
    return list(cells.values())


def table(cells: list[Tortured], markdown: bool = False) -> Table | str:
    """Cells, kills, where they hit, differences."""
    head = ["cell", "kills", *PHASES, "differences"]
    rows = []
    for cell in cells:
        hits = Counter(kill.phase for kill in cell.kills)
        rows.append([cell.cell, len(cell.kills), *(hits[phase] for phase in PHASES), len(cell.differences)])
    rows.append(["all", *(sum(row[i] for row in rows) for i in range(1, len(head)))])
    if markdown:
        lines = [head, ["---"] + ["--:"] * (len(head) - 1), *rows]
        return "\n".join("| " + " | ".join(str(value) for value in line) + " |" for line in lines)
    made = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for i, name in enumerate(head):
        made.add_column(name, justify="right" if i else "left")
    for row in rows:
        made.add_row(*map(str, row))
    return made


def main() -> int:
    """0 when every cell had its kills and nothing differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=30, help="of each cell")
    parser.add_argument("--launcher", type=int, default=5, help="kills of `amago-suite run`")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument(
        "--architectures", nargs="+", default=list(ARCHITECTURES), choices=ARCHITECTURES, metavar="NAME"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--json", type=Path, help="write everything here")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="amago-torture-") as folder:
        cells = torture(
            Path(folder),
            options.kills,
            options.launcher,
            options.epochs,
            options.seed,
            options.architectures,
        )
    seconds = round(time.monotonic() - began)
    Console(width=160).print(table(cells, options.markdown))
    wrong = [f"{cell.cell}: {text}" for cell in cells for text in cell.differences]
    print(f"\n{sum(len(c.kills) for c in cells)} kills in {seconds} s, {len(wrong)} differences")
    for text in wrong:
        print(f"error: {text}", file=sys.stderr)
    if options.json:
        content = {
            "kills": options.kills,
            "launcher": options.launcher,
            "epochs": options.epochs,
            "seed": options.seed,
            "seconds": seconds,
            "cells": [asdict(cell) for cell in cells],
        }
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    return int(bool(wrong) or any(len(cell.kills) < options.kills for cell in cells))


if __name__ == "__main__":
    sys.exit(main())
