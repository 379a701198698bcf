"""Verdicts, seeds still needed, power: against planted truths."""

import numpy as np
import pytest
from scipy import stats

from amago_suite.analysis.across import LIKE_THESE, THESE, Across
from amago_suite.analysis.bootstrap import Pool, bootstrap, point
from amago_suite.analysis.comparisons import (
    DOMINATED,
    compare_environments,
    compare_pools,
    compare_runs,
    expanded_interval,
    power_of,
    seeds_needed,
    verdict,
)
from amago_suite.grid import Environment, Grid, Score


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.01, 0.2, "better"),
        (-0.2, -0.01, "worse"),
        (-0.04, 0.04, "comparable"),
        (0.01, 0.04, "better, comparable"),
        (-0.04, -0.01, "worse, comparable"),
        (-0.04, 0.06, "inconclusive"),
        (0.0, 0.2, "inconclusive"),
        (float("nan"), float("nan"), "too few runs"),
    ],
)
def test_verdict(low: float, high: float, said: str) -> None:
    """The words of the contract, at a margin of 0.05."""
    assert verdict(low, high, 0.05) == said


def across(
    groups_a: list[np.ndarray], groups_b: list[np.ndarray], resamples: int
) -> tuple[float, np.ndarray, Pool, Pool]:
    a, b = Pool.of(groups_a), Pool.of(groups_b)
    drawn = bootstrap({"a": a, "b": b}, resamples=resamples, statistics=("iqm",), seed=1).statistics
    difference = point(a, ("iqm",))["iqm"] - point(b, ("iqm",))["iqm"]
    return difference, drawn["a"]["iqm"] - drawn["b"]["iqm"], a, b


@pytest.mark.parametrize(("n", "environments"), [(3, 6), (5, 12), (10, 3)])
def test_equal_architectures_are_rarely_told_apart(n: int, environments: int) -> None:
    """`better` or `worse` in at most 7 % of simulations when nothing differs, over environments.

    600 simulations; the plain percentile interval says it in 12 to 15 % at n = 3.
    """
    rng = np.random.default_rng([n, environments])
    level, spread = rng.random(environments), rng.uniform(0.02, 0.2, environments)
    wrong = 0
    for _ in range(600):
        a, b = ([rng.normal(m, s, n) for m, s in zip(level, spread, strict=True)] for _ in "ab")
        difference, distribution, pa, pb = across(a, b, 600)
        said = compare_pools(pa, pb, distribution, difference, 0.05).verdict
        wrong += said.startswith(("better", "worse"))
    assert wrong / 600 <= 0.07


def test_equal_architectures_within_one_environment() -> None:
    """The same for Welch's interval, at 3 and 5 runs of unequal spread."""
    rng = np.random.default_rng(11)
    for n, m in ((3, 3), (5, 3), (5, 5)):
        said = [compare_runs(rng.normal(0, 1, n), rng.normal(0, 2, m), 0.1).verdict for _ in range(1500)]
        assert sum(s.startswith(("better", "worse")) for s in said) / 1500 <= 0.07


def test_power_is_what_simulations_find() -> None:
    """A difference of twice the margin is found with the stated power."""
    rng = np.random.default_rng(12)
    n, sigma, margin = 5, 0.08, 0.05
    stated = power_of(margin, sigma * np.sqrt(2 / n), 2 * (n - 1))
    found = np.mean(
        [
            compare_runs(
                rng.normal(2 * margin, sigma, n), rng.normal(0, sigma, n), margin
            ).verdict.startswith("better")
            for _ in range(3000)
        ]
    )
    assert found == pytest.approx(stated, abs=4 * np.sqrt(stated * (1 - stated) / 3000) + 0.01)
    assert power_of(0.05, 0.0, float("inf")) == 1.0


def test_seeds_needed_settles_it_and_one_fewer_does_not() -> None:
    """With so many runs of the same spread the half-width just fits beside the difference."""
    for d in (0.0, 0.02, 0.04, 0.2):
        variance, runs, margin = 0.08**2 * 2 / 4, 4, 0.05
        more = seeds_needed(d, margin, variance, 6.0, runs)
        target = max(abs(d), margin - abs(d))

        def half(n: int, variance: float = variance, runs: int = runs) -> float:
            return float(stats.t.ppf(0.975, 2.0 * (n - 1)) * np.sqrt(variance * runs / n))

        assert more is not None and half(runs + more) < target
        assert more == 0 or half(runs + more - 1) >= target
    assert seeds_needed(0.0, 0.0, 1.0, 6.0, 4) is None


