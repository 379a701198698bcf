"""How often the printed intervals held the truth, by simulation.

The numbers were made by ``benchmarks/coverage.py``, which prints them anew; nothing here is
computed at run time.
"""

from __future__ import annotations

#: (runs, environments) -> coverage of the nominal 95 % stratified percentile bootstrap of the
#: interquartile mean; normal runs, 1,000 simulations each (250 where runs x environments > 120).
# fmt: off
AGGREGATE: dict[tuple[int, int], float] = {
    (3, 1): 0.762, (3, 3): 0.808, (3, 6): 0.817, (3, 12): 0.859, (3, 50): 0.884,
    (5, 1): 0.911, (5, 3): 0.885, (5, 6): 0.892, (5, 12): 0.910, (5, 50): 0.888,
    (10, 1): 0.932, (10, 3): 0.921, (10, 6): 0.894, (10, 12): 0.931, (10, 50): 0.912,
    (20, 1): 0.935, (20, 3): 0.928, (20, 6): 0.938, (20, 12): 0.924, (20, 50): 0.948,
}
# fmt: on

#: Kind of runs -> runs -> coverage of the nominal 95 % t interval of their mean, 20,000 simulations each.
T_INTERVAL: dict[str, dict[int, float]] = {
    "normal": {3: 0.950, 5: 0.947, 10: 0.952, 20: 0.952},
    "skewed": {3: 0.880, 5: 0.861, 10: 0.881, 20: 0.897},
    "solved-or-not": {3: 0.482, 5: 0.664, 10: 0.885, 20: 0.920},
}


def coverage_of(runs: int, environments: int) -> float:
    """Coverage simulated for the nearest smaller design (the more cautious neighbour)."""
    sizes = sorted({n for n, _ in AGGREGATE})
    widths = sorted({e for _, e in AGGREGATE})
    n = max((s for s in sizes if s <= runs), default=sizes[0])
    e = max((w for w in widths if w <= environments), default=widths[0])
    return AGGREGATE[n, e]


def coverage_label(runs: int, environments: int) -> str:
    """``"covers about 88 %"``."""
    return f"covers about {100 * coverage_of(runs, environments):.0f} %"


def coverage_rows() -> list[tuple[int, list[tuple[int, float]]]]:
    """The table for a footnote: (runs, [(environments, coverage), ...]) in order."""
    return [
        (n, [(e, AGGREGATE[n, e]) for m, e in sorted(AGGREGATE) if m == n])
        for n in sorted({n for n, _ in AGGREGATE})
    ]
