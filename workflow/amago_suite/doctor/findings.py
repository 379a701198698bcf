"""What an examination finds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

OK, NOTE, PROBLEM = "ok", "note", "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        area: disk, sharing, time, versions, gpu, engine, profile, slurm, node.
        level: OK; NOTE, which is worth knowing; PROBLEM, with which runs fail.
        what: was found, in one line.
        way_out: what to do about it; empty where nothing is to be done.
    """

    area: str
    level: str
    what: str
    way_out: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For --json."""
        return asdict(self)


def ok(area: str, what: str) -> Finding:
    """Nothing to do."""
    return Finding(area, OK, what)


def note(area: str, what: str, way_out: str) -> Finding:
    """Worth knowing; runs go on all the same."""
    return Finding(area, NOTE, what, way_out)


def problem(area: str, what: str, way_out: str) -> Finding:
    """Runs would fail."""
    return Finding(area, PROBLEM, what, way_out)
