"""What a cell's folder remembers of its attempts and failures."""

from __future__ import annotations

import datetime
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from amago_suite.cell import Cell
from amago_suite.engines.box import current, host
from amago_suite.folders.files import append_line, read_record, write_json

#: Attempts in a row that may die without a word and without progress before the run counts as failed.
SILENT_DEATHS = 3


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at training a cell. ``end`` and ``reason`` are None while it runs, or when it was killed."""

    attempt: int  #: 1 for the first
    start: str  #: UTC
    host: str
    pid: int
    job: str | None  #: the scheduler's job id
    log: str | None
    parent: int | None = None  #: main process that started it, where it is a job
    epoch_start: int | None = None  #: epochs that were done when it began
    end: str | None = None
    reason: str | None = None  #: finished, interrupted, failed, out of memory, lost
    epoch_end: int | None = None
    seconds: float | None = None
    gpu_seconds: float | None = None
    cpu_seconds: float | None = None
    peak_memory_mb: float | None = None
    peak_gpu_memory_mb: float | None = None
    oom_kills: int | None = None  #: processes that the kernel had killed for memory here, at the start
    engine: str | None = None  #: what it ran in
    image_id: str | None = None  #: of its container's image


_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("attempt", "pid"), (int,)),
    **dict.fromkeys(("start", "host"), (str,)),
    **dict.fromkeys(("job", "log", "end", "reason", "engine", "image_id"), (str, type(None))),
    **dict.fromkeys(("parent", "epoch_start", "epoch_end", "oom_kills"), (int, type(None))),
    **dict.fromkeys(
        ("seconds", "gpu_seconds", "cpu_seconds", "peak_memory_mb", "peak_gpu_memory_mb"),
        (int, float, type(None)),
    ),
}

#: Process id of the Snakemake that a person started, also on nodes that its jobs run on.
MAIN_VARIABLE = "AMAGO_SUITE_MAIN"


def invocation(parent: int | None) -> int | None:
    """Which invocation a job belongs to: on a cluster every job has another parent process."""
    main = os.environ.get(MAIN_VARIABLE, "")
    return int(main) if parent is not None and main.isdecimal() else parent


LOST, OUT_OF_MEMORY = "lost", "out of memory"


def _attempt(line: str) -> Attempt | None:
    """The attempt of a line, or None where it is none (a crash cut it off)."""
    try:
        attempt = Attempt(**json.loads(line))
    except (ValueError, TypeError, RecursionError):
        return None
    known = all(type(getattr(attempt, name)) in kinds for name, kinds in _KINDS.items())
    return attempt if known and 0 < attempt.attempt < 2**31 else None


def oom_kills(process: int | str = "self") -> int | None:
    """Processes of a process's memory group that the kernel killed for memory, or None where nobody can tell.

    Args:
        process: its id; this process by default.
    """
    for group in _read(f"/proc/{process}/cgroup").splitlines():
        _, controllers, path = group.split(":", 2)
        folder, name = ("/sys/fs/cgroup/memory", "oom_control") if controllers == "memory" else ("", "")
        if not controllers:
            folder, name = "/sys/fs/cgroup", "events"
        if not folder:
            continue
        # A container may see its own group at the root, whatever path the kernel calls it by.
        text = _read(f"{folder}{path.rstrip('/')}/memory.{name}")
        if not text and process == "self":
            text = _read(f"{folder}/memory.{name}")
        for line in text.splitlines():
            key, _, value = line.partition(" ")
            if key == "oom_kill" and value.isdecimal():
                return int(value)
    return None


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def utc_now() -> str:
    """The time, to the second, as in 2026-01-31T12:00:00Z."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Attempts:
    """``state/attempts.jsonl``: a line when an attempt starts and one when it ends; the later one counts."""

    def __init__(self, cell: Cell) -> None:
        self.path = cell.state / "attempts.jsonl"

    def read(self) -> list[Attempt]:
        """All attempts, oldest first; a line that a crash cut off is skipped."""
        found: dict[int, Attempt] = {}
        try:
            lines = self.path.read_text(errors="replace").splitlines()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return []
        for line in lines:
            attempt = _attempt(line)
            if attempt is not None:
                found[attempt.attempt] = attempt
        return [found[number] for number in sorted(found)]

    def begin(self, log: str | None, epoch: int, parent: int | None = None) -> Attempt:
        """Record that this process starts; earlier attempts without an end are closed as lost."""
        earlier = self.read()
        box = current()
        kills = oom_kills() if box is None else None  # each box counts anew, and its launcher sees its end
        for attempt in earlier:
            if attempt.end is None:
                here = attempt.host == host() and None not in (kills, attempt.oom_kills)
                killed = here and int(kills or 0) > int(attempt.oom_kills or 0)
                how = OUT_OF_MEMORY if killed else LOST
                self._append(replace(attempt, end=utc_now(), reason=how, epoch_end=epoch))
        number = earlier[-1].attempt + 1 if earlier else 1
        job = os.environ.get("SLURM_JOB_ID")
        attempt = Attempt(
            number, utc_now(), host(), os.getpid(), job, log, parent, epoch, oom_kills=kills,
            engine=box.engine if box else "host", image_id=box.image_id if box else None,
        )  # fmt: skip
        self._append(attempt)
        return attempt

    def finish(self, attempt: Attempt, reason: str, **measured: Any) -> Attempt:
        """Record how an attempt ended."""
        ended = replace(attempt, end=utc_now(), reason=reason, **measured)
        self._append(ended)
        return ended

    def end_open(self, reason: str) -> None:
        """Record how an attempt ended that could not say so itself."""
        for attempt in self.read():
            if attempt.end is None:
                self._append(replace(attempt, end=utc_now(), reason=reason))

    def _append(self, attempt: Attempt) -> None:
        # A crash may have cut the last line off; what follows must not become part of it.
        separator = ""
        try:
            with self.path.open("rb") as file:
                file.seek(-1, os.SEEK_END)
                separator = "" if file.read(1) == b"\n" else "\n"
        except OSError:
            pass
        append_line(self.path, separator + json.dumps(asdict(attempt)))


def died_silently(attempts: list[Attempt], epoch: int, parent: int) -> bool:
    """Whether the last attempts that ``parent`` started were killed without getting beyond ``epoch``.

    Only one invocation's attempts count: a person may kill the whole thing as often as they like.
    """
    last = attempts[-SILENT_DEATHS:]
    return len(last) == SILENT_DEATHS and all(
        attempt.reason in (None, LOST, OUT_OF_MEMORY)
        and attempt.epoch_start == epoch
        and attempt.parent == parent
        for attempt in last
    )


def one_line(error: str) -> str:
    """The first line of an error (gin appends its context)."""
    return error.strip().partition("\n")[0]


#: The way out, in one line.
MORE_MEMORY = (
    "lower Experiment.batch_size, Experiment.parallel_actors or max_seq_len, or give the run more memory"
)


def write_failure(cell: Cell, error: str, stage: str, log: Path | str | None) -> str:
    """Record a failure that trying again cannot mend, in one line (gin appends its context to errors)."""
    error = one_line(error)
    write_json(
        cell.failed,
        {
            "stage": stage,
            "error": error,
            "time": utc_now(),
            "host": host(),
            "log": str(log) if log else None,
        },
    )
    return error


def read_failure(cell: Cell) -> dict[str, Any] | None:
    """What `write_failure` recorded, or None."""
    return read_record(cell.failed)


def clear_failure(cell: Cell) -> None:
    """Let the next attempt try again."""
    cell.failed.unlink(missing_ok=True)
