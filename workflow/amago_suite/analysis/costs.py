"""Rows of costs.csv: what each run cost, then sums over an environment's and architecture's runs, then over all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amago_suite.analysis.collect import Collection, Run
from amago_suite.analysis.columns import Row

ALL = "(all)"
_HOUR = 3600.0
_SUMMED = (
    *("attempts", "env_steps", "gradient_steps", "wall_seconds", "gpu_hours", "cpu_hours"),
    *("jobs", "queue_hours", "allocated_gpu_hours", "allocated_cpu_hours"),
)
_PEAKS = ("peak_memory_mb", "peak_gpu_memory_mb", "job_peak_memory_mb")


def cost_rows(collection: Collection, runs: Sequence[Row]) -> list[Row]:
    """All rows of ``columns.COSTS``; the last one is the total.

    Args:
        collection: the finished runs.
        runs: their rows of ``runs.csv``, in the same order.
    """
    each = [_row_of(run, row) for run, row in zip(collection.runs, runs, strict=True)]
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in each:
        groups.setdefault((row["environment"], row["architecture"]), []).append(row)
    groups[ALL, ALL] = each
    return [*each, *(_sum_of(*names, members) for names, members in groups.items())]


def sums(costs: Sequence[Row]) -> list[Row]:
    """The rows that are sums over runs, without the total."""
    return [row for row in costs[:-1] if row["seed"] is None]


def _row_of(run: Run, row: Row) -> Row:
    accounts = run.accounts
    cpu: Any = run.provenance.get("cpu_seconds")
    known: dict[str, Any] = {
        "gpu_hours": _hours(row["gpu_seconds"]),
        "cpu_hours": _hours(cpu) if type(cpu) in (int, float) and 0 <= cpu < 1e12 else None,
        "jobs": accounts.jobs if accounts else None,
        "queue_hours": _hours(accounts.queue_seconds) if accounts else None,
        "allocated_gpu_hours": _hours(accounts.gpu_seconds) if accounts else None,
        "allocated_cpu_hours": _hours(accounts.cpu_seconds) if accounts else None,
        "job_peak_memory_mb": accounts.peak_memory_mb if accounts else None,
    }
    copied = ("environment", "architecture", "seed", *_SUMMED[:4], *_PEAKS[:2])
    return _ordered({**{name: row[name] for name in copied}, **known, "runs": 1})


def _sum_of(environment: str, architecture: str, members: Sequence[Row]) -> Row:
    found: Row = {
        "environment": environment,
        "architecture": architecture,
        "seed": None,
        "runs": len(members),
    }
    for name in _SUMMED:
        known = [member[name] for member in members if member[name] is not None]
        found[name] = sum(known) if known else None
    for name in _PEAKS:
        found[name] = max((m[name] for m in members if m[name] is not None), default=None)
    return _ordered(found)


def _ordered(row: Row) -> Row:
    steps, seconds = row["env_steps"], row["wall_seconds"]
    return {**row, "env_steps_per_second": steps / seconds if steps and seconds else None}


def _hours(seconds: float | None) -> float | None:
    return None if seconds is None else seconds / _HOUR