def test_settled_comparisons_need_no_seeds() -> None:
    """0 for a verdict, at least 1 for `inconclusive`, nothing to say about too few runs."""
    assert compare_runs([1.0, 1.1, 1.2], [0.0, 0.1, 0.2], 0.05).seeds_needed == 0
    open_ = compare_runs([1.0, 0.5, 0.7], [0.6, 0.9, 0.4], 0.05)
    assert open_.verdict == "inconclusive" and open_.seeds_needed >= 1
    assert compare_runs([1.0, 0.5], [0.6, 0.9, 0.4], 0.05).seeds_needed is None
    same = compare_runs([1.0] * 3, [1.0] * 3, 0.05)
    assert same.verdict == "comparable" and same.power == 1.0


def test_environments_can_dominate() -> None:
    """When the sign depends on the environment, no number of seeds settles it, and that is said."""
    rng = np.random.default_rng(13)
    shift = np.array([0.4, -0.35, 0.3, -0.3, 0.2, -0.15])
    a = [0.5 + s + rng.normal(0, 0.01, 5) for s in shift]
    b = [0.5 + rng.normal(0, 0.01, 5) for _ in shift]
    pa, pb = Pool.of(a), Pool.of(b)
    drawn = bootstrap({"a": pa, "b": pb}, environments=True, statistics=("iqm",), resamples=4000).statistics
    difference = point(pa, ("iqm",))["iqm"] - point(pb, ("iqm",))["iqm"]
    said = compare_environments(pa, pb, drawn["a"]["iqm"] - drawn["b"]["iqm"], difference, 0.05)
    assert (said.verdict, said.seeds_needed) == ("inconclusive", DOMINATED)
    noisy = [Pool.of([0.5 + rng.normal(0, 0.3, 3) for _ in range(6)]) for _ in "ab"]
    drawn = bootstrap(
        dict(zip("ab", noisy, strict=True)), environments=True, statistics=("iqm",), resamples=4000
    ).statistics
    difference = point(noisy[0], ("iqm",))["iqm"] - point(noisy[1], ("iqm",))["iqm"]
    said = compare_environments(*noisy, drawn["a"]["iqm"] - drawn["b"]["iqm"], difference, 0.05)
    assert said.verdict == "inconclusive" and (said.seeds_needed == DOMINATED or said.seeds_needed >= 1)


def test_expanded_interval_is_hesterbergs() -> None:
    """A normal distribution of the plug-in spread becomes exactly the t interval."""
    n = 5
    plug_in = stats.norm.ppf((np.arange(200_000) + 0.5) / 200_000) * np.sqrt((n - 1) / n / n)
    low, high = expanded_interval(plug_in, np.sqrt(n / (n - 1)), n - 1)
    half = stats.t.ppf(0.975, n - 1) / np.sqrt(n)
    assert (low, high) == pytest.approx((-half, half), rel=2e-3)


def test_architectures_meet_on_the_environments_that_both_have(tmp_path) -> None:
    """A missing environment narrows the comparison, never an architecture's own aggregate in silence."""
    score = Score("return", "higher", 0.0, 1.0, "x")
    environments = tuple(Environment(f"e{i}", "x", {}, "core", 1, 1, score) for i in range(4))
    grid = Grid("s", "", "", environments, ("a", "b"), (0, 1, 2), (), tmp_path, tmp_path)
    rng = np.random.default_rng(14)
    scores = {(f"e{i}", a): rng.random(3) for i in range(4) for a in "ab" if (i, a) != (3, "b")}
    aggregate, comparisons, profiles = Across(grid, scores, scores, 500, 0.05).rows()
    by = {(r["architecture"], r["statistic"]): r for r in aggregate}
    assert (by["a", "iqm"]["environments"], by["a", "iqm"]["partial"]) == (4, False)
    assert (by["b", "iqm"]["environments"], by["b", "iqm"]["partial"], by["b", "iqm"]["missing"]) == (
        3,
        True,
        "e3",
    )
    both = [r for r in comparisons if r["scope"] in (THESE, LIKE_THESE)]
    assert [r["environments"] for r in both] == [3, 3] and set(profiles) == {"a", "b"}
    common = [np.concatenate([scores[f"e{i}", a] for i in range(3)]) for a in "ab"]
    expected = stats.trim_mean(common[0], 0.25) - stats.trim_mean(common[1], 0.25)
    assert both[0]["difference"] == pytest.approx(expected)


def test_one_environment_is_compared_once(tmp_path) -> None:
    """Across a single environment the bootstrap would be too narrow: Welch's row is the only one."""
    environment = Environment("e", "x", {}, "core", 1, 1, Score("return", "higher", 0.0, 1.0, "x"))
    grid = Grid("s", "", "", (environment,), ("a", "b"), (0, 1, 2), (), tmp_path, tmp_path)
    scores = {("e", a): np.random.default_rng(1).random(3) for a in "ab"}
    _, comparisons, _ = Across(grid, scores, scores, 200, 0.05).rows()
    assert [r["scope"] for r in comparisons] == ["environment"]
