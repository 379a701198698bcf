"""Numbers that describe runs: point estimates and the t interval of one environment.

The run (the seed) is the unit of replication. Episodes are averaged within their run before
anything here sees them. What resamples lives in ``analysis/bootstrap.py``, what compares two
architectures in ``analysis/comparisons.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]

#: Below this many runs no interval is given: a spread of two says nearly nothing.
FEWEST_RUNS = 3
#: Below this many runs the t interval leans on normality more than on the data.
FEW_RUNS = 5
LEVEL = 0.95
TRIM = 0.25

METHOD_T = "t"
METHOD_T_FEW = "t, assumes normal"
METHOD_T_EQUAL = "t, all runs equal"
METHOD_NONE = "none: fewer than 3 runs"


@dataclass(frozen=True)
class Interval:
    """A two-sided interval; ``low`` and ``high`` are NaN where ``method`` says none was given."""

    low: float
    high: float
    method: str

    @property
    def given(self) -> bool:
        """Whether there is an interval at all."""
        return bool(np.isfinite(self.low) and np.isfinite(self.high))

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Summary:
    """One environment, one architecture: what its runs say.

    Attributes:
        n: runs.
        mean, se, iqm: of the run scores; ``se`` is NaN for one run.
        interval: of the mean.
    """

    n: int
    mean: float
    se: float
    iqm: float
    interval: Interval


def _vector(values: ArrayLike) -> Floats:
    """``values`` as a flat float64 vector; refuses NaN, infinity and nothing at all."""
    vector = np.asarray(values, dtype=np.float64).reshape(-1)
    if vector.size == 0:
        raise ValueError("no runs")
    if not np.isfinite(vector).all():
        raise ValueError("a run's score is not a finite number")
    return vector


def t_interval(values: ArrayLike, level: float = LEVEL) -> Interval:
    """Student's interval of the mean of runs.

    Args:
        values: (n,) run scores.
        level: nominal coverage.

    Returns:
        mean +- t(n - 1) s / sqrt(n); no interval below ``FEWEST_RUNS``.

    Raises:
        ValueError: no runs, or one that is not finite.
    """
    x = _vector(values)
    if x.size < FEWEST_RUNS:
        return Interval(float("nan"), float("nan"), METHOD_NONE)
    centre = float(x.mean())
    if np.all(x == x[0]):
        return Interval(float(x[0]), float(x[0]), METHOD_T_EQUAL)
    half = float(stats.t.ppf(0.5 + level / 2, x.size - 1) * x.std(ddof=1) / np.sqrt(x.size))
    return Interval(centre - half, centre + half, METHOD_T_FEW if x.size < FEW_RUNS else METHOD_T)


def iqm(values: ArrayLike) -> float:
    """Interquartile mean: the mean once a quarter of the values is cut at either end.

    ``floor(n / 4)`` values are cut at each end (Agarwal et al. 2021), so below 4 runs it is
    the mean.

    Args:
        values: any shape; flattened.

    Raises:
        ValueError: no values, or one that is not finite.
    """
    x = np.sort(_vector(values))
    cut = int(TRIM * x.size)
    return float(x[cut : x.size - cut].mean())


def summarise(values: ArrayLike, level: float = LEVEL) -> Summary:
    """Everything a row of the score table says about (n,) run scores."""
    x = _vector(values)
    se = float(x.std(ddof=1) / np.sqrt(x.size)) if x.size > 1 else float("nan")
    return Summary(n=x.size, mean=float(x.mean()), se=se, iqm=iqm(x), interval=t_interval(x, level))


def normalise(values: ArrayLike, low: float, high: float, direction: str = "higher") -> Floats:
    """Scores on the common scale: 0 at the poor bound, 1 at the good one; not clipped.

    Args:
        values: any shape.
        low, high: the two bounds in either order; the poor one is the smaller when higher is
            better, the larger when lower is better.
        direction: ``"higher"`` or ``"lower"`` is better.

    Raises:
        ValueError: the bounds are equal or not finite, or the direction is unknown.
    """
    if direction not in ("higher", "lower"):
        raise ValueError(f"direction must be 'higher' or 'lower', got {direction!r}")
    small, large = sorted((float(low), float(high)))
    if not (np.isfinite(small) and np.isfinite(large)) or small == large:
        raise ValueError(f"bounds must be two different finite numbers, got {low} and {high}")
    scaled = (np.asarray(values, dtype=np.float64) - small) / (large - small)
    return scaled if direction == "higher" else 1.0 - scaled


def welch_interval(a: ArrayLike, b: ArrayLike, level: float = LEVEL) -> tuple[float, Interval, float]:
    """Difference of two means of independent runs (Welch 1947).

    Args:
        a, b: (n,) and (m,) run scores.
        level: nominal coverage.

    Returns:
        mean(a) - mean(b); its interval; Satterthwaite's degrees of freedom (infinite where
        neither side varies, NaN where no interval is given).
    """
    x, y = _vector(a), _vector(b)
    difference = float(x.mean() - y.mean())
    if min(x.size, y.size) < FEWEST_RUNS:
        return difference, Interval(float("nan"), float("nan"), METHOD_NONE), float("nan")
    variances = np.array([_variance(x) / x.size, _variance(y) / y.size])
    freedom = satterthwaite(variances, np.array([x.size - 1, y.size - 1]))
    if np.isinf(freedom):
        return difference, Interval(difference, difference, METHOD_T_EQUAL), freedom
    half = float(stats.t.ppf(0.5 + level / 2, freedom) * np.sqrt(variances.sum()))
    few = min(x.size, y.size) < FEW_RUNS
    method = METHOD_T_FEW if few else METHOD_T
    return difference, Interval(difference - half, difference + half, method), freedom


def _variance(x: Floats) -> float:
    """Sample variance, exactly 0 for equal values (the mean of equal floats may round)."""
    return 0.0 if np.all(x == x[0]) else float(x.var(ddof=1))


def satterthwaite(variances: ArrayLike, freedoms: ArrayLike) -> float:
    """Degrees of freedom of a sum of independent variance estimates (Satterthwaite 1946).

    Args:
        variances: (k,) estimated variances of the summed terms.
        freedoms: (k,) their degrees of freedom.

    Returns:
        The effective number; infinite where every variance is 0.
    """
    v = np.asarray(variances, dtype=np.float64)
    below = float((v**2 / np.asarray(freedoms, dtype=np.float64)).sum())
    return float("inf") if below == 0.0 else float(v.sum() ** 2 / below)


def curve_band(curves: Sequence[ArrayLike], level: float = LEVEL) -> tuple[Floats, Floats, Floats]:
    """Mean and pointwise t band over seeds of learning curves on one grid of steps.

    Args:
        curves: one (points,) array a run; NaN where a run has no value (yet).
        level: nominal coverage at each point.

    Returns:
        mean, low, high: each (points,). The band is NaN where fewer than ``FEWEST_RUNS``
        runs have a value, the mean where none has.
    """
    table_RP = np.stack([np.asarray(c, dtype=np.float64) for c in curves])
    present = np.isfinite(table_RP)
    n = present.sum(axis=0)
    total = np.where(present, table_RP, 0.0).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / n
        squares = np.where(present, (table_RP - mean) ** 2, 0.0).sum(axis=0)
        half = stats.t.ppf(0.5 + level / 2, np.maximum(n - 1, 1)) * np.sqrt(squares / (n - 1) / n)
    half = np.where(n >= FEWEST_RUNS, half, np.nan)
    return mean, mean - half, mean + half
