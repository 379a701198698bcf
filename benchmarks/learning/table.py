"""The table of learning runs, in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

from benchmarks.learning.cases import CASES
from benchmarks.learning.training import Case

_HEAD = (
    "task",
    "memory",
    "goal",
    "seeds solved",
    "score",
    "environment steps",
    "updates",
    "CPU s",
    "ms an update",
    "AMAGO v3.3, one run",
)


def markdown(runs: list[dict[str, Any]]) -> str:
    """One row for each (case, architecture), in the order of `CASES`.

    Args:
        runs: of `train`, each with its ``case``.
    """
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for run in sorted(runs, key=lambda run: (list(CASES).index(run["case"]), run["arch"])):
        groups.setdefault((run["case"], run["arch"]), []).append(run)
    lines = ["| " + " | ".join(_HEAD) + " |", "|---|---|---|" + "---:|" * (len(_HEAD) - 4) + "---|"]
    for (name, arch), group in groups.items():
        lines.append("| " + " | ".join(_row(CASES[name], arch, group)) + " |")
    return "\n".join(lines)


def _row(case: Case, arch: str, runs: list[dict[str, Any]]) -> list[str]:
    ends = [run["curve"][-1] for run in runs]
    solved = sum(run["solved"] for run in runs)
    reference = case.reference.get(arch)
    cost = 1000 * sum(end[2] for end in ends) / sum(end[1] for end in ends)
    return [
        case.what,
        arch,
        f"{case.metric} {case.goal:g}" if case.goal is not None else f"{case.metric}, budget spent",
        f"{solved} of {len(runs)}" if case.goal is not None else f"({len(runs)})",
        _spread([end[3] for end in ends], ".2f" if abs(ends[0][3]) < 10 else ".0f"),
        _spread([end[0] for end in ends]),
        _spread([end[1] for end in ends]),
        _spread([end[2] for end in ends], ".0f"),
        f"{cost:.0f}",
        f"{reference.env_steps:,} steps, {reference.updates:,} updates, {reference.cpu_seconds:g} s"
        if reference
        else "",
    ]


def _spread(values: Iterable[float], form: str = ",.0f") -> str:
    """The median, and the range where there are several."""
    found = sorted(values)
    middle = format(statistics.median(found), form)
    if found[0] == found[-1]:
        return middle
    return f"{middle} ({found[0]:{form}} to {found[-1]:{form}})"
