"""The stratified bootstrap against rliable's figures and against slow loops."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from amago_suite.analysis.bootstrap import (
    STATISTICS,
    Pool,
    bands,
    bootstrap,
    evaluate,
    improvement,
    percentile_interval,
    point,
    profile,
    resampled_improvement,
)

RLIABLE = Path(__file__).parents[2] / "reference" / "rliable.npz"
MATRICES = ("normal", "uniform", "one", "atari", "solved")


@pytest.fixture(scope="module")
def rliable() -> dict[str, np.ndarray]:
    with np.load(RLIABLE, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def pool_of(scores: np.ndarray) -> Pool:
    """A (runs, tasks) matrix as a pool."""
    return Pool.of(list(scores.T))


@pytest.mark.parametrize("name", MATRICES)
def test_estimates_are_rliables(rliable: dict[str, np.ndarray], name: str) -> None:
    """IQM, median, mean and optimality gap to 1e-9."""
    ours = point(pool_of(rliable[f"{name}.scores"]))
    assert list(ours) == list(STATISTICS)
    np.testing.assert_allclose(list(ours.values()), rliable[f"{name}.estimates"], atol=1e-9)


@pytest.mark.parametrize("name", MATRICES)
def test_intervals_on_rliables_own_resamples(rliable: dict[str, np.ndarray], name: str) -> None:
    """Given the same draws, the same percentiles to 1e-9: guards the whole count arithmetic."""
    pool = pool_of(rliable[f"{name}.scores"])
    draws = rliable[f"{name}.indices"].transpose(0, 2, 1).reshape(-1, pool.values.size)
    ours = evaluate(pool, pool.counts(draws) * pool.weights)
    found = np.array([percentile_interval(ours[s]) for s in STATISTICS]).T
    np.testing.assert_allclose(found, rliable[f"{name}.interval"], atol=1e-9)


@pytest.mark.parametrize("name", MATRICES)
def test_intervals_on_our_draws(rliable: dict[str, np.ndarray], name: str) -> None:
    """Within 4 Monte-Carlo standard errors of rliable's 20,000 resamples.

    The error of an estimated percentile is a binomial one in probability, so rliable's ends must lie
    between our percentiles 4 standard errors to either side.
    """
    ours = bootstrap({"x": pool_of(rliable[f"{name}.scores"])}).statistics["x"]
    for i, statistic in enumerate(STATISTICS):
        for p, theirs in zip((0.025, 0.975), rliable[f"{name}.interval_many"][:, i], strict=True):
            error = 4 * np.sqrt(p * (1 - p) * (1 / 20_000 + 1 / 50_000))
            low, high = np.quantile(ours[statistic], [max(p - error, 0), min(p + error, 1)])
            assert low - 1e-9 <= theirs <= high + 1e-9


@pytest.mark.parametrize("name", MATRICES)
def test_profiles_are_rliables(rliable: dict[str, np.ndarray], name: str) -> None:
    """Profiles to 1e-9; their bands as closely as two sets of draws allow."""
    pool, taus = pool_of(rliable[f"{name}.scores"]), rliable["taus"]
    np.testing.assert_allclose(profile(pool, taus), rliable[f"{name}.profile"], atol=1e-9)
    drawn = bootstrap({"x": pool}, thresholds=taus).profiles["x"]
    error = 4 * np.sqrt(0.025 * 0.975 * (1 / 1000 + 1 / 2000))
    for side, p in enumerate((0.025, 0.975)):
        low, high = np.quantile(drawn, [max(p - error, 0), min(p + error, 1)], axis=0)
        theirs = rliable[f"{name}.profile_bands"][side]
        assert (low - 1e-6 <= theirs).all() and (theirs <= high + 1e-6).all()
    np.testing.assert_array_equal(bands(drawn)[0], np.percentile(drawn, 2.5, axis=0))


@pytest.mark.parametrize("name", ["plain", "ties"])
def test_improvement_is_rliables(rliable: dict[str, np.ndarray], name: str) -> None:
    """Different numbers of runs, and ties that count one half."""
    a, b = (pool_of(rliable[f"improvement.{name}.{side}"]) for side in "xy")
    assert improvement(a, b) == pytest.approx(float(rliable[f"improvement.{name}.estimate"]), abs=1e-9)
    assert improvement(b, a) == pytest.approx(1 - improvement(a, b), abs=1e-12)
    drawn = bootstrap({"a": a, "b": b}, pairs=[("a", "b")]).improvement["a", "b"]
    for p, theirs in zip((0.025, 0.975), rliable[f"improvement.{name}.interval"][:, 0], strict=True):
        error = 4 * np.sqrt(p * (1 - p) * (1 / 2000 + 1 / 50_000))
        low, high = np.quantile(drawn, [p - error, p + error])
        assert low - 1e-9 <= theirs <= high + 1e-9


def slow(groups: list[np.ndarray], statistic: str) -> float:
    """The statistic of a ragged grid by its definition, one value at a time."""
    count = sum(len(g) for g in groups)
    weighted = sorted((v, 1 / (len(g) * len(groups))) for g in groups for v in g)
    if statistic == "mean":
        return sum(v * w for v, w in weighted)
    if statistic == "median":
        return float(np.median([g.mean() for g in groups]))
    if statistic == "optimality_gap":
        return 1 - sum(min(v, 1.0) * w for v, w in weighted)
    cut, total, seen = (count // 4) / count, 0.0, 0.0
    for value, weight in weighted:
        inside = min(seen + weight, 1 - cut) - max(seen, cut)
        total += value * max(inside, 0.0)
        seen += weight
    return total / (1 - 2 * cut)


def test_ragged_grids_weigh_environments_alike() -> None:
    """Environments with more runs must not count for more, in estimates and in resamples."""
    rng = np.random.default_rng(1)
    groups = [rng.normal(i, 1, n) for i, n in enumerate((3, 7, 4))]
    pool = Pool.of(groups)
    for name, value in point(pool).items():
        assert value == pytest.approx(slow(groups, name), abs=1e-12)
    draws = [rng.integers(0, g.size, (50, g.size)) for g in groups]
    found = evaluate(pool, pool.counts(np.concatenate(draws, axis=1)) * pool.weights)
    for r in range(50):
        resample = [g[d[r]] for g, d in zip(groups, draws, strict=True)]
        for name in STATISTICS:
            assert found[name][r] == pytest.approx(slow(resample, name), abs=1e-12)


def test_every_resample_draws_as_many_runs_as_there_are() -> None:
    """Of each environment, ragged or not: the bootstrap's spread is the plug-in standard error."""
    rng = np.random.default_rng(4)
    for sizes in ((5, 5, 5), (3, 8, 5)):
        groups = [rng.normal(size=n) for n in sizes]
        drawn = bootstrap({"x": Pool.of(groups)}, statistics=("mean",)).statistics["x"]["mean"]
        expected = np.sqrt(sum(g.var() / g.size for g in groups)) / len(groups)
        assert drawn.std() == pytest.approx(expected, rel=0.02)
        assert drawn.mean() == pytest.approx(np.mean([g.mean() for g in groups]), abs=0.01)


