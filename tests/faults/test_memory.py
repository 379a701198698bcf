"""Out of memory: refused allocations and the kernel's killer, both named where a person looks."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest

from amago_suite import records
from tests.faults.conftest import Desk

pytestmark = pytest.mark.slow

HUGE = "FFTstepEncoder.d_hidden = 40000\nFFTstepEncoder.d_output = 40000\n"


def test_an_allocation_that_is_refused(desk: Desk, tmp_path: Path) -> None:
    """Guards RLIMIT_AS and the like: one line that says how to need less, in the attempt and failure records too."""
    desk.write(more=HUGE)
    cell = desk.cell(tmp_path / "results")
    limit = 6 * 2**30
    done = desk.type(
        "train", str(cell), preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "out of memory: lower Experiment.batch_size" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    last = json.loads((cell / "state" / "attempts.jsonl").read_text().splitlines()[-1])
    assert last["reason"] == "out of memory"
    assert json.loads((cell / "state" / "failed.json").read_text())["error"].startswith("out of memory")


def _memory_group() -> Path:
    """A new memory group below this process's own; skips where that is not allowed."""
    for folder in (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")):
        group = folder / f"amago-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        if (group / "memory.limit_in_bytes").exists():
            (group / "memory.limit_in_bytes").write_text(str(450 * 2**20))
            return group
        if (group / "memory.max").exists():
            (group / "memory.max").write_text(str(450 * 2**20))
            return group
        group.rmdir()
    pytest.skip("no memory group can be made here")


def test_the_kernels_killer(desk: Desk, tmp_path: Path) -> None:
    """Guards SIGKILL by the kernel: the next attempt's record names it."""
    group = _memory_group()
    try:
        desk.write(more=HUGE)
        cell = desk.cell(tmp_path / "results")

        def inside() -> None:
            (group / "cgroup.procs").write_text(str(os.getpid()))

        first = desk.type("train", str(cell), preexec_fn=inside)
        assert first.returncode == -signal.SIGKILL, first.stdout + first.stderr
        second = subprocess.Popen(
            desk.command("train", str(cell)), cwd=desk.folder, preexec_fn=inside,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        second.wait(100)
        lines = [json.loads(line) for line in (cell / "state" / "attempts.jsonl").read_text().splitlines()]
        ended = {line["attempt"]: line["reason"] for line in lines if line["end"]}
        assert ended[1] == records.OUT_OF_MEMORY
    finally:
        for _ in range(50):
            try:
                group.rmdir()
                break
            except OSError:
                time.sleep(0.1)
