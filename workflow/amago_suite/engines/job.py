"""A job: one stage of one cell, and what it may use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

#: Processes and threads of one job. Far more than any needs, and too few to harm the machine.
PROCESSES = 2048


@dataclass(frozen=True, slots=True)
class Job:
    """What the workflow, or a person, asks for.

    Attributes:
        stage: ``train`` or ``evaluate``.
        folder: of the cell.
        parent: process to end with; also tells the attempts of one invocation from those of others.
        log: where the output goes, for the record.
        memory_mb: limit in MiB; the cell's own where None.
    """

    stage: str
    folder: Path
    parent: int | None = None
    log: str | None = None
    memory_mb: int | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What a box may use at most."""

    cpus: float
    memory_mb: int
    processes: int = PROCESSES
