"""Figures of rliable 1.2.0 that the statistics tests compare with.

rliable needs older packages than ours, so this runs in an environment of its own::

    uv venv --python 3.11 /tmp/rliable && uv pip install --python /tmp/rliable/bin/python \
        'rliable==1.2.0' 'pandas<3' 'arch==7.2.0'
    /tmp/rliable/bin/python tests/reference/rliable_figures.py tests/reference/rliable.npz

It stores random run x task matrices, rliable's point estimates and intervals, and the indices of
the resamples that the intervals were made from. rliable draws from numpy's global generator, which
is therefore seeded here.
"""

import sys

import numpy as np
from rliable import library, metrics

RESAMPLES = 1000
MANY = 20_000


def statistics(x: np.ndarray) -> np.ndarray:
    return np.array(
        [
            metrics.aggregate_iqm(x),
            metrics.aggregate_median(x),
            metrics.aggregate_mean(x),
            metrics.aggregate_optimality_gap(x),
        ]
    )


def matrices() -> dict[str, np.ndarray]:
    """(runs, tasks): random ones, and the shape and skew of Atari 100k (5 x 26 human-normalised)."""
    rng = np.random.default_rng(7)
    atari = rng.lognormal(-0.9, 1.1, 26) * rng.lognormal(0.0, 0.25, (5, 26))
    solved = (rng.random((7, 9)) < np.linspace(0.05, 0.95, 9)).astype(float)
    return {
        "normal": rng.normal(0.5, 0.2, (3, 12)),
        "uniform": rng.random((10, 5)),
        "one": rng.random((4, 1)),
        "atari": atari,
        "solved": solved,
    }


def main(path: str) -> None:
    out: dict[str, np.ndarray] = {}
    taus = np.linspace(0.0, 1.5, 16)
    for name, scores in matrices().items():
        out[f"{name}.scores"] = scores
        bootstrap = library.StratifiedBootstrap(scores)
        indices = []
        draw = bootstrap.update_indices

        def remember(draw=draw, indices=indices):
            found = draw()
            indices.append(np.asarray(found[0], dtype=np.int16))
            return found

        bootstrap.update_indices = remember
        np.random.seed(3)  # noqa: NPY002 (what rliable draws from)
        interval = bootstrap.conf_int(statistics, reps=RESAMPLES, size=0.95, method="percentile")
        out[f"{name}.estimates"] = statistics(scores)
        out[f"{name}.interval"] = interval
        # conf_int evaluates once on the data first, without drawing: all indices are resamples.
        out[f"{name}.indices"] = np.stack(indices)
        np.random.seed(4)  # noqa: NPY002
        _, many = library.get_interval_estimates({"x": scores}, statistics, reps=MANY)
        out[f"{name}.interval_many"] = many["x"]
        np.random.seed(5)  # noqa: NPY002
        profiles, bands = library.create_performance_profile({"x": scores}, taus, reps=RESAMPLES)
        out[f"{name}.profile"] = profiles["x"]
        out[f"{name}.profile_bands"] = bands["x"]
    out["taus"] = taus
    rng = np.random.default_rng(8)
    for name, (n, m, tasks, round_to) in {"plain": (5, 3, 6, 9), "ties": (4, 6, 5, 1)}.items():
        x, y = (
            rng.normal(0.6, 0.2, (n, tasks)).round(round_to),
            rng.normal(0.5, 0.2, (m, tasks)).round(round_to),
        )
        out[f"improvement.{name}.x"], out[f"improvement.{name}.y"] = x, y
        out[f"improvement.{name}.estimate"] = np.array(metrics.probability_of_improvement(x, y))
        np.random.seed(6)  # noqa: NPY002
        _, interval = library.get_interval_estimates(
            {"xy": [x, y]}, lambda a, b: np.array([metrics.probability_of_improvement(a, b)]), reps=2000
        )
        out[f"improvement.{name}.interval"] = interval["xy"]
    np.savez_compressed(path, **out)
    for name, value in out.items():
        print(name, value.shape)


if __name__ == "__main__":
    main(*sys.argv[1:])
