"""``report.html``: one page, one file, nothing fetched, the same bytes for the same runs."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment as Templates
from jinja2 import FileSystemLoader, StrictUndefined
from markupsafe import Markup

from amago_suite import figures, layout
from amago_suite.across import LIKE_THESE, THESE, THRESHOLDS
from amago_suite.analysis import FINAL, Analysis, analyse
from amago_suite.cell import Cell
from amago_suite.collect import Collection, Run, collect
from amago_suite.columns import Row
from amago_suite.coverage import T_INTERVAL, coverage_rows
from amago_suite.curves import attempt_curves, horizon_curves, learning_curves, sample_efficiency
from amago_suite.files import write_text
from amago_suite.grid import Grid
from amago_suite.inline import inline_svg
from amago_suite.statistics import normalise
from amago_suite.tables import PARTIAL_FOLDER, TablesResult, write_folder

_TEMPLATES = Path(__file__).parent / "templates"
_LOG_LINES = 12
#: Beyond this many cells the page leaves out the logs of those that went well.
_CELLS_WITH_LOGS = 600


def write_report(
    suite_folder: Path, grid: Grid, *, partial: bool, tables: TablesResult | None = None
) -> Path:
    """Write the report of a suite.

    Args:
        suite_folder: ``results/{suite}``.
        grid: what was planned.
        partial: write to ``partial/`` and say so on the page.
        tables: what `write_tables` returned, to read and resample nothing twice.

    Returns:
        The page.

    Raises:
        DataError: a cell's file is malformed.
        AmagoError: the folder cannot be written.
    """
    collection = tables.collection if tables else collect(grid)
    analysis = tables.analysis if tables else analyse(collection)
    folder = Path(suite_folder) / PARTIAL_FOLDER if partial else Path(suite_folder)
    path = folder / "report.html"
    write_text(path, render(collection, analysis))
    return path


def render(collection: Collection, analysis: Analysis) -> str:
    """The page as text."""
    templates = Templates(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(number=layout.number, duration=layout.duration, bracket=_bracket)
    grid = collection.grid
    drawings = draw(collection, analysis, pdf=False)
    return templates.get_template("report.html").render(
        grid=grid,
        style=_asset("report.css"),
        script=_asset("report.js"),
        series=figures.SERIES,
        finished=len(collection.runs),
        missing=analysis.missing,
        episodes=collection.episodes.num_rows,
        total=analysis.costs[-1],
        warnings=warnings(collection, analysis),
        scores=score_rows(grid, analysis),
        aggregate=analysis.aggregate,
        aggregate_header=layout.aggregate_grid(analysis)[0],
        aggregate_rows=layout.aggregate_grid(analysis)[1],
        parameters={(r["environment"], r["architecture"]): r["parameters"] for r in analysis.runs},
        comparisons=[c for c in analysis.comparisons if c["scope"] in (THESE, LIKE_THESE)],
        within=[c for c in analysis.comparisons if c["scope"] == "environment"],
        costs=analysis.costs[:-1],
        coverage=coverage_rows(),
        coverage_t=T_INTERVAL,
        notes=layout.notes(grid, analysis),
        groups=cell_groups(collection, analysis),
        figures={k: [Markup(inline_svg(d)) for d in v] for k, v in drawings.items()},  # noqa: S704 (matplotlib's)
        seeds=", ".join(str(s) for s in grid.seeds),
    )


def draw(collection: Collection, analysis: Analysis, pdf: bool = True) -> dict[str, list[figures.Drawing]]:
    """Every figure of a suite by section; sections without one are empty.

    Args:
        collection, analysis: the runs, and what is made of them.
        pdf: also as PDF, for a paper.
    """
    names = list(collection.grid.architectures)
    curves = learning_curves(collection)
    one = {
        "aggregate": figures.draw_aggregates(analysis.aggregate, names, pdf),
        "profiles": figures.draw_profiles(analysis.profiles, THRESHOLDS, names, pdf),
        "efficiency": figures.draw_efficiency(sample_efficiency(curves), names, pdf),
        "improvement": figures.draw_improvement(analysis.comparisons, pdf),
        "cost": figures.draw_cost(analysis.runs, names, pdf),
    }
    others = [*horizon_curves(collection.grid, analysis.scores_of), *attempt_curves(collection)]
    return {
        **{section: [drawing] if drawing else [] for section, drawing in one.items()},
        "curves": [figures.draw_curves(c, names, pdf) for c in curves],
        "adaptation": [figures.draw_series(s, names, pdf) for s in others],
    }


def write_figures(suite_folder: Path, tables: TablesResult) -> Path:
    """Every figure as SVG and PDF, for a paper, in ``report/`` (in ``partial/report/`` when partial).

    Returns:
        The folder.
    """
    folder = Path(suite_folder) / PARTIAL_FOLDER if tables.partial else Path(suite_folder)
    files = {}
    for drawing in (d for section in draw(tables.collection, tables.analysis).values() for d in section):
        files[f"{drawing.name}.svg"] = drawing.svg
        files[f"{drawing.name}.pdf"] = drawing.pdf
    write_folder(folder / "report", files)
    return folder / "report"


def _asset(name: str) -> Markup:
    """Our own style and script, put into the page as they are."""
    return Markup((_TEMPLATES / name).read_text())  # noqa: S704 (a file of this package)


def _bracket(row: Row, estimate: str) -> str:
    return layout.with_interval(row, estimate)


# -- warnings ---------------------------------------------------------------------------------------


def warnings(collection: Collection, analysis: Analysis) -> list[str]:
    """What a reader should know before believing a number."""
    said = []
    if analysis.missing:
        said.append(
            f"Partial: {layout.plural(len(analysis.missing), 'run')} of {len(collection.grid)} missing. "
            "Every number is without them."
        )
    sizes = [row["n"] for row in analysis.scores]
    if sizes and min(sizes) < 3:
        said.append("Too few seeds: some scores have fewer than 3 runs, and therefore no interval.")
    elif sizes and min(sizes) < 5:
        said.append("Few seeds: with fewer than 5 runs an interval assumes that runs are normal.")
    for column, what in (
        ("image", "container images"),
        ("engine", "engines"),
        ("torch", "torch builds"),
        ("git_commit", "commits"),
        ("hardware", "kinds of hardware"),
    ):
        values = sorted({str(row[column]) for row in analysis.runs if row[column]})
        if len(values) > 1:
            shown = ", ".join(v[:24] for v in values[:4])
            said.append(f"Mixed: the runs come from {len(values)} different {what} ({shown}).")
    dirty = sum(1 for row in analysis.runs if (row["git_commit"] or "").endswith("+dirty"))
    if dirty:
        said.append(f"{layout.plural(dirty, 'run')} made with uncommitted changes in the code.")
    loose = [r for r in collection.runs if r.provenance.get("deterministic") is False]
    if loose:
        said.append(
            f"Not deterministic: {layout.plural(len(loose), 'run')} used kernels that may not repeat."
        )
    diverged = [row for row in analysis.runs if row["diverged"]]
    if diverged:
        said.append(f"{layout.plural(len(diverged), 'run')} diverged and counted with the last score.")
    return said


# -- the score table ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class ScoreCell:
    """One cell of the score table.

    Attributes:
        row: of scores.csv; ``None`` when no run is there.
        best: whether it beats every other architecture, by interval.
        heat: mean on the normalised scale, clipped to 0..1.
        runs: (score, where it lies on the normalised scale in %) of every run.
        band: interval on the normalised scale in %, (from, width), or ``None``.
        text: run scores, for a hover.
    """

    row: Row | None
    best: bool = False
    heat: float = 0.0
    runs: tuple[tuple[float, float], ...] = ()
    band: tuple[float, float] | None = None
    text: str = ""


def score_rows(grid: Grid, analysis: Analysis) -> list[dict[str, Any]]:
    """Rows of the score table: environment, its cells, its published numbers."""
    best = layout.winners(analysis)
    found = {(r["environment"], r["architecture"], r["score"].split(", ")[-1]): r for r in analysis.scores}
    rows = []
    for environment in grid.environments:
        score = environment.score
        cells = []
        for architecture in grid.architectures:
            row = found.get((environment.name, architecture, FINAL))
            if row is None:
                cells.append(ScoreCell(None))
                continue
            values = analysis.scores_of[environment.name, architecture]

            def place(value: float, score: Any = score) -> float:
                return float(100 * np.clip(normalise(value, score.low, score.high, score.direction), 0, 1))

            band = None
            if row["ci_low"] is not None and np.isfinite(row["ci_low"]):
                ends = sorted((place(row["ci_low"]), place(row["ci_high"])))
                band = ends[0], max(ends[1] - ends[0], 0.5)
            cells.append(
                ScoreCell(
                    row,
                    (environment.name, architecture) in best,
                    place(row["mean"]) / 100,
                    tuple((float(v), place(v)) for v in values),
                    band,
                    "runs: " + ", ".join(layout.number(float(v)) for v in sorted(values)),
                )
            )
        rows.append({"environment": environment, "cells": cells})
    return rows


# -- fold-outs ------------------------------------------------------------------------------------------


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
                "command": command(cell),
                "commit": _commit(run),
                "log": "" if quiet else log_tail(cell),
                "config_differs": cell.gin != group["gin"],
            }
        )
    return list(groups.values())


def command(cell: Cell) -> str:
    """What a person types to make exactly this cell again."""
    folder = shlex.quote(_shown(cell))
    return f"amago-suite train {folder} && amago-suite evaluate {folder}"


def _shown(cell: Cell) -> str:
    """The cell's folder as seen from where results/ lies."""
    return "/".join(("results", *cell.folder.parts[-4:]))


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
