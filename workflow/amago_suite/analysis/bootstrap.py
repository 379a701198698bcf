"""Stratified bootstrap over runs, for every architecture and statistic in one pass.

A resample is written down as *how often each run was drawn*, not as the drawn values. Then
every statistic is arithmetic on that count matrix: means, profiles and probabilities of
improvement are matrix products, and the interquartile mean is a clipped cumulative sum over
the runs in order of their score. Nothing is ever sorted per resample.

Strata are the environments: runs are resampled within each (environment, architecture)
(Agarwal et al. 2021, "Deep RL at the Edge of the Statistical Precipice").
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from amago_suite.statistics import LEVEL, TRIM, Floats, Interval

RESAMPLES = 50_000
#: Of these, how many the bands of the performance profiles use.
BAND_RESAMPLES = 2_000
SEED = 20_210_830
STATISTICS = ("iqm", "median", "mean", "optimality_gap")
#: Elements of a chunk's count matrix: small enough for a core's cache.
_CHUNK_ELEMENTS = 1 << 18


def stream(seed: int, *names: str) -> np.random.Generator:
    """The generator called ``names``: adding an architecture never shifts another's draws."""
    words = [int.from_bytes(hashlib.blake2b(n.encode(), digest_size=4).digest(), "little") for n in names]
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=tuple(words)))


