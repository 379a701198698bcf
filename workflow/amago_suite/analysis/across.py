"""What needs several environments at once: aggregates, profiles and comparisons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from amago_suite.analysis import bootstrap as bs
from amago_suite.analysis import comparisons as cmp
from amago_suite.analysis.columns import Row
from amago_suite.grid import Grid
from amago_suite.statistics import Floats, Interval

THESE = "these environments"
LIKE_THESE = "environments like these"
#: Thresholds of the performance profiles, on the normalised scale.
THRESHOLDS = np.linspace(0.0, 1.0, 51)


def interval_columns(interval: Interval) -> Row:
    """An interval as its three columns."""
    return {"ci_low": interval.low, "ci_high": interval.high, "ci_method": interval.method}


@dataclass(frozen=True)
class Across:
    """Aggregates, profiles and comparisons: what needs several environments at once.

    Architectures that are compared on one set of environments share one bootstrap, so a
    complete grid needs a single pass (and a second one with the environments resampled).
    """

    grid: Grid
    scores: dict[tuple[str, str], Floats]
    normalised: dict[tuple[str, str], Floats]
    resamples: int
    margin: float

    def rows(self) -> tuple[list[Row], list[Row], dict[str, tuple[Floats, Floats, Floats]]]:
        """Rows of aggregate.csv and of comparisons.csv, and the profiles."""
        aggregate: dict[str, list[Row]] = {}
        across: dict[tuple[str, str], list[Row]] = {}
        profiles: dict[str, tuple[Floats, Floats, Floats]] = {}
        for environments, architectures, pairs in self._groups():
            pools = {
                a: bs.Pool.of([self.normalised[e, a] for e in environments])
                for a in sorted({*architectures, *(x for pair in pairs for x in pair)})
            }
            drawn = bs.bootstrap(pools, resamples=self.resamples, thresholds=THRESHOLDS, pairs=pairs)
            for a in architectures:
                aggregate[a] = self._aggregate(a, environments, pools[a], drawn)
                few = int(pools[a].sizes.min()) < 3
                low, high = (np.full(THRESHOLDS.size, np.nan),) * 2 if few else bs.bands(drawn.profiles[a])
                profiles[a] = bs.profile(pools[a], THRESHOLDS), low, high
            if pairs and len(environments) > 1:  # one environment is compared by Welch's interval alone
                redrawn = bs.bootstrap(
                    pools, resamples=self.resamples, environments=True, statistics=("iqm",)
                )
                for pair in pairs:
                    across[pair] = self._compare(pair, environments, pools, drawn, redrawn)
        order = list(self.grid.architectures)
        comparisons = []
        for pair in combinations(order, 2):
            comparisons += [*self._within(*pair), *across.get(pair, [])]
        return (
            [row for a in order for row in aggregate.get(a, [])],
            comparisons,
            {a: profiles[a] for a in order if a in profiles},
        )

    def _present(self, architecture: str) -> tuple[str, ...]:
        names = (e.name for e in self.grid.environments)
        return tuple(e for e in names if (e, architecture) in self.scores)

    def _groups(self) -> Iterator[tuple[tuple[str, ...], list[str], list[tuple[str, str]]]]:
        """(environments, architectures that have exactly these, pairs that share exactly these)."""
        present = {a: self._present(a) for a in self.grid.architectures}
        singles: dict[tuple[str, ...], list[str]] = {}
        pairs: dict[tuple[str, ...], list[tuple[str, str]]] = {}
        for a, environments in present.items():
            singles.setdefault(environments, []).append(a)
        for a, b in combinations(self.grid.architectures, 2):
            pairs.setdefault(tuple(e for e in present[a] if e in present[b]), []).append((a, b))
        for environments in dict.fromkeys([*singles, *pairs]):
            if environments:
                yield environments, singles.get(environments, []), pairs.get(environments, [])

    def _aggregate(
        self, architecture: str, environments: Sequence[str], pool: bs.Pool, drawn: bs.Bootstrap
    ) -> list[Row]:
        planned = len(self.grid.seeds)
        short = [
            e.name
            for e in self.grid.environments
            if self.scores.get((e.name, architecture), np.empty(0)).size < planned
        ]
        fewest = int(pool.sizes.min())
        rows = []
        for name, estimate in bs.point(pool).items():
            interval = bs.aggregate_interval(drawn.statistics[architecture][name], fewest, len(environments))
            rows.append(
                {
                    "architecture": architecture,
                    "statistic": name,
                    "n": fewest,
                    "runs": int(pool.values.size),
                    "environments": len(environments),
                    "environments_planned": len(self.grid.environments),
                    "estimate": estimate,
                    **interval_columns(interval),
                    "partial": bool(short),
                    "missing": ", ".join(short) or None,
                }
            )
        return rows

    def _compare(
        self,
        pair: tuple[str, str],
        environments: Sequence[str],
        pools: dict[str, bs.Pool],
        drawn: bs.Bootstrap,
        redrawn: bs.Bootstrap,
    ) -> list[Row]:
        """The two rows over all common environments."""
        a, b = pair
        difference = bs.point(pools[a], ("iqm",))["iqm"] - bs.point(pools[b], ("iqm",))["iqm"]
        improvement = bs.improvement(pools[a], pools[b])
        few = min(pools[a].sizes.min(), pools[b].sizes.min()) < 3
        low, high = (None, None) if few else bs.percentile_interval(drawn.improvement[pair])
        rows = []
        for scope, source, compare in (
            (THESE, drawn, cmp.compare_pools),
            (LIKE_THESE, redrawn, cmp.compare_environments),
        ):
            spread = source.statistics[a]["iqm"] - source.statistics[b]["iqm"]
            said = compare(pools[a], pools[b], spread, difference, self.margin)
            rows.append(
                comparison_row(
                    scope,
                    None,
                    pair,
                    "normalised iqm",
                    len(environments),
                    (int(pools[a].sizes.min()), int(pools[b].sizes.min())),
                    said,
                    self.margin,
                    (improvement, low, high) if scope == THESE else (None, None, None),
                )
            )
        return rows

    def _within(self, a: str, b: str) -> Iterator[Row]:
        """A row for each environment that both have."""
        for environment in self.grid.environments:
            key_a, key_b = (environment.name, a), (environment.name, b)
            if key_a not in self.scores or key_b not in self.scores:
                continue
            score = environment.score
            sign = 1.0 if score.direction == "higher" else -1.0
            x, y = sign * self.scores[key_a], sign * self.scores[key_b]
            margin = self.margin * abs(score.high - score.low)
            wins = bs.improvement(bs.Pool.of([x]), bs.Pool.of([y]))
            yield comparison_row(
                "environment",
                environment.name,
                (a, b),
                score.metric,
                1,
                (x.size, y.size),
                cmp.compare_runs(x, y, margin),
                margin,
                (wins, None, None),
            )


def comparison_row(
    scope: str,
    environment: str | None,
    pair: tuple[str, str],
    score: str,
    environments: int,
    sizes: tuple[int, int],
    said: cmp.Comparison,
    margin: float,
    improvement: tuple[float | None, float | None, float | None],
) -> Row:
    return {
        "scope": scope,
        "environment": environment,
        "a": pair[0],
        "b": pair[1],
        "score": score,
        "environments": environments,
        "n_a": sizes[0],
        "n_b": sizes[1],
        "difference": said.difference,
        **interval_columns(said.interval),
        "margin": margin,
        "verdict": said.verdict,
        "seeds_needed": None if said.seeds_needed is None else str(said.seeds_needed),
        "power": said.power,
        "improvement": improvement[0],
        "improvement_low": improvement[1],
        "improvement_high": improvement[2],
    }
