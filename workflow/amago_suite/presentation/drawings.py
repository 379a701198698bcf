"""Which figures a suite has, and their files."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

from amago_suite import figures
from amago_suite.analysis.collect import Collection
from amago_suite.analysis.curves import learning_curves, sample_efficiency
from amago_suite.analysis.rows import Analysis
from amago_suite.presentation.lines import (
    LineFigure,
    attempt_figures,
    curve_figure,
    efficiency_figure,
    horizon_figures,
    profile_figure,
)
from amago_suite.tables import PARTIAL_FOLDER, TablesResult, write_folder


def line_figures(collection: Collection, analysis: Analysis) -> dict[str, list[LineFigure]]:
    """Every figure of lines by section; sections without one are empty."""
    curves = learning_curves(collection)
    profiles, efficiency = profile_figure(analysis.profiles), efficiency_figure(sample_efficiency(curves))
    return {
        "profiles": [profiles] if profiles else [],
        "efficiency": [efficiency] if efficiency else [],
        "curves": [curve_figure(c) for c in curves],
        "adaptation": [
            *horizon_figures(collection.grid, analysis.scores_of),
            *attempt_figures(collection),
        ],
    }


def draw(
    collection: Collection, analysis: Analysis, lines: dict[str, list[LineFigure]], pdf: bool = True
) -> dict[str, list[figures.Drawing]]:
    """Every figure of a suite by section; sections without one are empty.

    Args:
        collection, analysis: the runs, and what is made of them.
        lines: the figures of lines.
        pdf: also as PDF, for a paper.
    """
    names = list(collection.grid.architectures)
    one = {
        "aggregate": figures.draw_aggregates(analysis.aggregate, names, pdf),
        "improvement": figures.draw_improvement(analysis.comparisons, pdf),
        "cost": figures.draw_cost(analysis.runs, names, pdf),
    }
    return {
        **{section: [drawing] if drawing else [] for section, drawing in one.items()},
        **{section: [figures.draw_lines(f, names, pdf) for f in found] for section, found in lines.items()},
    }


def write_figures(suite_folder: Path, tables: TablesResult) -> Path:
    """Every figure as SVG and PDF, for a paper, in ``report/`` (in ``partial/report/`` when partial).

    Returns:
        The folder.
    """
    folder = Path(suite_folder) / PARTIAL_FOLDER if tables.partial else Path(suite_folder)
    files = {}
    lines = line_figures(tables.collection, tables.analysis)
    for drawing in chain(*draw(tables.collection, tables.analysis, lines).values()):
        files[f"{drawing.name}.svg"] = drawing.svg
        files[f"{drawing.name}.pdf"] = drawing.pdf
    write_folder(folder / "report", files)
    return folder / "report"
