"""Questions to SLURM about jobs, and their end. Every function says None, not "no jobs", when SLURM is silent."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

#: States in which a job still waits, works or will be started again; all others are an end.
LIVE = frozenset(
    [
        "PENDING",
        "RUNNING",
        "CONFIGURING",
        "COMPLETING",
        "SUSPENDED",
        "STOPPED",
        "SIGNALING",
        "STAGE_OUT",
        "RESIZING",
        "REQUEUED",
        "REQUEUE_HOLD",
        "REQUEUE_FED",
        "SPECIAL_EXIT",
        "RESV_DEL_HOLD",
    ]
)
_PATIENCE = 60.0
_MOST_IDS = 500  # in one command line


@dataclass(frozen=True, slots=True)
class Job:
    """A job as squeue shows it."""

    id: str
    state: str
    comment: str  #: which rule and cell it is for

    @property
    def live(self) -> bool:
        return self.state in LIVE


def queued(name: str) -> list[Job] | None:
    """Jobs of a name that wait, run, or ended so short ago that the controller remembers them."""
    text = _ask(["squeue", "--noheader", "--states=all", "--format=%i|%T|%k", "--name", name])
    if text is None:
        return None
    lines = [line.strip().split("|", 2) for line in text.splitlines() if line.count("|") >= 2]
    return [Job(number, state, comment) for number, state, comment in lines]


def accounted(name: str) -> dict[str, str] | None:
    """State of every job of a name in the last days, by id, from the accounts."""
    command = (
        "sacct -X --parsable2 --noheader --format=JobIDRaw,State --starttime=now-3days --endtime=now --name"
    )
    text = _ask([*command.split(), name])
    if text is None:
        return None
    found = {}
    for line in text.splitlines():
        number, _, state = line.strip().partition("|")
        if number and state:
            found[number] = state.split()[0]  # "CANCELLED by 1000" is CANCELLED
    return found


def state_of(number: str) -> str | None:
    """State of one job: "" when the controller knows it no more, None when it does not answer."""
    command = ["squeue", "--noheader", "--states=all", "--format=%T", "--jobs", number]
    done = _run(command)
    if done is None:
        return None
    if done.returncode:
        return "" if "Invalid job id" in done.stderr else None
    return done.stdout.strip().partition("\n")[0]


def submit(command: Sequence[str], script: str) -> tuple[str | None, str]:
    """(number of the new job, "") or (None, why there is none)."""
    try:
        done = subprocess.run(
            command, input=script, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        return None, "Connection timed out"
    except OSError as error:
        return None, f"{command[0]}: {error.strerror}"
    number = done.stdout.strip().partition(";")[0]
    if done.returncode == 0 and number.isdecimal():
        return number, ""
    return None, (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"


def stop(numbers: Iterable[str]) -> None:
    """Take waiting jobs out of the queue, and ask running ones to write a checkpoint and end.

    scancel alone would kill them after the cluster's KillWait (30 seconds), whatever they write.
    """
    for ids in _portions(numbers):
        _run(["scancel", "--quiet", "--state=PENDING", *ids])
        _run(["scancel", "--quiet", "--state=RUNNING", "--signal=TERM", *ids])


def cancel(numbers: Iterable[str]) -> None:
    """End jobs, whatever they do."""
    for ids in _portions(numbers):
        _run(["scancel", "--quiet", *ids])


def _portions(numbers: Iterable[str]) -> Iterable[list[str]]:
    ids = list(numbers)
    return [ids[start : start + _MOST_IDS] for start in range(0, len(ids), _MOST_IDS)]


def _ask(command: Sequence[str]) -> str | None:
    done = _run(command)
    return done.stdout if done is not None and done.returncode == 0 else None


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
