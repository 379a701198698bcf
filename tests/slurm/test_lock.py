"""The lock of a run between nodes: SLURM's word shortens the wait for a silent owner, and is not believed alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import pytest

from amago_suite.folders.prepare import prepare
from amago_suite.grid import plan
from amago_suite.locks import DEAD_AFTER, HEARTBEAT, WATCHED, Owner, RunLock
from tests.slurm.cluster import Cluster
from tests.slurm.lab import Lab, wait_for

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


def submit(cluster: Cluster, command: str) -> str:
    options = ["--parsable", "--time=5", "--output=/dev/null", f"--wrap={command}"]
    done = subprocess.run(
        ["sbatch", *options],
        env={**os.environ, **cluster.environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def leave(path: Path, job: str) -> None:
    """The lock of a process on another node, whose heartbeat stopped just now."""
    path.write_text(json.dumps(asdict(Owner("another-node", 4711, 1.0, job, "token", ""))))


def test_a_silent_owner_whose_job_is_over(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock is taken well before the heartbeat alone would allow it."""
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    job = submit(cluster, "true")
    wait_for(lambda: job not in cluster.jobs(), "the job's end")
    leave(tmp_path / "lock", job)
    began = time.monotonic()
    lock = RunLock(tmp_path / "lock")
    lock.acquire()
    waited = time.monotonic() - began
    lock.release()
    assert WATCHED <= waited < DEAD_AFTER / 2


def test_a_silent_owner_whose_job_runs(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that is slow for half a minute keeps its lock."""
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    leave(tmp_path / "lock", submit(cluster, "sleep 300"))
    lock = RunLock(tmp_path / "lock")
    deadline = time.monotonic() + WATCHED + HEARTBEAT
    while time.monotonic() < deadline:
        assert lock.try_acquire() is not None
        time.sleep(1)
    cluster.cancel_all()


def test_a_beating_owner_whose_job_is_unknown(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Job numbers of another cluster say nothing: while the heart beats, the owner lives."""
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "lock"
    leave(path, "999999")
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(HEARTBEAT):
            os.utime(path)

    heart = threading.Thread(target=beat)
    heart.start()
    lock = RunLock(path)
    deadline = time.monotonic() + WATCHED + HEARTBEAT
    try:
        while time.monotonic() < deadline:
            assert lock.try_acquire() is not None
            time.sleep(1)
    finally:
        stop.set()
        heart.join()


def train_on(lab: Lab, node: str) -> tuple[str, Path]:
    """A job that trains the lab's cell on a node: its number and its output."""
    assert lab.cluster is not None
    output = lab.folder / f"{node}.txt"
    command = f"exec {sys.executable} -m amago_suite train {lab.cell()}"
    options = ["--parsable", "--time=10", "--mem=600", f"--nodelist={node}", f"--output={output}"]
    done = subprocess.run(
        ["sbatch", *options, f"--wrap={command}"],
        cwd=lab.folder,
        env=lab.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip(), output


def state(cluster: Cluster, job: str) -> str:
    return cluster.output("squeue", "-h", "--states=all", "-j", job, "-o", "%T").strip()


def lay_out(lab: Lab) -> None:
    """The cell's folder, as the main process leaves it."""
    prepare(plan(str(lab.folder / lab.suite), results=lab.folder / "results"))


def test_two_jobs_on_one_cell(lab: Lab, calm: Mapping[str, bytes]) -> None:
    """On two nodes: one trains, the other one waits, finds the work done, and ends well."""
    assert lab.cluster is not None
    lay_out(lab)
    first, _ = train_on(lab, "n1")
    lab.trainer(1)
    second, output = train_on(lab, "n2")
    wait_for(lambda: not lab.cluster.jobs(), "both jobs to end")
    assert (state(lab.cluster, first), state(lab.cluster, second)) == ("COMPLETED", "COMPLETED")
    assert f"job {first}, which works on this cell" in output.read_text()
    assert "already trained" in output.read_text()
    assert [a["job"] for a in lab.attempts()] == [first]
    assert (lab.cell() / "policy.safetensors").read_bytes() == calm["ff/policy.safetensors"]


def test_the_other_job_dies(lab: Lab, calm: Mapping[str, bytes]) -> None:
    """The one that waits takes the cell over where the other one was, and the result is the same."""
    assert lab.cluster is not None
    lay_out(lab)
    first, _ = train_on(lab, "n1")
    trainer = lab.trainer(3)
    second, output = train_on(lab, "n2")
    wait_for(lambda: output.exists() and "waiting for" in output.read_text(), "the second to wait")
    trainer.kill()
    wait_for(lambda: not lab.cluster.jobs(), "both jobs to end")
    assert state(lab.cluster, second) == "COMPLETED"
    assert [(a["job"], a["reason"]) for a in lab.attempts()] == [(first, "lost"), (second, "finished")]
    assert (lab.cell() / "policy.safetensors").read_bytes() == calm["ff/policy.safetensors"]
