"""``report.html``: one page, one file, nothing fetched, the same bytes for the same runs."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment as Templates
from jinja2 import FileSystemLoader, StrictUndefined
from markupsafe import Markup

from amago_suite import figures
from amago_suite.analysis.across import LIKE_THESE, THESE
from amago_suite.analysis.collect import Collection, collect
from amago_suite.analysis.columns import Row
from amago_suite.analysis.costs import sums
from amago_suite.analysis.coverage import T_INTERVAL, coverage_rows
from amago_suite.analysis.rows import BEST, FINAL, Analysis, analyse
from amago_suite.folders.files import write_text
from amago_suite.grid import Grid
from amago_suite.presentation import layout
from amago_suite.presentation.drawings import draw, line_figures
from amago_suite.presentation.foldouts import cell_groups
from amago_suite.presentation.inline import inline_svg
from amago_suite.presentation.interactive import plot_data, plot_script
from amago_suite.statistics import normalise
from amago_suite.tables import PARTIAL_FOLDER, TablesResult

_TEMPLATES = Path(__file__).parent / "templates"
#: Where a live page says which version it is.
VERSION_MARK = "@version@"


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


def render(collection: Collection, analysis: Analysis, *, live: bool = False) -> str:
    """The page as text.

    Args:
        collection, analysis: the runs, and what is made of them.
        live: for `amago-suite watch`: the page asks its server how the runs go, and carries ``VERSION_MARK``.
    """
    templates = Templates(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(
        number=lambda value: typeset(layout.number(value)),
        duration=layout.duration,
        bracket=lambda row, estimate: typeset(layout.with_interval(row, estimate)),
        typeset=typeset,
        compact=_compact,
    )
    grid = collection.grid
    lines = line_figures(collection, analysis)
    drawings = draw(collection, analysis, lines, pdf=False)
    return templates.get_template("report.html").render(
        grid=grid,
        style=_asset("report.css"),
        script=_asset("report.js"),
        plots=plot_data(chain(*lines.values()), grid.architectures),
        plots_script=Markup("\n".join((plot_script(), str(_asset("plots.js"))))),  # noqa: S704 (Bokeh's and ours)
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
        architectures=architecture_rows(grid, analysis),
        comparisons=[c for c in analysis.comparisons if c["scope"] in (THESE, LIKE_THESE)],
        within=[c for c in analysis.comparisons if c["scope"] == "environment"],
        costs=sums(analysis.costs),
        coverage=coverage_rows(),
        coverage_t=T_INTERVAL,
        notes=[note for note in layout.notes(grid, analysis) if not note.startswith("[")],
        bounds=bounds_notes(grid),
        live_script=_asset("live.js") if live else None,
        version=VERSION_MARK if live else None,
        published=layout.published_notes(grid, analysis),
        best=layout.score_grid(grid, analysis, BEST),
        groups=cell_groups(collection, analysis),
        figures={k: [(d.name, Markup(inline_svg(d))) for d in v] for k, v in drawings.items()},  # noqa: S704 (matplotlib's)
        seeds=", ".join(str(s) for s in grid.seeds),
    )


def _asset(name: str) -> Markup:
    """Our own style and script, put into the page as they are."""
    return Markup((_TEMPLATES / name).read_text())  # noqa: S704 (a file of this package)


def typeset(text: str) -> str:
    """``text`` with minus signs in front of its numbers."""
    return re.sub(r"(?<![\w-])-(?=\d)", "\u2212", text)


def _compact(content: object) -> Markup:
    """JSON for a script element: nothing in it can end the element."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace("&", "\\u0026"))  # noqa: S704 (escaped here)


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
    said += layout.mixed_images(analysis)
    for column, what in (
        ("torch", "torch builds"),
        ("git_commit", "commits"),
        ("hardware", "kinds of hardware"),
    ):
        values = sorted({str(row[column]) for row in analysis.runs if row[column]})
        if len(values) > 1:
            shown = ", ".join(_shortened(v) for v in values[:4]) + (", ..." if len(values) > 4 else "")
            said.append(f"Mixed: the runs come from {len(values)} different {what} ({shown}).")
    dirty = sum(1 for row in analysis.runs if (row["git_commit"] or "").endswith("+dirty"))
    if dirty:
        said.append(f"{layout.plural(dirty, 'run')} made with uncommitted changes in the code.")
    loose = [r for r in collection.runs if r.provenance.get("deterministic") is False]
    if loose:
        said.append(
            f"Not deterministic: {layout.plural(len(loose), 'run')} used kernels that may not repeat."
        )
    said += _unequal(analysis.runs)
    diverged = [row for row in analysis.runs if row["diverged"]]
    if diverged:
        said.append(f"{layout.plural(len(diverged), 'run')} diverged and counted with the last score.")
    return said


