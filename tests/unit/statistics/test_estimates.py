"""Point estimates and t intervals against closed forms and slow independent versions."""

import math

import numpy as np
import pytest
from scipy import stats

from amago_suite.statistics import (
    Interval,
    curve_band,
    iqm,
    normalise,
    satterthwaite,
    summarise,
    t_interval,
    welch_interval,
)


def test_t_interval_is_students() -> None:
    """Guards level, degrees of freedom and the n - 1 in the variance: a table's value by hand."""
    interval = t_interval([1.0, 2.0, 3.0])
    assert (interval.low, interval.high) == pytest.approx(
        (2 - 4.302652729911275 / math.sqrt(3), 2 + 4.302652729911275 / math.sqrt(3))
    )
    x = np.random.default_rng(0).normal(size=9)
    assert (t_interval(x).low, t_interval(x).high) == pytest.approx(
        stats.ttest_1samp(x, 0).confidence_interval()
    )


def test_few_runs_are_said_to_be_few() -> None:
    """No interval below 3 runs, a label below 5, and never a silent zero width."""
    assert [t_interval(range(n)).method for n in (1, 2, 3, 4, 5)] == [
        "none: fewer than 3 runs", "none: fewer than 3 runs", "t, assumes normal", "t, assumes normal", "t",
    ]  # fmt: skip
    assert not t_interval([0.0, 1.0]).given
    assert t_interval([1.0] * 3) == Interval(1.0, 1.0, "t, all runs equal")
    assert t_interval([0.1] * 7).low == 0.1  # the mean of equal floats must not round
    one = summarise([0.4])
    assert (one.n, one.mean, one.iqm) == (1, 0.4, 0.4) and math.isnan(one.se)


@pytest.mark.parametrize("bad", [[], [1.0, float("nan")], [float("inf"), 1.0, 2.0]])
def test_nan_is_refused(bad: list[float]) -> None:
    """NaN must not pass through into a table."""
    for function in (t_interval, iqm, summarise):
        with pytest.raises(ValueError):
            function(bad)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 8, 15, 40])
def test_iqm_is_scipys_trimmed_mean(n: int) -> None:
    """Whole values are cut: floor(n / 4) at each end, so below 4 it is the mean."""
    x = np.random.default_rng(n).normal(size=n)
    assert iqm(x) == pytest.approx(stats.trim_mean(x, 0.25), abs=1e-12)
    if n < 4:
        assert iqm(x) == pytest.approx(x.mean())


def test_normalising_turns_lower_is_better() -> None:
    """0 is the poor bound, 1 the good one, whichever way the bounds are written down."""
    assert normalise([1.0, 2.0, 4.0], 1.0, 3.0).tolist() == [0.0, 0.5, 1.5]
    for low, high in ((0.0, 3.0), (3.0, 0.0)):
        assert normalise([3.0, 0.0, 0.75], low, high, "lower").tolist() == [0.0, 1.0, 0.75]
    for bad in ((1.0, 1.0, "higher"), (0.0, float("inf"), "higher"), (0.0, 1.0, "up")):
        with pytest.raises(ValueError):
            normalise([1.0], *bad)


def test_welch_is_scipys() -> None:
    """Unequal variances and sizes; the degrees of freedom with them."""
    rng = np.random.default_rng(2)
    a, b = rng.normal(1, 1, 4), rng.normal(0, 3, 9)
    expected = stats.ttest_ind(a, b, equal_var=False)
    difference, interval, freedom = welch_interval(a, b)
    low, high = expected.confidence_interval()
    assert (interval.low, interval.high) == pytest.approx((low, high))
    assert (difference, freedom) == pytest.approx((a.mean() - b.mean(), expected.df))
    assert not welch_interval([1, 2], [1, 2, 3])[1].given
    assert satterthwaite([0.0, 0.0], [2, 2]) == float("inf")
    assert satterthwaite([1.0, 1.0], [4, 4]) == pytest.approx(8.0)


def test_curve_band_is_the_t_interval_at_each_point() -> None:
    """Pointwise, over the runs that have a value there; no band from two."""
    curves = [np.array([0.0, 1.0, 5.0]), np.array([1.0, 3.0, np.nan]), np.array([2.0, 2.0, 4.0])]
    mean, low, high = curve_band(curves)
    for i in (0, 1):
        expected = t_interval([c[i] for c in curves])
        assert (mean[i], low[i], high[i]) == pytest.approx(
            (np.mean([c[i] for c in curves]), expected.low, expected.high)
        )
    assert mean[2] == 4.5 and np.isnan(low[2]) and np.isnan(high[2])


def test_t_interval_covers() -> None:
    """95 % means 95 %: 20,000 simulated means of 3 and 5 normal runs (4 standard errors)."""
    rng = np.random.default_rng(3)
    for n in (3, 5):
        x = rng.normal(size=(20_000, n))
        half = stats.t.ppf(0.975, n - 1) * x.std(axis=1, ddof=1) / np.sqrt(n)
        # The vectorised twin must be the function itself.
        one = t_interval(x[0])
        assert (one.low, one.high) == pytest.approx((x[0].mean() - half[0], x[0].mean() + half[0]))
        held = (np.abs(x.mean(axis=1)) <= half).mean()
        assert abs(held - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 20_000)
