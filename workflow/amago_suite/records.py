"""What a cell's folder remembers of its attempts and failures."""

from __future__ import annotations

import datetime
import json
import os
import socket
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from amago_suite.cell import Cell
from amago_suite.files import append_line, read_json, write_json

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
    parent: int | None = None  #: process that started it, where it is a job
    epoch_start: int | None = None  #: epochs that were done when it began
    end: str | None = None
    reason: str | None = None  #: finished, interrupted, failed, lost
    epoch_end: int | None = None
    seconds: float | None = None
    gpu_seconds: float | None = None
    peak_memory_mb: float | None = None
    peak_gpu_memory_mb: float | None = None


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
            lines = self.path.read_text().splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return []
        for line in lines:
            try:
                attempt = Attempt(**json.loads(line))
            except (ValueError, TypeError):
                continue
            found[attempt.attempt] = attempt
        return [found[number] for number in sorted(found)]

    def begin(self, log: str | None, epoch: int, parent: int | None = None) -> Attempt:
        """Record that this process starts; earlier attempts without an end are closed as lost."""
        earlier = self.read()
        for attempt in earlier:
            if attempt.end is None:
                self._append(replace(attempt, end=utc_now(), reason="lost", epoch_end=epoch))
        number = earlier[-1].attempt + 1 if earlier else 1
        job = os.environ.get("SLURM_JOB_ID")
        attempt = Attempt(number, utc_now(), socket.gethostname(), os.getpid(), job, log, parent, epoch)
        self._append(attempt)
        return attempt

    def finish(self, attempt: Attempt, reason: str, **measured: Any) -> Attempt:
        """Record how an attempt ended."""
        ended = replace(attempt, end=utc_now(), reason=reason, **measured)
        self._append(ended)
        return ended

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
        attempt.reason in (None, "lost") and attempt.epoch_start == epoch and attempt.parent == parent
        for attempt in last
    )


def write_failure(cell: Cell, error: str, stage: str, log: Path | str | None) -> str:
    """Record a failure that trying again cannot mend, in one line (gin appends its context to errors)."""
    error = error.strip().partition("\n")[0]
    write_json(
        cell.failed,
        {
            "stage": stage,
            "error": error,
            "time": utc_now(),
            "host": socket.gethostname(),
            "log": str(log) if log else None,
        },
    )
    return error


def read_failure(cell: Cell) -> dict[str, Any] | None:
    """What `write_failure` recorded, or None."""
    content = read_json(cell.failed)
    return content if isinstance(content, dict) else None


def clear_failure(cell: Cell) -> None:
    """Let the next attempt try again."""
    cell.failed.unlink(missing_ok=True)
