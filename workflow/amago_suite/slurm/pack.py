"""Several jobs of Snakemake in one job of SLURM: what runs on the node.

    python -m amago_suite.slurm.pack FILE

FILE lists the jobs' own commands. All run side by side, and share the job's CPUs, memory and GPUs. One
that fails leaves the others alone; how each ended is written beside FILE, where the executor reads it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from amago_suite.exits import DONE, FAILED, RESUMABLE
from amago_suite.folders.files import read_json, write_json, write_text
from amago_suite.gpus import SLOT_VARIABLE

_POLL = 0.2


@dataclass(frozen=True, slots=True)
class Member:
    """One of the jobs."""

    comment: str  #: rule and cell, as a job of its own would be marked in SLURM
    command: str  #: for a shell; Snakemake's text of the rule
    log: str | None = None  #: that the command writes, for its folder


def write_pack(path: Path, members: Sequence[Member]) -> None:
    """Leave what `main` reads."""
    write_json(path, {"members": [asdict(member) for member in members]})


def read_pack(path: Path) -> list[Member]:
    """What `write_pack` left; empty where there is nothing of that kind."""
    content: Any = read_json(path)
    try:
        return [Member(**member) for member in content["members"]]
    except (TypeError, KeyError):
        return []


def exit_file(path: Path, index: int) -> Path:
    """Where the exit code of a member is."""
    return path.with_name(f"{path.stem}.{index}.exit")


def exit_code(path: Path, index: int) -> int | None:
    """How a member ended, or None: it has not, or was killed together with its job."""
    try:
        return int(exit_file(path, index).read_text())
    except (OSError, ValueError):
        return None


def main(path: Path) -> int:
    """Run all members. 0 when each ended with 0, 75 when the others may go on, 1 when one failed."""
    running: dict[int, subprocess.Popen[bytes]] = {}

    def forward(number: int, frame: FrameType | None) -> None:
        # SLURM's signal reaches some process trackers' whole job and with others only this process.
        for process in list(running.values()):
            if process.poll() is None:
                process.send_signal(number)

    signal.signal(signal.SIGTERM, forward)
    codes: dict[int, int] = {}
    # The job's GPUs are for all of them: without this word, each would wait for one of its own.
    environment = dict(os.environ)
    if "CUDA_VISIBLE_DEVICES" in environment:
        environment.setdefault(SLOT_VARIABLE, environment["CUDA_VISIBLE_DEVICES"])
    members = read_pack(path)
    for index, member in enumerate(members):
        if exit_code(path, index) == DONE:  # this job was requeued, and the member had ended before
            codes[index] = DONE
            continue
        exit_file(path, index).unlink(missing_ok=True)
        if member.log is not None:
            Path(member.log).parent.mkdir(parents=True, exist_ok=True)
        running[index] = subprocess.Popen(
            ["/bin/sh", "-c", member.command], stdin=subprocess.DEVNULL, env=environment
        )
    while running:
        time.sleep(_POLL)
        for index, process in list(running.items()):
            code = process.poll()
            if code is not None:
                del running[index]
                codes[index] = code if code >= 0 else 128 - code
                write_text(exit_file(path, index), str(codes[index]))
                print(f"{members[index].comment}: exit code {codes[index]}", flush=True)
    if not codes:
        print(f"error: {path} lists no jobs", file=sys.stderr)
        return FAILED
    bad = [code for code in codes.values() if code != DONE]
    return RESUMABLE if bad and all(code == RESUMABLE for code in bad) else FAILED if bad else DONE


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
