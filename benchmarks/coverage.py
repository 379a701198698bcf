"""How often the printed 95 % intervals hold the truth, by simulation.

Prints Markdown tables for n = 3, 5, 10 and 20 runs that are normal, skewed (lognormal) or solved-or-not
(a run reaches 1 with probability 0.8, else about 0.1):

* the t interval of a mean (scores.csv);
* the stratified percentile bootstrap of the IQM over environments (aggregate.csv);
* the verdict's expanded percentiles for a difference of IQMs, and the plain ones for comparison.

``amago_suite/analysis/coverage.py`` holds the percentile table for normal runs, made with 1,000 simulations (two minutes).

    python benchmarks/coverage.py [--simulations 500] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from amago_suite.analysis.bootstrap import Pool, bootstrap, percentile_interval
from amago_suite.analysis.comparisons import compare_pools
from amago_suite.statistics import iqm

Floats = NDArray[np.float64]
#: (generator, level, spread, shape) -> run scores.
Draw = Callable[[np.random.Generator, float, float, tuple[int, ...]], Floats]

RUNS = (3, 5, 10, 20)
ENVIRONMENTS = (1, 3, 6, 12, 50)
RESAMPLES = 1000


def normal(rng: np.random.Generator, level: float, spread: float, shape: tuple[int, ...]) -> Floats:
    return rng.normal(level, spread, shape)


def skewed(rng: np.random.Generator, level: float, spread: float, shape: tuple[int, ...]) -> Floats:
    """Lognormal of log-spread 0.8, moved and scaled to the wanted mean and spread."""
    raw = rng.lognormal(0.0, 0.8, shape)
    mean, variance = np.exp(0.32), (np.exp(0.64) - 1) * np.exp(0.64)
    return level + spread * (raw - mean) / np.sqrt(variance)


def solved(rng: np.random.Generator, level: float, spread: float, shape: tuple[int, ...]) -> Floats:
    """Solved with probability 0.8; what remains differs a little between environments."""
    hit = rng.random(shape) < 0.8
    return np.where(hit, 1.0, 0.1 + 0.2 * level) + rng.normal(0.0, 0.01, shape)


KINDS: dict[str, Draw] = {"normal": normal, "skewed": skewed, "solved or not": solved}


def t_coverage(draw: Draw, n: int, simulations: int) -> float:
    rng = np.random.default_rng([1, n])
    truth = draw(rng, 0.5, 0.1, (4_000_000,)).mean()
    x = draw(rng, 0.5, 0.1, (simulations * 20, n))
    half = stats.t.ppf(0.975, n - 1) * x.std(axis=1, ddof=1) / np.sqrt(n)
    return float((np.abs(x.mean(axis=1) - truth) <= half).mean())


def aggregate_coverage(draw: Draw, n: int, environments: int, simulations: int) -> tuple[float, float, float]:
    """(percentile interval of one IQM, expanded one of a difference, plain one of a difference)."""
    rng = np.random.default_rng([2, environments])
    levels, spreads = rng.uniform(0.2, 0.8, environments), rng.uniform(0.02, 0.2, environments)
    population = np.stack([draw(rng, m, s, (100_000,)) for m, s in zip(levels, spreads, strict=True)])
    truth = iqm(population)
    held = np.zeros(3)
    rng = np.random.default_rng([3, n, environments])
    for i in range(simulations):
        a, b = (
            Pool.of([draw(rng, m, s, (n,)) for m, s in zip(levels, spreads, strict=True)]) for _ in range(2)
        )
        drawn = bootstrap({"a": a, "b": b}, statistics=("iqm",), resamples=RESAMPLES, seed=i).statistics
        low, high = percentile_interval(drawn["a"]["iqm"])
        held[0] += low <= truth <= high
        difference = drawn["a"]["iqm"] - drawn["b"]["iqm"]
        said = compare_pools(a, b, difference, 0.0, 0.05)
        held[1] += said.interval.low <= 0.0 <= said.interval.high
        low, high = percentile_interval(difference)
        held[2] += low <= 0.0 <= high
    return tuple(held / simulations)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=500)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    out: dict[str, dict[str, float]] = {"t": {}, "aggregate": {}, "difference": {}, "difference, plain": {}}
    print("t interval of a mean\n\n| runs | " + " | ".join(f"n = {n}" for n in RUNS) + " |")
    print("| --- |" + " --: |" * len(RUNS))
    for kind, draw in KINDS.items():
        for n in RUNS:
            out["t"][f"{kind}, {n}"] = t_coverage(draw, n, options.simulations)
        print(
            f"| {kind} | " + " | ".join(f"{100 * out['t'][f'{kind}, {n}']:.1f} %" for n in RUNS) + " |",
            flush=True,
        )
    for kind, draw in KINDS.items():
        cells = {}
        for n in RUNS:
            for e in ENVIRONMENTS:
                simulations = options.simulations if n * e <= 120 else max(options.simulations // 4, 1)
                found = aggregate_coverage(draw, n, e, simulations)
                cells[n, e] = found
                for name, value in zip(("aggregate", "difference", "difference, plain"), found, strict=True):
                    out[name][f"{kind}, {n}, {e}"] = float(value)
        for i, name in enumerate(
            ("IQM, percentile", "difference of IQMs, expanded", "difference of IQMs, plain")
        ):
            print(f"\n{name}, {kind} runs\n\n| runs | " + " | ".join(f"{e} env" for e in ENVIRONMENTS) + " |")
            print("| --- |" + " --: |" * len(ENVIRONMENTS))
            for n in RUNS:
                print(
                    f"| n = {n} | "
                    + " | ".join(f"{100 * cells[n, e][i]:.1f} %" for e in ENVIRONMENTS)
                    + " |",
                    flush=True,
                )
    if options.json:
        options.json.write_text(json.dumps(out, indent=2) + "\n")


if __name__ == "__main__":
    main()
