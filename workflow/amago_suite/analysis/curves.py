"""Learning curves: what runs scored while they trained, on a common grid of steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from amago_suite.analysis import bootstrap as bs
from amago_suite.analysis.collect import Collection, Run
from amago_suite.grid import Environment
from amago_suite.statistics import FEWEST_RUNS, Floats, curve_band, normalise

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


@dataclass(frozen=True)
class Efficiency:
    """One architecture over all environments while it trains.

    Attributes:
        n: runs of the environment that has fewest.
        share: (P,) of the training budget.
        iqm, low, high: (P,) interquartile mean of normalised scores, with a pointwise 95 % stratified
            bootstrap band (NaN where an environment has fewer than 3 runs); NaN where a run has no value.
    """

    n: int
    share: Floats
    iqm: Floats
    low: Floats
    high: Floats


def sample_efficiency(
    curves: list[Curves], points: int = 40, resamples: int = bs.BAND_RESAMPLES
) -> dict[str, Efficiency]:
    """Interquartile mean of normalised scores over all runs against the share of the budget.

    Args:
        curves: of every environment; those whose curve is not of their score are left out.
        points: of the result.
        resamples: of the bands.

    Returns:
        Architecture -> its line, for the architectures that have every environment.
    """
    usable = [c for c in curves if c.column.partition("_")[2] == c.environment.score.metric]
    share = np.linspace(0.0, 1.0, points + 1)[1:]
    result = {}
    for architecture in dict.fromkeys(a for c in usable for a in c.of):
        if not all(architecture in c.of for c in usable):
            continue
        groups = [_normalised(c, architecture, share) for c in usable]
        known = np.isfinite(np.concatenate(groups)).all(axis=0)
        if known.sum() < 2:
            continue
        lines = np.full((3, points), np.nan)
        lines[:, known] = _iqm_band([g[:, known] for g in groups], architecture, resamples)
        result[architecture] = Efficiency(min(len(g) for g in groups), share, *lines)
    return result


def _normalised(curves: Curves, architecture: str, share: Floats) -> Floats:
    """(n, P) normalised scores of each run at these shares of the budget; NaN where it has none."""
    score, curve = curves.environment.score, curves.of[architecture]
    rows = []
    for run in normalise(curve.runs, score.low, score.high, score.direction):
        known = np.isfinite(run)
        x = curve.steps[known] / curve.steps[-1]
        rows.append(np.interp(share, x, run[known], left=np.nan, right=np.nan))
    return np.stack(rows)


def _iqm_band(groups: list[Floats], name: str, resamples: int) -> Floats:
    """(3, P) interquartile mean, low and high over the runs of (n, P) curves of each environment.

    A resample draws whole runs, so that all points of a curve are drawn together.
    """
    pools = [bs.Pool.of([g[:, p] for g in groups]) for p in range(groups[0].shape[1])]
    line = np.array([bs.point(pool, ("iqm",))["iqm"] for pool in pools])
    if min(len(g) for g in groups) < FEWEST_RUNS:
        return np.stack([line, np.full_like(line, np.nan), np.full_like(line, np.nan)])
    mass = bs.draw(pools[0], resamples, bs.stream(bs.SEED, "efficiency", name)) * pools[0].weights
    drawn = np.stack([bs.evaluate(pool, mass, ("iqm",))["iqm"] for pool in pools], axis=1)
    return np.stack([line, *bs.bands(drawn)])
