"""Figures of lines with bands, as data: what is drawn for paper and what the page lets a reader ask."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from amago_suite.analysis.across import THRESHOLDS
from amago_suite.analysis.collect import Collection
from amago_suite.analysis.curves import Curves, Efficiency
from amago_suite.grid import Environment, Grid
from amago_suite.statistics import Floats, curve_band, summarise

#: A line of no more points than this shows where they are.
FEW_POINTS = 12


@dataclass(frozen=True)
class Line:
    """One architecture.

    Attributes:
        x, mean, low, high: (P,); NaN where there is none.
        n: runs, 0 where the figure does not count them.
        runs: (n, P) single runs, to be shown where there is no band; else empty.
    """

    x: Floats
    mean: Floats
    low: Floats
    high: Floats
    n: int = 0
    runs: Sequence[Floats] = ()

    @property
    def banded(self) -> bool:
        """Whether there is a band at all."""
        return bool(np.isfinite(self.low).any())


@dataclass(frozen=True)
class LineFigure:
    """Lines over one quantity.

    Attributes:
        name: stem of its file, unique among a suite's figures.
        title: above it.
        caption: what it shows, in a sentence.
        x_label, y_label: of the axes.
        of: architecture -> its line, in the grid's order.
        x_range, y_range: of the axes; ``None`` to fit the lines.
        ticks: x that deserve a tick each; empty for the usual ones.
        logarithmic: whether x spans more than a decade.
    """

    name: str
    title: str
    caption: str
    x_label: str
    y_label: str
    of: dict[str, Line]
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    ticks: tuple[float, ...] = ()
    logarithmic: bool = False

    @property
    def marked(self) -> bool:
        """Whether the lines have so few points that each is marked."""
        return max(int(np.isfinite(line.mean).sum()) for line in self.of.values()) <= FEW_POINTS


def curve_figure(curves: Curves) -> LineFigure:
    """The learning curves of one environment."""
    score = curves.environment.score
    of = {
        a: Line(
            c.steps, c.mean, c.low, c.high, c.n, () if np.isfinite(c.low).any() or c.n < 2 else list(c.runs)
        )
        for a, c in curves.of.items()
    }
    last = max(float(c.steps[-1]) for c in curves.of.values())
    return LineFigure(
        f"curves-{curves.environment.name}",
        curves.environment.name,
        f"{curves.environment.name}: {curves.label} while training, mean over runs and 95 % t band",
        "environment steps",
        curves.label,
        of,
        (0.0, 1.02 * last),
        _within(score.low, score.high, of) if curves.column.endswith(score.metric) else None,
    )


def _within(low: float, high: float, of: Mapping[str, Line]) -> tuple[float, float] | None:
    """The bounds of a score with some air, or ``None`` where lines leave them."""
    low, high = sorted((low, high))
    air = 0.06 * (high - low)
    values = np.concatenate([line.mean[np.isfinite(line.mean)] for line in of.values()])
    return None if values.min() < low - air or values.max() > high + air else (low - air, high + air)


def efficiency_figure(lines: Mapping[str, Efficiency]) -> LineFigure | None:
    """Interquartile mean over all environments while training, if any architecture has all of them."""
    of = {a: Line(e.share, e.iqm, e.low, e.high, e.n) for a, e in lines.items()}
    if not of:
        return None
    return LineFigure(
        "sample-efficiency",
        "Sample efficiency",
        "Interquartile mean of normalised scores over all environments while training, with 95 % bootstrap bands",
        "share of the training budget",
        "IQM of normalised scores",
        of,
        (0.0, 1.02),
        _within(0.0, 1.0, of),
    )


def profile_figure(profiles: Mapping[str, tuple[Floats, Floats, Floats]]) -> LineFigure | None:
    """Performance profiles, if there is a run at all."""
    of = {a: Line(THRESHOLDS, *found) for a, found in profiles.items()}
    if not of:
        return None
    return LineFigure(
        "profiles",
        "Performance profile",
        "Share of runs whose normalised score is above each threshold, with 95 % bootstrap bands",
        "normalised score",
        "share of runs above",
        of,
        (0.0, 1.02),
        (-0.03, 1.03),
    )


def attempt_figures(collection: Collection) -> list[LineFigure]:
    """Adaptation: metrics called ``<metric>_attempt_<k>``, over k, for each environment that logs them."""
    groups: dict[str, dict[int, Floats]] = {}
    for column in collection.episodes.column_names:
        if match := re.fullmatch(r"(\w+)_attempt_(\d+)", column):
            groups.setdefault(match[1], {})[int(match[2])] = collection.episode_means(column)
    figures = []
    for metric, by_attempt in groups.items():
        table = np.stack([by_attempt[k] for k in sorted(by_attempt)])
        attempts = np.array([k + 1.0 for k in sorted(by_attempt)])
        for environment in collection.grid.environments:
            of = {}
            for architecture in collection.grid.architectures:
                members = [
                    i
                    for i, r in enumerate(collection.runs)
                    if (r.cell.environment, r.cell.architecture) == (environment.name, architecture)
                ]
                known = np.isfinite(table[:, members]).any(axis=1)
                if members and known.sum() > 1:
                    runs = [table[known, i] for i in members]
                    band = curve_band(runs)
                    of[architecture] = Line(
                        attempts[known],
                        *band,
                        len(runs),
                        () if np.isfinite(band[1]).any() or len(runs) < 2 else runs,
                    )
            if of:
                label = metric.replace("_", " ")
                seen = sorted({float(x) for line in of.values() for x in line.x})
                figures.append(
                    LineFigure(
                        f"attempts-{environment.name}-{metric}",
                        f"{environment.name}: adaptation",
                        f"{environment.name}: {label} by attempt, mean over runs and 95 % t band",
                        "attempt",
                        label,
                        of,
                        y_range=_within(0.0, 1.0, of) if metric == "success" else None,
                        ticks=tuple(seen) if len(seen) <= FEW_POINTS else (),
                    )
                )
    return figures


def horizon_figures(grid: Grid, scores: Mapping[tuple[str, str], Floats]) -> list[LineFigure]:
    """Scores over one numeric parameter, where at least three environments differ in nothing else.

    T-Maze's corridor against success is the figure that this is for.
    """
    families: dict[tuple[str, str, str], dict[float, Environment]] = {}
    for environment in grid.environments:
        for key, value in environment.params.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                rest = repr(sorted((k, v) for k, v in environment.params.items() if k != key))
                families.setdefault((environment.id, key, rest), {})[float(value)] = environment
    figures = []
    for (identity, key, _), members in families.items():
        if len(members) < 3:
            continue
        of = {}
        for architecture in grid.architectures:
            x = sorted(v for v, e in members.items() if (e.name, architecture) in scores)
            if len(x) < 2:
                continue
            found = [summarise(scores[members[v].name, architecture]) for v in x]
            low, high = (np.array([getattr(f.interval, end) for f in found]) for end in ("low", "high"))
            of[architecture] = Line(
                np.array(x), np.array([f.mean for f in found]), low, high, min(f.n for f in found)
            )
        if of:
            score = next(iter(members.values())).score
            metric, quantity = score.metric.replace("_", " "), key.replace("_", " ")
            figures.append(
                LineFigure(
                    f"horizon-{identity}-{key}",
                    f"{identity}: {metric} by {quantity}",
                    f"{identity}: {metric} of the final policy by {quantity}, mean over runs and 95 % t interval",
                    quantity,
                    metric,
                    of,
                    y_range=_within(score.low, score.high, of),
                    ticks=tuple(sorted(members)) if len(members) <= FEW_POINTS else (),
                    logarithmic=max(members) > 10 * max(min(members), 1e-9),
                )
            )
    return figures
