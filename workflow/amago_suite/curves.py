"""Learning curves: what runs scored while they trained, on a common grid of steps."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from amago_suite.collect import Collection, Run
from amago_suite.grid import Environment, Grid
from amago_suite.statistics import Floats, curve_band, iqm, normalise, summarise

#: Points of a curve: more than a figure can show, few enough for a page of fifty figures.
POINTS = 60


@dataclass(frozen=True)
class Curve:
    """One architecture on one environment.

    Attributes:
        n: runs that have a curve.
        steps: (P,) environment steps.
        runs: (n, P) each run's values; NaN before it has one and after it ends.
        mean, low, high: (P,) over runs, with a pointwise 95 % t band (NaN below 3 runs).
    """

    n: int
    steps: Floats
    runs: Floats
    mean: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Curves:
    """All architectures on one environment.

    Attributes:
        environment: which one.
        column: of ``progress.csv``.
        of: architecture -> its curve.
    """

    environment: Environment
    column: str
    of: dict[str, Curve]

    @property
    def label(self) -> str:
        """What the curves show, in words."""
        kind, _, metric = self.column.partition("_")
        return f"{'validation' if kind == 'val' else 'training'} {metric.replace('_', ' ')}"


def learning_curves(collection: Collection) -> list[Curves]:
    """The curves of every environment that has some, in the grid's order."""
    found = []
    for environment in collection.grid.environments:
        runs = [r for r in collection.runs if r.cell.environment == environment.name]
        column = _column(runs, environment.score.metric)
        if column is None:
            continue
        runs = [r for r in runs if np.isfinite(r.progress.get(column, np.array([np.nan]))).any()]
        last = max(float(np.nanmax(r.progress["env_steps"])) for r in runs)
        points = min(POINTS, max(int(np.isfinite(r.progress[column]).sum()) for r in runs))
        of = {}
        for architecture in collection.grid.architectures:
            members = [r for r in runs if r.cell.architecture == architecture]
            if members:
                table = np.stack([_resampled(r, column, last, points) for r in members])
                mean, low, high = curve_band(list(table))
                steps = np.linspace(0.0, last, points + 1)[1:]
                of[architecture] = Curve(len(members), steps, table, mean, low, high)
        found.append(Curves(environment, column, of))
    return found


def _column(runs: list[Run], metric: str) -> str | None:
    """The column to draw: validation of the score if there is one, else the nearest thing."""
    for name in (f"val_{metric}", f"train_{metric}", "val_return", "train_return"):
        if any(np.isfinite(r.progress.get(name, np.array([np.nan]))).any() for r in runs):
            return name
    return None


def _resampled(run: Run, column: str, last: float, points: int) -> Floats:
    """(points,) means of the run's values in equal spans of steps; inner gaps are bridged."""
    steps, values = run.progress["env_steps"], run.progress[column]
    known = np.isfinite(values) & np.isfinite(steps)
    span = np.clip(np.ceil(steps[known] / last * points - 1e-9).astype(int) - 1, 0, points - 1)
    count = np.bincount(span, minlength=points)
    total = np.bincount(span, weights=values[known], minlength=points)
    filled = np.flatnonzero(count)
    out = np.interp(np.arange(points), filled, total[filled] / count[filled])
    out[: filled[0]] = np.nan
    out[filled[-1] + 1 :] = np.nan
    return out


def sample_efficiency(curves: list[Curves], points: int = 40) -> dict[str, tuple[Floats, Floats]]:
    """Interquartile mean of normalised scores over all runs against the share of the budget.

    Args:
        curves: of every environment; those whose curve is not of their score are left out.
        points: of the result.

    Returns:
        architecture -> (share of the budget (points,), interquartile mean (points,)), for the
        architectures that have every environment.
    """
    usable = [c for c in curves if c.column.partition("_")[2] == c.environment.score.metric]
    if not usable:
        return {}
    share = np.linspace(0.0, 1.0, points + 1)[1:]
    result = {}
    for architecture in dict.fromkeys(a for c in usable for a in c.of):
        if not all(architecture in c.of for c in usable):
            continue
        rows = []
        for c in usable:
            score, curve = c.environment.score, c.of[architecture]
            for run in normalise(curve.runs, score.low, score.high, score.direction):
                known = np.isfinite(run)
                x = curve.steps[known] / curve.steps[-1]
                rows.append(np.interp(share, x, run[known], left=np.nan, right=np.nan))
        table = np.stack(rows)
        line = [iqm(column) if np.isfinite(column).all() else np.nan for column in table.T]
        if np.isfinite(line).sum() > 1:
            result[architecture] = share, np.array(line)
    return result


# -- scores over something else than training time ----------------------------------------------------


@dataclass(frozen=True)
class SeriesFigure:
    """Scores over a quantity such as corridor length or attempt.

    Attributes:
        name, title, x_label, y_label: of the figure.
        of: architecture -> (x, mean, low, high), each (points,).
        logarithmic: whether x spans more than a decade.
    """

    name: str
    title: str
    x_label: str
    y_label: str
    of: dict[str, tuple[Floats, Floats, Floats, Floats]]
    logarithmic: bool = False


def attempt_curves(collection: Collection) -> list[SeriesFigure]:
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
                known = (
                    np.isfinite(table[:, members]).any(axis=1) if members else np.zeros(len(attempts), bool)
                )
                if known.sum() > 1:
                    band = curve_band([table[known, i] for i in members])
                    of[architecture] = (attempts[known], *band)
            if of:
                name = f"attempts-{environment.name}-{metric}"
                label = metric.replace("_", " ")
                figures.append(SeriesFigure(name, f"{environment.name}: adaptation", "attempt", label, of))
    return figures


def horizon_curves(grid: Grid, scores: Mapping[tuple[str, str], Floats]) -> list[SeriesFigure]:
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
            low, high = ([getattr(f.interval, end) for f in found] for end in ("low", "high"))
            of[architecture] = np.array(x), np.array([f.mean for f in found]), np.array(low), np.array(high)
        metric = next(iter(members.values())).score.metric.replace("_", " ")
        wide = max(members) > 10 * max(min(members), 1e-9)
        if of:
            figures.append(
                SeriesFigure(f"horizon-{identity}-{key}", identity, key.replace("_", " "), metric, of, wide)
            )
    return figures
