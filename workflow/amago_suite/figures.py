"""Figures for a paper and for the report: matplotlib, as SVG and PDF, the same bytes each time.

Colours are Okabe and Ito's (2008), told apart by colour-blind readers; line styles and markers
tell the series apart in grey print too.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from amago_suite.analysis.columns import Row
from amago_suite.presentation.lines import LineFigure

SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#a6761d")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (3, 1)), (0, (1, 1)), (0, (8, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
INK, SOFT, LINE = "#1c2024", "#60646c", "#d9dbe0"
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "amago-suite",
    "pdf.fonttype": 42,
    "figure.dpi": 72,
    "path.simplify": True,
}


@dataclass(frozen=True)
class Drawing:
    """A finished figure.

    Attributes:
        name: stem of its file.
        title: one line, for a caption and for readers who cannot see it.
        svg, pdf: its two forms.
    """

    name: str
    title: str
    svg: bytes
    pdf: bytes


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0.0)
    axes = figure.subplots()
    axes.patch.set_alpha(0.0)
    return figure, axes


def _finish(figure: Figure, name: str, title: str, pdf: bool) -> Drawing:
    svg = io.BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None, "Title": title})
    out = io.BytesIO()
    if pdf:
        figure.savefig(out, format="pdf", metadata={"CreationDate": None, "Producer": None, "Creator": None})
    return Drawing(name, title, svg.getvalue(), out.getvalue())


def _look(index: int) -> dict[str, Any]:
    """Colour and dash of a series."""
    return {"color": SERIES[index % len(SERIES)], "linestyle": DASHES[index % len(DASHES)]}


def _steps(value: float, _: float = 0.0) -> str:
    """12000 -> 12k, 3000000 -> 3M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def draw_lines(lines: LineFigure, architectures: Sequence[str], pdf: bool = True) -> Drawing:
    """Lines with bands, or with the single runs where there are too few for a band."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes(4.6, 3.0)
        for architecture, line in lines.of.items():
            index = architectures.index(architecture)
            colour = SERIES[index % len(SERIES)]
            if line.banded:
                axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.16, linewidth=0)
            for run in line.runs:
                axes.plot(line.x, run, color=colour, alpha=0.4, linewidth=0.8)
            look = _look(index)
            if lines.marked:
                look |= {"marker": MARKERS[index % len(MARKERS)], "markersize": 4}
            label = f"{architecture} (n = {line.n})" if line.n else architecture
            axes.plot(line.x, line.mean, label=label, **look)
        axes.set_title(lines.title)
        axes.set_xlabel(lines.x_label)
        axes.set_ylabel(lines.y_label)
        if lines.logarithmic:
            axes.set_xscale("log")
        if lines.ticks:
            axes.set_xticks(lines.ticks, [_steps(t) for t in lines.ticks])
            axes.minorticks_off()
        else:
            axes.xaxis.set_major_formatter(_steps)
        if lines.x_range:
            axes.set_xlim(*lines.x_range)
        if lines.y_range:
            axes.set_ylim(*lines.y_range)
        axes.legend(loc="best", fontsize=8, handlelength=2.6)
        return _finish(figure, lines.name, lines.caption, pdf)


def draw_aggregates(rows: Sequence[Row], architectures: Sequence[str], pdf: bool = True) -> Drawing | None:
    """Aggregates with intervals, a panel for each statistic."""
    statistics = list(dict.fromkeys(r["statistic"] for r in rows))
    if not statistics:
        return None
    words = {"iqm": "IQM", "optimality_gap": "optimality gap\n(lower is better)"}
    with matplotlib.rc_context({**_STYLE, "axes.titlelocation": "center", "axes.titleweight": "normal"}):
        height = 0.9 + 0.34 * len(architectures)
        figure = Figure(figsize=(9.4, height), layout="constrained")
        figure.patch.set_alpha(0.0)
        panels = figure.subplots(1, len(statistics), sharey=True, squeeze=False)[0]
        for axes, statistic in zip(panels, statistics, strict=True):
            axes.patch.set_alpha(0.0)
            for row in (r for r in rows if r["statistic"] == statistic):
                index = architectures.index(row["architecture"])
                colour = SERIES[index % len(SERIES)]
                if row["ci_low"] is not None and np.isfinite(row["ci_low"]):
                    axes.plot([row["ci_low"], row["ci_high"]], [index, index], color=colour, linewidth=5, alpha=0.35,
                              solid_capstyle="butt")  # fmt: skip
                axes.plot(row["estimate"], index, MARKERS[index % len(MARKERS)], color=colour, markersize=6)
            axes.set_title(words.get(statistic, statistic), fontsize=9)
            axes.set_yticks(range(len(architectures)), architectures)
            axes.set_ylim(len(architectures) - 0.5, -0.5)
            axes.grid(axis="y", visible=False)
            axes.margins(x=0.08)
        title = "Normalised scores over environments with 95 % stratified bootstrap intervals"
        return _finish(figure, "aggregate", title, pdf)


def draw_improvement(rows: Sequence[Row], pdf: bool = True) -> Drawing | None:
    """Probability of improvement of each pair, with intervals."""
    shown = [r for r in rows if r["scope"] == "these environments" and r["improvement"] is not None]
    if not shown:
        return None
    with matplotlib.rc_context({**_STYLE, "axes.titleweight": "bold"}):
        figure, axes = _axes(5.2, 1.0 + 0.3 * len(shown))
        for i, row in enumerate(shown):
            low, high = row["improvement_low"], row["improvement_high"]
            if low is not None and np.isfinite(low):
                axes.plot(
                    [low, high], [i, i], color=SERIES[0], linewidth=5, alpha=0.35, solid_capstyle="butt"
                )
            axes.plot(row["improvement"], i, "o", color=SERIES[0])
        axes.axvline(0.5, color=SOFT, linewidth=1, linestyle="--")
        axes.set_yticks(range(len(shown)), [f"{r['a']} over {r['b']}" for r in shown])
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_xlim(-0.03, 1.03)
        axes.grid(axis="y", visible=False)
        axes.set_title("Probability of improvement")
        axes.set_xlabel("P(run of first beats run of second)")
        return _finish(figure, "improvement", "Probability of improvement with 95 % bootstrap intervals", pdf)


def draw_cost(rows: Sequence[Row], architectures: Sequence[str], pdf: bool = True) -> Drawing | None:
    """Score against training time: one mark for every run."""
    shown = [r for r in rows if r["wall_seconds"]]
    if not shown:
        return None
    longest = max(r["wall_seconds"] for r in shown)
    unit, size = next(
        (u, n) for u, n in (("hours", 3600), ("minutes", 60), ("seconds", 1)) if longest >= 3 * n or n == 1
    )
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes(4.6, 3.0)
        for index, architecture in enumerate(architectures):
            points = [
                (r["wall_seconds"] / size, r["normalised"])
                for r in shown
                if r["architecture"] == architecture
            ]
            if points:
                x, y = zip(*points, strict=True)
                axes.plot(
                    x, y, MARKERS[index % len(MARKERS)], color=SERIES[index % len(SERIES)],
                    label=architecture, alpha=0.75, markersize=4.5, linestyle="none",
                )  # fmt: skip
        axes.set_title("Cost against score")
        axes.set_xlabel(f"training time of the run, {unit}")
        axes.set_ylabel("normalised score")
        axes.set_xlim(0, 1.06 * longest / size)
        if all(-0.05 <= r["normalised"] <= 1.05 for r in shown):
            axes.set_ylim(-0.06, 1.06)
        axes.legend(loc="best", fontsize=8)
        return _finish(figure, "cost", "Normalised score of every run against its training time", pdf)
