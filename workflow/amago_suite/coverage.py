"""How often the printed intervals held the truth, by simulation.

The numbers were made by ``benchmarks/coverage.py``, which prints them anew; nothing here is
computed at run time.
"""

from __future__ import annotations

#: (runs, environments) -> coverage of the nominal 95 % stratified percentile bootstrap of the
#: interquartile mean, normal runs, 2,000 simulations each.
AGGREGATE: dict[tuple[int, int], float] = {
    (3, 12): 0.88,
    (5, 12): 0.94,
}

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
