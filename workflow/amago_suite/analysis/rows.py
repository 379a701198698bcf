"""From collected runs to the rows of every table. Pure: reads and writes no file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

import envs_suite
from amago.errors import ConfigurationError, DataError
from amago_suite.analysis.across import Across, interval_columns
from amago_suite.analysis.bootstrap import RESAMPLES
from amago_suite.analysis.collect import Collection, Run
from amago_suite.analysis.columns import Row
from amago_suite.analysis.comparisons import MARGIN
from amago_suite.analysis.costs import cost_rows
from amago_suite.grid import Environment, Grid
from amago_suite.statistics import Floats, normalise, summarise
from envs_suite import Published

FINAL = "final policy"
BEST = "best over training"


@dataclass(frozen=True)
class Analysis:
    """The rows of all tables but the episodes, and what the figures need beyond them.

    Attributes:
        scores_of: (environment, architecture) -> (n,) run scores in the metric's own unit.
        normalised_of: the same on the common scale.
        profiles: architecture -> (profile, low, high), each (T,) over ``across.THRESHOLDS``; the bands
            are NaN where an environment has too few runs.
    """

    runs: list[Row]
    scores: list[Row]
    aggregate: list[Row]
    comparisons: list[Row]
    costs: list[Row]
    missing: list[Row]
    scores_of: dict[tuple[str, str], Floats]
    normalised_of: dict[tuple[str, str], Floats]
    profiles: dict[str, tuple[Floats, Floats, Floats]] = field(default_factory=dict)


def analyse(collection: Collection, *, resamples: int = RESAMPLES, margin: float = MARGIN) -> Analysis:
    """Everything that the tables say.

    Args:
        collection: the runs.
        resamples: of every bootstrap.
        margin: share of the normalised range within which a difference does not matter.

    Raises:
        DataError: a run has no finite value of its environment's score.
    """
    runs = _run_rows(collection)
    scores_of, normalised_of, best_of = _group(runs)
    aggregate, comparisons, profiles = Across(
        collection.grid, scores_of, normalised_of, resamples, margin
    ).rows()
    return Analysis(
        runs=runs,
        scores=_score_rows(collection.grid, scores_of, best_of),
        aggregate=aggregate,
        comparisons=comparisons,
        costs=cost_rows(collection, runs),
        missing=collection.missing,
        scores_of=scores_of,
        normalised_of=normalised_of,
        profiles=profiles,
    )


# -- runs -------------------------------------------------------------------------------------


def _run_rows(collection: Collection) -> list[Row]:
    metrics = {e.score.metric for e in collection.grid.environments}
    means = {m: collection.episode_means(m) for m in metrics | {"return", "success", "length"}}
    rows = []
    for i, run in enumerate(collection.runs):
        environment = collection.grid.environment(run.cell.environment)
        score = environment.score
        value = float(means[score.metric][i])
        if not np.isfinite(value):
            raise DataError(
                f"{run.cell.episodes}: no finite {score.metric!r}, which is the score of {environment.name}"
            )
        rows.append(
            {
                "environment": environment.name,
                "environment_id": environment.id,
                "family": environment.family,
                "architecture": run.cell.architecture,
                "seed": run.cell.seed,
                "metric": score.metric,
                "score": value,
                "direction": score.direction,
                "low": score.low,
                "high": score.high,
                "normalised": float(normalise(value, score.low, score.high, score.direction)),
                "best": best_of_training(run, environment),
                "episodes": run.rows.stop - run.rows.start,
                "return": float(means["return"][i]),
                "success": float(means["success"][i]),
                "length": float(means["length"][i]),
                "diverged": run.diverged,
                "tuning": collection.grid.tuning.get(run.cell.architecture),
                **_provenance(run),
            }
        )
    return rows


def best_of_training(run: Run, environment: Environment) -> float | None:
    """Best validation value of the score over training; ``None`` where none was recorded."""
    values = run.progress.get(f"val_{environment.score.metric}", np.empty(0))
    values = values[np.isfinite(values)]
    if values.size == 0:
        return None
    return float(values.max() if environment.score.direction == "higher" else values.min())


def _find(record: dict[str, Any], *paths: str) -> Any:
    """The first of several dotted paths that leads to a value."""
    for path in paths:
        value: Any = record
        for key in path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            return value
    return None


def _as(kind: type, value: Any) -> Any:
    """``value`` as int or float, ``None`` where it is neither a finite number nor there."""
    # A comparison, because numpy knows no integer beyond 64 bits; NaN fails it too.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -1e18 < value < 1e18:
        return None
    return kind(value)


def _provenance(run: Run) -> Row:
    """The columns of ``runs.csv`` that come from ``provenance.json``."""
    record = run.provenance
    commit = _find(record, "git.commit", "git_commit")
    dirty = _find(record, "git.dirty", "git_dirty")
    hardware = [
        _find(record, "hardware.cpu", "cpu_model", "cpu"),
        _find(record, "hardware.gpu", "gpu_model", "gpu"),
    ]
    attempts = _find(record, "attempts")
    images = _find(record, "image_ids")
    image = _find(record, "image_id", "image")
    if isinstance(images, list) and len(images) > 1 and all(isinstance(i, str) for i in images):
        image = ", ".join(images)
    torch = _find(record, "torch.build", "torch.version", "torch_build", "torch", "versions.torch")
    return {
        "epochs": _as(int, _find(record, "epochs", "epoch", "counters.epochs")),
        "env_steps": _as(int, _find(record, "env_steps", "counters.env_steps")),
        "gradient_steps": _as(int, _find(record, "gradient_steps", "counters.gradient_steps")),
        "parameters": _as(int, _find(record, "parameters", "parameter_count")),
        "attempts": len(attempts) if isinstance(attempts, list) else _as(int, attempts),
        "wall_seconds": _as(float, _find(record, "wall_seconds", "cost.wall_seconds")),
        "gpu_seconds": _as(float, _find(record, "gpu_seconds", "cost.gpu_seconds")),
        "peak_memory_mb": _as(float, _find(record, "peak_memory_mb", "peak_rss_mb", "cost.peak_rss_mb")),
        "peak_gpu_memory_mb": _as(float, _find(record, "peak_gpu_memory_mb", "cost.peak_gpu_memory_mb")),
        "engine": _find(record, "engine.name", "engine"),
        "image": image if isinstance(image, str) else None,
        "hardware": ", ".join(str(h) for h in hardware if isinstance(h, str)) or None,
        "torch": torch if isinstance(torch, str) else None,
        "git_commit": f"{commit}{'+dirty' if dirty else ''}" if commit else None,
        "train_hash": run.cell.train_hash,
        "evaluation_hash": run.cell.evaluation_hash,
    }


def _group(
    runs: list[Row],
) -> tuple[dict[tuple[str, str], Floats], dict[tuple[str, str], Floats], dict[tuple[str, str], Floats]]:
    """Scores, normalised scores and best-over-training of each (environment, architecture)."""
    scores: dict[tuple[str, str], list[float]] = {}
    normalised: dict[tuple[str, str], list[float]] = {}
    best: dict[tuple[str, str], list[float | None]] = {}
    for row in runs:
        key = row["environment"], row["architecture"]
        scores.setdefault(key, []).append(row["score"])
        normalised.setdefault(key, []).append(row["normalised"])
        best.setdefault(key, []).append(row["best"])
    return (
        {k: np.array(v) for k, v in scores.items()},
        {k: np.array(v) for k, v in normalised.items()},
        {k: np.array(v, dtype=np.float64) for k, v in best.items() if None not in v},
    )


# -- scores and costs ---------------------------------------------------------------------------


def _score_rows(
    grid: Grid, scores: dict[tuple[str, str], Floats], best: dict[tuple[str, str], Floats]
) -> list[Row]:
    rows = []
    for environment in grid.environments:
        for kind, values in ((FINAL, scores), (BEST, best)):
            for architecture in grid.architectures:
                runs = values.get((environment.name, architecture))
                if runs is None:
                    continue
                summary = summarise(runs)
                rows.append(
                    {
                        "environment": environment.name,
                        "architecture": architecture,
                        "score": f"{environment.score.metric}, {kind}",
                        "n": summary.n,
                        "mean": summary.mean,
                        "se": summary.se,
                        "iqm": summary.iqm,
                        **interval_columns(summary.interval),
                        "published": _published_text(environment, architecture, kind),
                    }
                )
    return rows


#: How others call what our architecture files are named after.
_PUBLISHED_AS = {"Transformer": "transformer", "GRU": "rnn", "PPO-GRU": "rnn", "no memory": "ff"}


def published(environment: Environment) -> tuple[Published, ...]:
    """What others report for an environment: the registry's entries, none where it has none."""
    try:
        return envs_suite.get(environment.id).published
    except ConfigurationError:  # results of an environment that this version does not know
        return ()


def published_marks(grid: Grid) -> dict[Published, list[Environment]]:
    """Published numbers of a grid, each with its environments, in the order of the marks 1, 2, ... that tables use."""
    marks: dict[Published, list[Environment]] = {}
    for environment in grid.environments:
        for entry in published(environment):
            marks.setdefault(entry, []).append(environment)
    return marks


def _published_text(environment: Environment, architecture: str, kind: str) -> str | None:
    """The published number of this architecture, metric and kind of score, with its setting."""
    for entry in published(environment):
        name = entry.what.partition(",")[0].strip()
        if (_PUBLISHED_AS.get(name), entry.metric, published_kind(entry)) == (
            architecture,
            environment.score.metric,
            kind,
        ):
            return f"{published_value(entry)} ({entry.what})"
    return None


def published_kind(entry: Published) -> str:
    """Whether a published score is the final policy's or the best over training (MMER)."""
    return BEST if "MMER" in entry.what else FINAL


def published_value(entry: Published) -> str:
    """``27.4 [25.0, 29.9]``."""
    bounds = f" [{entry.interval[0]:g}, {entry.interval[1]:g}]" if entry.interval else ""
    return f"{entry.value:g}{bounds}"