def test_environments_are_drawn_alike_and_runs_apart() -> None:
    """Resampling environments: the pairing cancels what the environments share."""
    rng = np.random.default_rng(5)
    shared = rng.normal(0, 5, 8)
    a = Pool.of([m + rng.normal(0, 0.1, 4) for m in shared])
    b = Pool.of([m + rng.normal(0, 0.1, 4) for m in shared])
    drawn = bootstrap({"a": a, "b": b}, environments=True, statistics=("mean",), resamples=5000).statistics
    assert drawn["a"]["mean"].std() == pytest.approx(np.std(shared) / np.sqrt(8), rel=0.1)
    assert (drawn["a"]["mean"] - drawn["b"]["mean"]).std() < 0.1
    plain = bootstrap({"a": a, "b": b}, statistics=("mean",), resamples=5000).statistics
    assert abs(np.corrcoef(plain["a"]["mean"], plain["b"]["mean"])[0, 1]) < 0.06
    with pytest.raises(ValueError):
        bootstrap({"a": a}, environments=True, statistics=("median",))


def test_another_architecture_changes_no_interval() -> None:
    """Each has a stream of its own, by name: adding one must not move the others' numbers."""
    rng = np.random.default_rng(6)
    pools = {n: Pool.of([rng.random(4) for _ in range(3)]) for n in ("a", "b", "c")}
    alone = bootstrap({"b": pools["b"]}, resamples=500).statistics["b"]["iqm"]
    together = bootstrap(pools, resamples=500).statistics["b"]["iqm"]
    np.testing.assert_array_equal(alone, together)


def test_resampled_improvement_by_loops() -> None:
    """Against Mann and Whitney's U of each resample."""
    rng = np.random.default_rng(7)
    a, b = ([rng.integers(0, 4, n).astype(float) for n in sizes] for sizes in ((3, 5), (4, 2)))
    pa, pb = Pool.of(a), Pool.of(b)
    da = [rng.integers(0, g.size, (20, g.size)) for g in a]
    db = [rng.integers(0, g.size, (20, g.size)) for g in b]
    counts = [p.counts(np.concatenate(d, axis=1)).astype(float) for p, d in ((pa, da), (pb, db))]
    found = resampled_improvement(pa, pb, *counts)
    for r in range(20):
        shares = []
        for x, y, i, j in zip(a, b, da, db, strict=True):
            u = stats.mannwhitneyu(x[i[r]], y[j[r]]).statistic
            shares.append(u / (x.size * y.size))
        assert found[r] == pytest.approx(np.mean(shares))


def test_bad_pools_are_refused() -> None:
    """NaN, and environments without runs."""
    with pytest.raises(ValueError):
        Pool.of([np.array([1.0, np.nan])])
    with pytest.raises(ValueError):
        Pool.of([np.array([1.0]), np.array([])])
    with pytest.raises(ValueError):
        improvement(Pool.of([[1.0]]), Pool.of([[1.0], [2.0]]))
