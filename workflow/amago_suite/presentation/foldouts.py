"""What each cell's fold-out in the report says: settings, provenance, the command that makes it again, its log."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from amago_suite.analysis.collect import Collection, Run
from amago_suite.analysis.rows import Analysis
from amago_suite.cell import Cell
from amago_suite.grid import Grid
from amago_suite.presentation import layout

_LOG_LINES = 12
#: Beyond this many cells the page leaves out the logs of those that went well.
_CELLS_WITH_LOGS = 600


def cell_groups(collection: Collection, analysis: Analysis) -> list[dict[str, Any]]:
    """Cells by environment and architecture: what they share is told once."""
    grid = collection.grid
    runs = {r.cell.key: r for r in collection.runs}
    rows = {(r["environment"], r["architecture"], r["seed"]): r for r in analysis.runs}
    missing = {(m["environment"], m["architecture"], m["seed"]): m for m in analysis.missing}
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for cell in grid:
        group = groups.setdefault(
            (cell.environment, cell.architecture),
            {
                "environment": cell.environment,
                "architecture": cell.architecture,
                "settings": _settings(cell),
                "gin": cell.gin,
                "cells": [],
            },
        )
        run, gone = runs.get(cell.key), missing.get(cell.key)
        quiet = len(grid) > _CELLS_WITH_LOGS and gone is None
        group["cells"].append(
            {
                "cell": cell,
                "row": rows.get(cell.key),
                "missing": gone,
                "provenance": _flat(run.provenance) if run else [],
                "command": command(grid, cell),
                "commit": _commit(run),
                "log": "" if quiet else log_tail(cell),
                "config_differs": cell.gin != group["gin"],
            }
        )
    return list(groups.values())


def command(grid: Grid, cell: Cell) -> str:
    """What a person types in a checkout to make exactly this cell, and nothing else, from nothing."""
    target = "/".join(("results", *cell.folder.parts[-4:], cell.evaluation_file.name))
    return f"amago-suite run {grid.typed} {shlex.quote(target)}"


def _commit(run: Run | None) -> str | None:
    git = run.provenance.get("git") if run else None
    value = (
        git.get("commit") if isinstance(git, dict) else (run.provenance.get("git_commit") if run else None)
    )
    return value if isinstance(value, str) and value else None


def _settings(cell: Cell) -> list[tuple[str, str]]:
    parameters = ", ".join(f"{k} = {v}" for k, v in cell.env_params.items()) or "none"
    judged = cell.evaluation
    return [
        ("environment", f"{cell.env_id} (family {cell.family})"),
        ("parameters", parameters),
        ("budget", layout.plural(cell.budget_epochs, "epoch")),
        ("threads", str(cell.threads)),
        ("evaluation", f"{layout.plural(judged.episodes, 'episode')}, "
                       f"{'greedy' if judged.greedy else 'sampled'}, seed {judged.seed}"),
    ]  # fmt: skip


def _flat(record: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested provenance as (dotted name, text); empty values are left out."""
    items: list[tuple[str, str]] = []
    for key, value in record.items():
        if isinstance(value, dict):
            items += _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            items.append((prefix + key, ", ".join(str(v) for v in value)[:200]))
        elif value is not None and value != "":
            items.append((prefix + key, layout.number(value) if isinstance(value, float) else str(value)))
    return items


def log_tail(cell: Cell) -> str:
    """Last lines of the cell's training log, or nothing."""
    path = cell.state / "train.log"
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 8192))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(line[:160].rstrip() for line in text.replace("\r", "\n").splitlines()[-_LOG_LINES:])