@dataclass(frozen=True)
class Pool:
    """The runs of one architecture, environment after environment.

    Attributes:
        values: (N,) normalised run scores.
        sizes: (E,) runs of each environment, each at least 1.
    """

    values: Floats
    sizes: NDArray[np.int64]
    starts: NDArray[np.int64] = field(init=False, repr=False)
    weights: Floats = field(init=False, repr=False)
    order: NDArray[np.int64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.sizes.size == 0 or (self.sizes < 1).any() or self.sizes.sum() != self.values.size:
            raise ValueError("every environment of a pool needs at least one run")
        if not np.isfinite(self.values).all():
            raise ValueError("a run's score is not a finite number")
        set_ = object.__setattr__
        set_(self, "starts", np.concatenate([[0], np.cumsum(self.sizes)[:-1]]))
        # Each environment weighs the same, however many of its runs are there.
        set_(self, "weights", np.repeat(1.0 / (self.sizes * self.sizes.size), self.sizes))
        set_(self, "order", np.argsort(self.values, kind="stable"))

    @classmethod
    def of(cls, groups: Sequence[ArrayLike]) -> Pool:
        """From one array of run scores for each environment."""
        arrays = [np.asarray(g, dtype=np.float64).reshape(-1) for g in groups]
        return cls(np.concatenate(arrays), np.array([a.size for a in arrays], dtype=np.int64))

    def groups(self) -> list[Floats]:
        """The run scores of each environment."""
        return np.split(self.values, self.starts[1:])

    @property
    def trim(self) -> float:
        """Share of the mass cut at each end: whole runs, ``floor(N / 4)`` of them."""
        return int(TRIM * self.values.size) / self.values.size

    def counts(self, indices: ArrayLike) -> NDArray[np.int64]:
        """Count matrix (R, N) of given draws.

        Args:
            indices: (R, N) which run *of its environment* each position draws.
        """
        drawn = np.asarray(indices, dtype=np.int64) + np.repeat(self.starts, self.sizes)
        return _count(drawn, self.values.size)


def _count(drawn: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """Row-wise histogram: (R, K) positions below ``width`` -> (R, width)."""
    rows = drawn.shape[0]
    flat = drawn + np.arange(rows, dtype=np.int64)[:, None] * width
    return np.bincount(flat.reshape(-1), minlength=rows * width).reshape(rows, width)


def evaluate(
    pool: Pool, mass: Floats, statistics: Iterable[str] = STATISTICS, gamma: float = 1.0
) -> dict[str, Floats]:
    """Statistics of weighted runs, row by row.

    Args:
        pool: the runs.
        mass: (R, N) weight of every run in each resample; rows sum to 1. The point
            estimate is ``pool.weights[None]``.
        statistics: any of ``STATISTICS``. ``median`` is of the environments' means, and
            holds where each environment has its own mass (no resampling of environments).
        gamma: the score that counts as optimal for the optimality gap.

    Returns:
        name -> (R,).
    """
    out: dict[str, Floats] = {}
    for name in statistics:
        if name == "iqm":
            out[name] = _trimmed(pool, mass)
        elif name == "median":
            out[name] = np.median(_environment_means(pool, mass), axis=1)
        elif name == "mean":
            out[name] = mass @ pool.values
        elif name == "optimality_gap":
            out[name] = gamma - mass @ np.minimum(pool.values, gamma)
        else:
            raise ValueError(f"unknown statistic {name!r}; known: {', '.join(STATISTICS)}")
    return out


def _trimmed(pool: Pool, mass: Floats) -> Floats:
    """Mean of the mass between the quantiles g and 1 - g, (R,)."""
    g = pool.trim
    values = pool.values[pool.order]
    inside = np.cumsum(mass[:, pool.order[:-1]], axis=1)
    np.clip(inside, g, 1.0 - g, out=inside)
    # Summation by parts of sum_i v_i (c_i - c_{i-1}), c the clipped cumulative mass.
    total: Floats = values[-1] * (1.0 - g) - values[0] * g - inside @ np.diff(values)
    return total / (1.0 - 2.0 * g)


def _environment_means(pool: Pool, mass: Floats) -> Floats:
    """(R, E) mean of every environment."""
    sums: Floats = np.add.reduceat(mass * pool.values, pool.starts, axis=1)
    return sums * pool.sizes.size


def point(pool: Pool, statistics: Iterable[str] = STATISTICS) -> dict[str, float]:
    """The point estimates of a pool."""
    return {k: float(v[0]) for k, v in evaluate(pool, pool.weights[None], statistics).items()}


def profile(pool: Pool, thresholds: ArrayLike, mass: Floats | None = None) -> Floats:
    """Performance profile: the share of runs that score above each threshold.

    Args:
        pool: the runs.
        thresholds: (T,).
        mass: (R, N) resamples, or ``None`` for the runs themselves.

    Returns:
        (R, T), or (T,) without ``mass``.
    """
    above = (pool.values[:, None] > np.asarray(thresholds, dtype=np.float64)).astype(np.float64)
    result: Floats = (pool.weights if mass is None else mass) @ above
    return result


def _wins(a: Pool, b: Pool) -> list[Floats]:
    """For each environment (n, m): what a's run against b's adds to the probability of improvement."""
    if a.sizes.size != b.sizes.size:
        raise ValueError("the two pools are over different environments")
    found = []
    for x, y in zip(a.groups(), b.groups(), strict=True):
        wins = (x[:, None] > y).astype(np.float64) + 0.5 * (x[:, None] == y)
        found.append(wins / (x.size * y.size * a.sizes.size))
    return found


def improvement(a: Pool, b: Pool) -> float:
    """Probability that a run of ``a`` beats one of ``b``, averaged over environments.

    The Mann-Whitney statistic of each environment over n m; ties count one half.

    Args:
        a, b: pools over the same environments in the same order.
    """
    return float(sum(wins.sum() for wins in _wins(a, b)))


def resampled_improvement(
    a: Pool, b: Pool, counts_a: Floats, counts_b: Floats, wins: list[Floats] | None = None
) -> Floats:
    """`improvement` of resamples, (R,).

    Args:
        counts_a, counts_b: (R, N) and (R, M) how often each run was drawn.
        wins: of `_wins`, where it is at hand.
    """
    total: Floats = np.zeros(counts_a.shape[0])
    for e, won in enumerate(_wins(a, b) if wins is None else wins):
        rows = slice(a.starts[e], a.starts[e] + a.sizes[e])
        columns = slice(b.starts[e], b.starts[e] + b.sizes[e])
        total += ((counts_a[:, rows] @ won) * counts_b[:, columns]).sum(axis=1)
    return total


@dataclass(frozen=True)
class Bootstrap:
    """Resampled distributions of one set of environments.

    Attributes:
        statistics: architecture -> statistic -> (R,).
        profiles: architecture -> (at most ``BAND_RESAMPLES``, T) float32; empty unless thresholds were given.
        improvement: (a, b) -> (R,); empty unless pairs were given.
    """

    statistics: dict[str, dict[str, Floats]]
    profiles: dict[str, NDArray[np.float32]]
    improvement: dict[tuple[str, str], Floats]


def bootstrap(
    pools: Mapping[str, Pool],
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    environments: bool = False,
    statistics: Sequence[str] = STATISTICS,
    thresholds: ArrayLike | None = None,
    pairs: Sequence[tuple[str, str]] = (),
) -> Bootstrap:
    """Resample the runs of several architectures.

    Args:
        pools: architecture -> its runs. With ``environments`` or ``pairs`` all pools must be
            over the same environments in the same order.
        resamples: R.
        seed: of the draws; each architecture has a stream of its own by name.
        environments: draw the environments too, then the runs of each drawn one. The drawn
            environments are the same for all architectures (they are the pairing); runs are
            always drawn independently. ``median`` is not offered then.
        statistics: which to compute.
        thresholds: (T,) also resample performance profiles.
        pairs: also resample the probability of improvement of these (a, b).

    Returns:
        The distributions.
    """
    if environments and ("median" in statistics or pairs):
        raise ValueError("median and improvement are not offered when environments are resampled")
    banded = min(resamples, BAND_RESAMPLES)
    wins = {(a, b): _wins(pools[a], pools[b]) for a, b in pairs}
    result = Bootstrap(
        {a: {s: np.empty(resamples) for s in statistics} for a in pools},
        {} if thresholds is None else {a: np.empty((banded, np.size(thresholds)), np.float32) for a in pools},
        {p: np.empty(resamples) for p in pairs},
    )
    kind = "environments" if environments else "runs"
    streams = {a: stream(seed, kind, a) for a in pools}
    shared = stream(seed, kind)
    step = max(1, _CHUNK_ELEMENTS // max((p.values.size for p in pools.values()), default=1))
    for start in range(0, resamples, step):
        rows = slice(start, min(start + step, resamples))
        size = rows.stop - rows.start
        slots = None
        if environments:
            width = next(iter(pools.values())).sizes.size
            slots = shared.integers(0, width, (size, width))
        counts = {}
        for name, pool in pools.items():
            counts[name] = draw(pool, size, streams[name], slots).astype(np.float64)
            mass = counts[name] * pool.weights
            for key, values in evaluate(pool, mass, statistics).items():
                result.statistics[name][key][rows] = values
            if thresholds is not None and start < banded:
                result.profiles[name][rows] = profile(pool, thresholds, mass[: banded - start])
        for a, b in pairs:
            result.improvement[a, b][rows] = resampled_improvement(
                pools[a], pools[b], counts[a], counts[b], wins[a, b]
            )
    return result


def draw(
    pool: Pool, rows: int, rng: np.random.Generator, slots: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Counts (rows, N) of runs drawn with replacement within each environment.

    Args:
        slots: (rows, E) environments that were drawn, or ``None`` for each one once.
    """
    most = int(pool.sizes.max())
    shape = rows, pool.sizes.size, most
    starts = (pool.starts if slots is None else pool.starts[slots])[..., None]
    if (pool.sizes == most).all() and most < 1 << 16:
        drawn = rng.integers(0, most, shape, dtype=np.uint16) + starts
        return _count(drawn.reshape(rows, -1), pool.values.size)
    sizes = (pool.sizes if slots is None else pool.sizes[slots])[..., None]
    drawn = (rng.random(shape) * sizes).astype(np.int64) + starts
    # Ragged: positions past an environment's size go to a column that is cut off.
    spare = pool.values.size
    drawn = np.where(np.arange(most) < sizes, drawn, spare)
    return np.ascontiguousarray(_count(drawn.reshape(rows, -1), spare + 1)[:, :spare])


def percentile_interval(distribution: ArrayLike, level: float = LEVEL) -> tuple[float, float]:
    """The plain percentile interval of a resampled statistic, (R,) -> (low, high)."""
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(np.asarray(distribution, dtype=np.float64), [tail, 100.0 - tail])
    return float(low), float(high)


def bands(distribution_RT: ArrayLike, level: float = LEVEL) -> tuple[Floats, Floats]:
    """Pointwise percentile bands, (R, T) -> two (T,)."""
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(np.asarray(distribution_RT), [tail, 100.0 - tail], axis=0)
    return np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)


def aggregate_interval(distribution: ArrayLike, fewest: int, environments: int) -> Interval:
    """The interval of an aggregate, labelled with the coverage it was seen to keep.

    Args:
        distribution: (R,).
        fewest: runs of the environment that has fewest.
        environments: how many there are.
    """
    from amago_suite.analysis.coverage import coverage_label

    if fewest < 3:
        return Interval(float("nan"), float("nan"), "none: fewer than 3 runs")
    low, high = percentile_interval(distribution)
    return Interval(low, high, f"stratified bootstrap, {coverage_label(fewest, environments)}")
