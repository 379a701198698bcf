"""Is architecture A better than B, and how sure can these runs make us?

Within one environment: Welch's interval of the difference of means. Across environments: the
resampled difference of interquartile means. The plain percentile interval is too narrow for
few runs (it resamples n values as if their spread were the true one), so the verdict uses
Hesterberg's (2015, The American Statistician 69) *expanded* percentiles: the tail probability
is moved to where the t quantile and the factor sqrt(n / (n - 1)) put it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from amago_suite.analysis.bootstrap import Pool
from amago_suite.statistics import FEWEST_RUNS, LEVEL, Floats, Interval, satterthwaite, welch_interval

#: Differences below this share of the normalised range do not matter, unless said otherwise.
MARGIN = 0.05
#: More seeds than this are not a plan.
_MOST_SEEDS = 100_000

BETTER, WORSE, COMPARABLE, INCONCLUSIVE = "better", "worse", "comparable", "inconclusive"
TOO_FEW = "too few runs"
DOMINATED = "none: the environments dominate"


def verdict(low: float, high: float, margin: float) -> str:
    """What an interval of A - B says.

    Args:
        low, high: the interval, in a scale where more is better; NaN for "none".
        margin: differences inside +-margin do not matter.

    Returns:
        ``better`` (low > 0), ``worse`` (high < 0), ``comparable`` (inside the margin),
        ``better, comparable`` or ``worse, comparable`` when both hold, ``inconclusive``,
        or ``too few runs``.
    """
    if not (np.isfinite(low) and np.isfinite(high)):
        return TOO_FEW
    words = []
    if low > 0:
        words.append(BETTER)
    elif high < 0:
        words.append(WORSE)
    if -margin <= low and high <= margin:
        words.append(COMPARABLE)
    return ", ".join(words) or INCONCLUSIVE


@dataclass(frozen=True)
class Comparison:
    """A against B.

    Attributes:
        difference: A - B, more is better.
        interval: of the difference.
        verdict: see ``verdict``.
        seeds_needed: further seeds for every (environment, architecture) that would settle
            an inconclusive comparison if the difference and spread stay as they are; 0 when it
            is settled; ``DOMINATED`` where no number would; ``None`` when unknown.
        power: chance that a true difference of twice the margin is found with these runs.
    """

    difference: float
    interval: Interval
    verdict: str
    seeds_needed: int | str | None
    power: float


def power_of(margin: float, se: float, freedom: float, level: float = LEVEL) -> float:
    """Chance that a true difference of twice the margin comes out as ``better``.

    Args:
        margin: as in the verdict.
        se: standard error of the difference.
        freedom: its degrees of freedom.

    Returns:
        The probability, by the noncentral t distribution; NaN without a standard error.
    """
    if not np.isfinite(se) or np.isnan(freedom):
        return float("nan")
    if se == 0.0:
        return 1.0 if margin > 0 else 0.0
    critical = stats.t.ppf(0.5 + level / 2, freedom)
    return float(stats.nct.sf(critical, freedom, 2.0 * margin / se))


def seeds_needed(
    difference: float, margin: float, variance: float, freedom: float, runs: int, level: float = LEVEL
) -> int | None:
    """Further runs until the half-width fits beside the difference.

    The comparison is settled when the half-width is below ``max(|d|, margin - |d|)``: then the
    interval leaves zero, or fits inside the margin.

    Args:
        difference: d.
        margin: as in the verdict.
        variance: squared standard error of the difference at ``runs`` runs a side.
        freedom: its degrees of freedom, which grow in proportion to the runs less one.
        runs: n of the smaller side.

    Returns:
        Runs to add, or ``None`` where that is beyond any plan.
    """
    target = max(abs(difference), margin - abs(difference))
    if target <= 0.0:
        return None
    per_run = freedom / max(runs - 1, 1)

    def settled(n: int) -> bool:
        half = stats.t.ppf(0.5 + level / 2, per_run * (n - 1)) * np.sqrt(variance * runs / n)
        return bool(half < target)

    if not settled(_MOST_SEEDS):
        return None
    low, high = max(runs, 2) - 1, _MOST_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if settled(middle) else (middle, high)
    return high - runs


def compare_runs(a: ArrayLike, b: ArrayLike, margin: float, level: float = LEVEL) -> Comparison:
    """One environment.

    Args:
        a, b: (n,) and (m,) run scores, turned so that more is better.
        margin: in the unit of the scores.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    difference, interval, freedom = welch_interval(x, y, level)
    said = verdict(interval.low, interval.high, margin)
    if said == TOO_FEW:
        return Comparison(difference, interval, said, None, float("nan"))
    variance = _mean_variance(x) + _mean_variance(y)
    return Comparison(
        difference,
        interval,
        said,
        _needed(said, difference, margin, variance, freedom, min(x.size, y.size), level),
        power_of(margin, float(np.sqrt(variance)), freedom, level),
    )


