"""A job that waits for a GPU can be stopped, like one that trains."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from amago_suite import gpus
from amago_suite.exits import RESUMABLE
from amago_suite.folders.prepare import prepare
from amago_suite.grid import plan
from tests.integration.conftest import Desk

#: Starts a job with a parent of its own, and is gone as soon as the job waits.
LAUNCHER = """
import os, subprocess, sys
job = subprocess.Popen([*sys.argv[1:], "--parent", str(os.getpid())], stdout=subprocess.PIPE, text=True)
while "waiting for a free GPU" not in job.stdout.readline():
    pass
print(job.pid, flush=True)
"""


@pytest.fixture
def cell(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cell's folder, on a machine whose only GPU (its list is pretended) another process holds."""
    for name in (gpus.SLOT_VARIABLE, gpus.SHARE_VARIABLE, "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv(gpus.FOLDER_VARIABLE, str(desk.folder / "slots"))
    desk.write()
    prepare(plan(str(desk.folder / "tiny.yaml"), results=desk.folder / "results"))
    with gpus.take("another"):
        yield desk.cell()


# Of the engines with containers one is enough, for they share this, and none is asked for anything yet.
@pytest.mark.parametrize("engine", ["host", "apptainer"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_waiting_job_stops_at_once(desk: Desk, cell: Path, engine: str, number: signal.Signals) -> None:
    """Ctrl-C or a time limit while every GPU is taken: the job ends now, resumable, not when one is free."""
    job = desk.start("train", str(cell), "--engine", engine)
    output = desk.folder / "output.txt"
    deadline = time.monotonic() + 120
    while "waiting for a free GPU (0: another)" not in output.read_text():
        assert job.poll() is None and time.monotonic() < deadline, output.read_text()
        time.sleep(0.05)
    job.send_signal(number)
    assert job.wait(timeout=30) == RESUMABLE
    assert "interrupted" in output.read_text()


@pytest.mark.parametrize("engine", ["host", "apptainer"])
def test_a_waiting_job_ends_with_its_launcher(desk: Desk, cell: Path, engine: str) -> None:
    """A launcher that is gone leaves no job behind that trains as soon as a GPU is free."""
    command = desk.command("train", str(cell), "--engine", engine)
    launched = subprocess.run(
        [sys.executable, "-c", LAUNCHER, *command], capture_output=True, text=True, timeout=120, check=True
    )
    job = int(launched.stdout)
    deadline = time.monotonic() + 30
    while Path(f"/proc/{job}").exists() and "Z" not in _state(job):
        assert time.monotonic() < deadline, "it still waits"
        time.sleep(0.05)


def _state(process: int) -> str:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"
