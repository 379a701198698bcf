"""The lock of a run between nodes: SLURM's word shortens the wait for a silent owner, and is not believed alone."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from amago_suite.locks import DEAD_AFTER, HEARTBEAT, WATCHED, Owner, RunLock
from tests.slurm.cluster import Cluster
from tests.slurm.lab import wait_for

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