def compare_pools(
    a: Pool, b: Pool, distribution: Floats, difference: float, margin: float, level: float = LEVEL
) -> Comparison:
    """Across environments, these environments being all that is asked about.

    Args:
        a, b: pools over the same environments, scores normalised.
        distribution: (R,) resampled A - B, runs drawn independently on both sides.
        difference: the point estimate.
        margin: on the normalised scale.
    """
    fewest = int(min(a.sizes.min(), b.sizes.min()))
    if fewest < FEWEST_RUNS:
        none = Interval(float("nan"), float("nan"), f"none: fewer than {FEWEST_RUNS} runs in an environment")
        return Comparison(difference, none, TOO_FEW, None, float("nan"))
    variances = np.concatenate([_stratum_variances(a), _stratum_variances(b)])
    sizes = np.concatenate([a.sizes, b.sizes])
    freedom = satterthwaite(variances, sizes - 1)
    resampled = float((variances * (sizes - 1) / sizes).sum())
    inflation = float(np.sqrt(variances.sum() / resampled)) if resampled > 0 else 1.0
    low, high = expanded_interval(distribution, inflation, freedom, level)
    said = verdict(low, high, margin)
    # The statistic's own spread, as its resampled distribution shows it.
    variance = float(distribution.var()) * inflation**2
    return Comparison(
        difference,
        Interval(low, high, "stratified bootstrap, expanded percentiles"),
        said,
        _needed(said, difference, margin, variance, freedom, fewest, level),
        power_of(margin, float(np.sqrt(variance)), freedom, level),
    )


def compare_environments(
    a: Pool, b: Pool, distribution: Floats, difference: float, margin: float, level: float = LEVEL
) -> Comparison:
    """Across environments like these: the environments are a sample too.

    Args:
        a, b: as in ``compare_pools``.
        distribution: (R,) resampled A - B, environments drawn first (the same for both).
        difference: the point estimate.
        margin: on the normalised scale.
    """
    count = a.sizes.size
    if count < FEWEST_RUNS or min(a.sizes.min(), b.sizes.min()) < FEWEST_RUNS:
        none = Interval(float("nan"), float("nan"), "none: fewer than 3 environments or runs")
        return Comparison(difference, none, TOO_FEW, None, float("nan"))
    freedom = float(count - 1)
    inflation = float(np.sqrt(count / (count - 1)))
    low, high = expanded_interval(distribution, inflation, freedom, level)
    said = verdict(low, high, margin)
    variance = float(distribution.var()) * inflation**2
    needed: int | str | None = 0
    if said == INCONCLUSIVE:
        needed = _needed_beyond_environments(a, b, difference, margin, level)
    return Comparison(
        difference,
        Interval(low, high, "bootstrap over environments and runs, expanded percentiles"),
        said,
        needed,
        power_of(margin, float(np.sqrt(variance)), freedom, level),
    )


def _needed_beyond_environments(
    a: Pool, b: Pool, difference: float, margin: float, level: float
) -> int | str | None:
    """Seeds that settle the comparison although the environments differ among themselves.

    The variance of the environments' differences is theirs plus the seeds'; only the second
    part shrinks with more seeds.
    """
    count = a.sizes.size
    differences = _means(a) - _means(b)
    seeds = (_stratum_variances(a) + _stratum_variances(b)).sum()  # of the mean difference
    total = float(differences.var(ddof=1)) / count
    floor = max(total - float(seeds), 0.0)
    target = max(abs(difference), margin - abs(difference))
    critical = float(stats.t.ppf(0.5 + level / 2, count - 1))
    left = (target / critical) ** 2 - floor
    if left <= 0.0:
        return DOMINATED
    runs = int(min(a.sizes.min(), b.sizes.min()))
    return max(1, int(np.ceil(float(seeds) * runs / left)) - runs)


def expanded_interval(
    distribution: Floats, inflation: float, freedom: float, level: float = LEVEL
) -> tuple[float, float]:
    """Percentile interval with its tails moved out (Hesterberg 2015, section 5.3).

    Args:
        distribution: (R,) resampled statistic.
        inflation: true standard error over the bootstrap's, sqrt(n / (n - 1)) for equal n.
        freedom: degrees of freedom of the standard error; infinite for "known".
    """
    critical = float(stats.t.ppf(0.5 + level / 2, freedom)) if np.isfinite(freedom) else 0.0
    if critical == 0.0:
        critical = float(stats.norm.ppf(0.5 + level / 2))
    tail = 100.0 * float(stats.norm.cdf(-inflation * critical))
    low, high = np.percentile(distribution, [tail, 100.0 - tail])
    return float(low), float(high)


def _needed(
    said: str, difference: float, margin: float, variance: float, freedom: float, runs: int, level: float
) -> int | None:
    """0 when settled; else what ``seeds_needed`` says, at least 1."""
    if said != INCONCLUSIVE:
        return 0
    more = seeds_needed(difference, margin, variance, freedom, runs, level)
    return None if more is None else max(1, more)


def _mean_variance(x: Floats) -> float:
    """Squared standard error of the mean."""
    return 0.0 if np.all(x == x[0]) else float(x.var(ddof=1) / x.size)


def _means(pool: Pool) -> Floats:
    return np.array([g.mean() for g in pool.groups()])


def _stratum_variances(pool: Pool) -> Floats:
    """(E,) what each environment adds to the squared standard error of the mean over them."""
    return np.array([_mean_variance(g) for g in pool.groups()]) / pool.sizes.size**2
