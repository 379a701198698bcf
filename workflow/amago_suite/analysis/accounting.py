"""What SLURM's accounts say of a suite's training jobs: queue time, allocated CPUs and GPUs, peak memory.

Asked once, when tables are made, and kept in each cell's ``state/accounting.json``: accounts are purged,
and the same runs must give the same tables on a machine without SLURM.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from amago_suite.cell import Cell
from amago_suite.folders.files import read_record, write_json
from amago_suite.records import Attempts

_FIELDS = ("JobIDRaw", "Submit", "Start", "End", "AllocCPUS", "AllocTRES", "MaxRSS", "State")
_MOST_IDS = 500  # in one command line
_PATIENCE = 60  # seconds for one answer
#: The accounts hear of a job's end a moment later: seconds between questions, and how many.
_AGAIN, _TIMES = 1.0, 3
_UNITS = {"": 1 / 2**20, "K": 1 / 2**10, "M": 1.0, "G": 2.0**10, "T": 2.0**20}


@dataclass(frozen=True, slots=True)
class Account:
    """What one job cost; a job that SLURM requeued is several. Times in seconds."""

    job: str
    queue_seconds: float
    cpu_seconds: float  #: allocated CPUs times elapsed time
    gpu_seconds: float  #: allocated GPUs times elapsed time
    peak_memory_mb: float | None  #: largest sample of a step's resident memory, MiB
    cells: int = 1  #: of this suite that shared the job


@dataclass(frozen=True, slots=True)
class Costs:
    """A run's part of its jobs' costs. Times in seconds."""

    jobs: int
    queue_seconds: float
    cpu_seconds: float
    gpu_seconds: float
    peak_memory_mb: float | None  #: of the whole job, also where cells shared it


def account_file(cell: Cell) -> Path:
    """Where a cell keeps its accounts."""
    return cell.state / "accounting.json"


def update(cells: Iterable[Cell]) -> None:
    """Ask for the accounts of jobs that are not known yet, and keep them. Without sacct, nothing happens."""
    if shutil.which("sacct") is None:
        return
    jobs: dict[Path, set[str]] = {}
    shared: dict[str, int] = defaultdict(int)
    owner: dict[Path, Cell] = {}
    for cell in cells:
        numbers = {a.job for a in Attempts(cell).read() if a.job is not None and a.job.isdecimal()}
        for number in numbers:
            shared[number] += 1
        if numbers - {entry.job for entry in _known(cell)}:
            jobs[cell.folder], owner[cell.folder] = numbers, cell
    wanted = sorted(set().union(*jobs.values()), key=int)
    if not wanted:
        return
    found = _ask(wanted)
    for folder, numbers in jobs.items():
        entries = [entry for number in sorted(numbers, key=int) for entry in found.get(number, ())]
        if entries:
            content = [{**asdict(entry), "cells": shared[entry.job]} for entry in entries]
            write_json(account_file(owner[folder]), {"source": "sacct", "jobs": content})


def costs_of(cell: Cell) -> Costs | None:
    """A run's part of what its training jobs cost, or None where no accounts are known."""
    entries = _known(cell)
    if not entries:
        return None
    peaks = [entry.peak_memory_mb for entry in entries if entry.peak_memory_mb is not None]
    return Costs(
        jobs=len({entry.job for entry in entries}),
        queue_seconds=sum(entry.queue_seconds for entry in entries),
        cpu_seconds=sum(entry.cpu_seconds / entry.cells for entry in entries),
        gpu_seconds=sum(entry.gpu_seconds / entry.cells for entry in entries),
        peak_memory_mb=max(peaks, default=None),
    )


def _known(cell: Cell) -> list[Account]:
    record = read_record(account_file(cell)) or {}
    entries: Any = record.get("jobs")
    found = []
    for entry in entries if isinstance(entries, list) else []:
        try:
            account = Account(**entry)
        except TypeError:
            continue
        numbers = [
            account.queue_seconds,
            account.cpu_seconds,
            account.gpu_seconds,
            account.peak_memory_mb or 0.0,
        ]
        plain = all(type(n) in (int, float) and 0 <= n < 1e12 for n in numbers)
        if (
            plain
            and type(account.cells) is int
            and 0 < account.cells < 2**31
            and isinstance(account.job, str)
        ):
            found.append(account)
    return found


def _ask(numbers: Sequence[str]) -> dict[str, list[Account]]:
    """Accounts of jobs that have ended, by id; those that the accounts do not know (yet) are left out."""
    found: dict[str, list[Account]] = {}
    for start in range(0, len(numbers), _MOST_IDS):
        portion = list(numbers[start : start + _MOST_IDS])
        for attempt in range(_TIMES):
            answered = _query(portion)
            found |= answered
            portion = [number for number in portion if number not in answered]
            if not portion or not answered:
                break
            time.sleep(_AGAIN if attempt + 1 < _TIMES else 0)
    return found


def _query(numbers: Sequence[str]) -> dict[str, list[Account]]:
    # Every start of a requeued job (--duplicates), with its steps, which alone know their memory.
    command = ["sacct", "--duplicates", "--parsable2", "--noheader", f"--format={','.join(_FIELDS)}"]
    command += ["--starttime=1970-01-02", f"--jobs={','.join(numbers)}"]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
            env={**os.environ, "SLURM_TIME_FORMAT": "%s"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return read_accounts(done.stdout) if done.returncode == 0 else {}


def read_accounts(text: str) -> dict[str, list[Account]]:
    """Accounts from sacct's lines; jobs of which a part still runs are left out."""
    found: dict[str, list[Account]] = defaultdict(list)
    unfinished = set()
    for line in text.splitlines():
        fields = dict(zip(_FIELDS, line.split("|"), strict=False))
        if len(fields) != len(_FIELDS):
            continue
        number, _, step = fields["JobIDRaw"].partition(".")
        if step:
            memory = _megabytes(fields["MaxRSS"])
            if found[number] and memory is not None:
                last = found[number][-1]
                largest = max(memory, last.peak_memory_mb or 0.0)
                found[number][-1] = Account(**{**asdict(last), "peak_memory_mb": largest})
            continue
        submit, begin, end = (_seconds(fields[name]) for name in ("Submit", "Start", "End"))
        if end is None or submit is None:
            unfinished.add(number)
            continue
        if begin is None:  # cancelled while it waited
            begin = end
        elapsed = max(end - begin, 0.0)
        gpus = sum(int(n) for n in re.findall(r"gres/gpu=(\d+)", fields["AllocTRES"]))
        cpus = int(fields["AllocCPUS"]) if fields["AllocCPUS"].isdecimal() else 0
        found[number].append(Account(number, max(begin - submit, 0.0), cpus * elapsed, gpus * elapsed, None))
    return {number: entries for number, entries in found.items() if entries and number not in unfinished}


def _seconds(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else None


def _megabytes(text: str) -> float | None:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)", text)
    return round(float(match[1]) * _UNITS[match[2]], 1) if match else None
