"""The page's plots that a reader can ask: BokehJS, inlined, and compact data for it.

Bokeh's Python side is not used to make the plots: its documents number their models anew in every
process, so that equal runs would not give equal pages, and they know nothing of light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from amago_suite.presentation.lines import Line, LineFigure
from amago_suite.statistics import Floats

#: Significant digits: more than a screen shows.
_DIGITS = 4


def plot_script() -> str:
    """BokehJS without widgets, tables and WebGL, minified, with its licence in front."""
    from bokeh.resources import Resources

    *scripts, _ = Resources(mode="inline", components=["bokeh", "bokeh-api"]).js_raw
    return "\n".join(scripts)  # the last sets a log level, and says so in every reader's console


def plot_data(figures: Iterable[LineFigure], architectures: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Name of the figure -> what ``templates/plots.js`` draws; only JSON types, NaN as ``None``.

    Args:
        figures: of one page.
        architectures: of the grid; a line's place among them is its colour everywhere.
    """
    return {
        figure.name: {
            "title": figure.title,
            "caption": figure.caption,
            "x_label": figure.x_label,
            "y_label": figure.y_label,
            "x_range": figure.x_range,
            "y_range": figure.y_range,
            "ticks": figure.ticks,
            "logarithmic": figure.logarithmic,
            "marked": figure.marked,
            "lines": [
                {"name": name, "look": architectures.index(name), **_line(line)}
                for name, line in figure.of.items()
            ],
        }
        for figure in figures
    }


def _line(line: Line) -> dict[str, Any]:
    """One line; points without a value are left out at both ends and kept as gaps inside."""
    known = np.flatnonzero(np.isfinite(line.mean))
    inside = slice(int(known[0]), int(known[-1]) + 1) if known.size else slice(0, 0)
    content = {"n": line.n, "x": _numbers(line.x[inside]), "mean": _numbers(line.mean[inside])}
    if line.banded:
        content |= {"low": _numbers(line.low[inside]), "high": _numbers(line.high[inside])}
    if len(line.runs):
        content["runs"] = [_numbers(run[inside]) for run in line.runs]
    return content


def _numbers(values: Floats) -> list[float | None]:
    return [_short(float(v)) if math.isfinite(v) else None for v in values]


def _short(value: float) -> float:
    """To ``_DIGITS`` significant digits, whole where it can be: ``7`` is shorter than ``7.0``."""
    rounded = float(f"{value:.{_DIGITS}g}")
    return int(rounded) if rounded.is_integer() else rounded