def bounds_notes(grid: Grid) -> list[str]:
    """What is 0 and 1 when normalised, and where that comes from; environments alike are told together."""
    alike: dict[tuple[float, float, str], list[str]] = {}
    for environment in grid.environments:
        score = environment.score
        alike.setdefault((score.low, score.high, score.source), []).append(environment.name)
    return [
        f"Bounds of {', '.join(names)}: {low:g} to {high:g} ({source})."
        for (low, high, source), names in alike.items()
    ]


def _shortened(identity: str) -> str:
    """Hashes by their beginning, as git shows them; other names in full."""
    return re.sub(r"[0-9a-f]{24,}", lambda match: match[0][:10], identity)


def _unequal(runs: list[Row]) -> list[str]:
    """Sizes that differ by more than a factor of two within an environment, and differing tuning."""
    said = []
    worst: tuple[float, str] | None = None
    for name in dict.fromkeys(r["environment"] for r in runs):
        sizes = {
            r["architecture"]: r["parameters"] for r in runs if r["environment"] == name and r["parameters"]
        }
        if len(sizes) > 1:
            most, least = max(sizes, key=sizes.__getitem__), min(sizes, key=sizes.__getitem__)
            ratio = sizes[most] / sizes[least]
            text = f"{name}: {most} {sizes[most]:,}, {least} {sizes[least]:,}"
            if ratio > 2 and (worst is None or ratio > worst[0]):
                worst = ratio, text
    if worst:
        said.append(f"Unequal sizes: parameters differ by up to {worst[0]:.1f} times ({worst[1]}).")
    if len({r["tuning"] for r in runs}) > 1:
        said.append("Unequal tuning: the architectures were not tuned alike (see Architectures).")
    return said


# -- architectures -------------------------------------------------------------------------------------


def architecture_rows(grid: Grid, analysis: Analysis) -> list[dict[str, Any]]:
    """What each architecture is: size (which depends on the environment), tuning, runs, seconds of a run."""
    rows = []
    for name in grid.architectures:
        runs = [r for r in analysis.runs if r["architecture"] == name]
        sizes = sorted({r["parameters"] for r in runs if r["parameters"]})
        seconds = [r["wall_seconds"] for r in runs if r["wall_seconds"]]
        rows.append(
            {
                "name": name,
                "parameters": " to ".join(f"{n:,}" for n in dict.fromkeys((*sizes[:1], *sizes[-1:])))
                or layout.NONE,
                "most": sizes[-1] if sizes else None,
                "tuning": grid.tuning.get(name),
                "runs": len(runs),
                "seconds": float(np.mean(seconds)) if seconds else None,
            }
        )
    return rows


def _mean_and_interval(row: Row) -> tuple[str, str]:
    """``1.00`` and ``[0.93, 1.07]``."""
    mean, _, rest = layout.with_interval(row).partition(" [")
    return mean, f"[{rest}" if rest else "no interval"


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
        mean, interval: as they are written, to the same decimals; no interval is said.
        text: run scores, for a hover.
    """

    row: Row | None
    best: bool = False
    heat: float = 0.0
    runs: tuple[tuple[float, float], ...] = ()
    band: tuple[float, float] | None = None
    mean: str = ""
    interval: str = ""
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
                    *_mean_and_interval(row),
                    "runs: " + ", ".join(layout.number(float(v)) for v in sorted(values)),
                )
            )
        rows.append(
            {
                "environment": environment,
                "cells": cells,
                "published": layout.published_beside(grid, environment, FINAL),
            }
        )
    return rows
