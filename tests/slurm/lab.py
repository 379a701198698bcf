"""A small suite on a cluster, things that happen to it, and what must hold whatever happened."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import psutil

from amago_suite.paths import ROOT, SNAKEFILE
from tests.slurm.cluster import Cluster

PROFILE = ROOT / "profiles" / "slurm"
SNAKEMAKE = [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE)]
SUITE = """
environments: {environments}
architectures: {architectures}
seeds: [0]
budget: {{ epochs: {epochs} }}
evaluation: {{ episodes: 20 }}
checkpoint: {{ every_epochs: 2 }}
resources:
  train: {{ mem_mb: 600, runtime: {runtime}, cpus: {cpus}, gpus: {gpus} }}
  evaluate: {{ mem_mb: 600, runtime: 10 }}
gin: |
  Experiment.train_batches_per_epoch = {batches}
  Experiment.parallel_actors = 4
  {gin}
"""
TMAZE = "[{ id: tmaze-passive, params: { corridor: 3 } }]"
SHORT = {"epochs": 4, "batches": 3}
#: Long enough to be met while it trains.
LONG = {"epochs": 60, "batches": 10}


Value = TypeVar("Value")


def wait_for(condition: Callable[[], Value], what: str, seconds: float = 240) -> Value:
    """Poll until ``condition()`` holds, and return what it gave."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.1)
    return value


@dataclass
class Lab:
    """A folder in which a person types commands, on a machine of a cluster (or of none)."""

    folder: Path
    cluster: Cluster | None = None
    settings: dict[str, str] = field(default_factory=dict)  #: keys of `slurm` of the site
    name: str = "tiny"  #: of the folder below results/
    suite: str = "tiny.yaml"
    began: float = field(default_factory=time.monotonic)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def write(
        self,
        *,
        environments: str = TMAZE,
        architectures: str = "[ff]",
        epochs: int = 4,
        batches: int = 3,
        runtime: int = 10,
        cpus: int = 1,
        gpus: int = 0,
        gin: str = "# nothing",
    ) -> None:
        """Write the suite."""
        text = SUITE.format(
            environments=environments,
            architectures=architectures,
            epochs=epochs,
            batches=batches,
            runtime=runtime,
            cpus=cpus,
            gpus=gpus,
            gin=gin,
        )
        (self.folder / self.suite).write_text(textwrap.dedent(text))

    @property
    def environment(self) -> dict[str, str]:
        variables = {
            k: v for k, v in os.environ.items() if not k.startswith(("AMAGO_S", "SLURM_", "SBATCH_"))
        }
        if self.cluster is None:
            return variables
        given = {"poll_seconds": "1", "latency_wait": "10", "grace_seconds": "20", **self.settings}
        site = {f"AMAGO_SLURM_{key.upper()}": value for key, value in given.items()}
        return variables | self.cluster.environment | site

    def command(self, *options: str) -> list[str]:
        where = ["--cores", "1"] if self.cluster is None else ["--profile", str(PROFILE)]
        return [sys.executable, "-m", "amago_suite", "run", self.suite, *where, *options]

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        """`amago-suite run`, in the background."""
        return self.launch(self.command(*options))

    def launch(self, command: list[str]) -> subprocess.Popen[bytes]:
        """A command of a person here, in the background."""
        with (self.folder / "output.txt").open("ab") as output:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
            )
        self.processes.append(process)
        return process

    def close(self) -> None:
        """End what is still running, when a test failed in the middle: first what submits, then the jobs."""
        for process in self.processes:
            process.kill()
            process.wait()
        if self.cluster is not None:
            self.cluster.cancel_all()

    def run(self, *options: str) -> int:
        """`amago-suite run`, to its end. Returns its exit code."""
        return self.end(self.start(*options))

    def end(self, process: subprocess.Popen[bytes], seconds: float = 500) -> int:
        """Wait for a command's end. Returns its exit code."""
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(f"no end after {seconds:.0f} s:\n{self.said()}") from None

    def said(self) -> str:
        """What commands printed, and the end of Snakemake's log."""
        log = self.folder / "results" / self.name / "logs" / "snakemake.log"
        text = (self.folder / "output.txt").read_text()
        return text + ("\n".join(log.read_text().splitlines()[-40:]) if log.exists() else "")

    def snakemake_log(self) -> str:
        return (self.folder / "results" / self.name / "logs" / "snakemake.log").read_text()

    def cell(self, architecture: str = "ff", environment: str = "tmaze-passive") -> Path:
        return self.folder / "results" / self.name / environment / architecture / "seed_0"

    def epochs(self, architecture: str = "ff") -> int:
        """Epochs that a cell has behind it."""
        try:
            return len((self.cell(architecture) / "progress.csv").read_text().splitlines()) - 1
        except FileNotFoundError:
            return 0

    def attempts(self, architecture: str = "ff") -> list[dict]:
        """The attempts at a cell, oldest first, each in its last state."""
        found: dict[int, dict] = {}
        path = self.cell(architecture) / "state" / "attempts.jsonl"
        for line in path.read_text().splitlines() if path.exists() else []:
            record = json.loads(line)
            found[record["attempt"]] = record
        return [found[number] for number in sorted(found)]

    def trainers(self) -> list[psutil.Process]:
        """Training processes of this folder."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            try:
                named = any("amago-suite" in word or word == "amago_suite" for word in words[:3])
                if named and "train" in words and process.cwd() == str(self.folder):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def trainer(self, epochs: int = 3, architecture: str = "ff") -> psutil.Process:
        """The one process that trains, once it has so many epochs behind it."""
        wait_for(lambda: self.epochs(architecture) >= epochs, f"{epochs} epochs")
        (process,) = wait_for(self.trainers, "a trainer")
        return process

    def job(self, architecture: str = "ff") -> str:
        """SLURM's id of the job that trains a cell."""
        return wait_for(
            lambda: next((a["job"] for a in reversed(self.attempts(architecture)) if a["end"] is None), None),
            "an attempt",
        )

    def check(self, calm: Mapping[str, bytes], architectures: tuple[str, ...] = ("ff",)) -> None:
        """What must hold in the end: no orphan, no two jobs on a cell, results of an undisturbed local run."""
        assert self.cluster is not None
        assert self.cluster.jobs() == []
        assert self.trainers() == []
        assert not list((self.folder / "results").rglob("lock"))
        for architecture in architectures:
            records = self.attempts(architecture)
            assert all(record["end"] for record in records)
            for earlier, later in itertools.pairwise(records):
                assert earlier["end"] <= later["start"], "two jobs worked on one cell at once"
            assert records[-1]["reason"] == "finished"
            for name in ("policy.safetensors", "episodes.csv"):
                same = (self.cell(architecture) / name).read_bytes() == calm[f"{architecture}/{name}"]
                assert same, f"{architecture}: {name} differs from the local run's"
        tables = self.folder / "results" / self.name / "tables"
        assert (tables / "scores.csv").is_file()
        assert len((tables / "missing.csv").read_text().splitlines()) == 1
        print(f"took {time.monotonic() - self.began:.0f} s")


def calm_run(folder: Path, **settings: object) -> dict[str, bytes]:
    """Results of a suite that nobody disturbed, on this machine: ``{"ff/episodes.csv": ...}``."""
    lab = Lab(folder)
    lab.write(**settings)  # type: ignore[arg-type]
    assert lab.run() == 0, lab.said()
    return {
        f"{path.parent.parent.name}/{path.name}": path.read_bytes()
        for name in ("policy.safetensors", "episodes.csv")
        for path in (folder / "results").glob(f"*/*/*/seed_0/{name}")
    }
