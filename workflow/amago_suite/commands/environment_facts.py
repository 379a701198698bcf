"""What `amago-suite envs ID` says about one environment."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from envs_suite.registry import EnvSpec, Measured


def facts(spec: EnvSpec) -> dict[str, str]:
    """One line each, name -> text; published results are apart (`published_rows`)."""
    from envs_suite.optional import CORE

    score = spec.score
    found = {
        "id": spec.id,
        "family": f"{spec.family} ({spec.install})" if spec.by_hand or spec.family != CORE else spec.family,
        "description": spec.description,
        "horizon": str(spec.horizon({})),
        "score": f"{score.metric}, {score.direction} is better, {score.low:g} to {score.high:g}",
        "bounds from": score.source,
        "random": _measured(spec.random_score),
        "best": "not known" if spec.best_possible is None else f"{spec.best_possible:g}",
    }
    for who, measured in spec.yardsticks.items():
        found[who] = _measured(measured)
    return {**found, "licence": spec.licence}


def _measured(score: Measured | None) -> str:
    if score is None:
        return "not measured"
    return f"{score.mean:.4g} ± {score.standard_error:.2g} ({score.episodes} episodes, seed {score.seed})"


def published_rows(spec: EnvSpec) -> list[list[str]]:
    """Other people's results: what, metric, value with its interval, source."""
    rows = []
    for entry in spec.published:
        interval = "" if entry.interval is None else f" [{entry.interval[0]:g}, {entry.interval[1]:g}]"
        rows.append([entry.what, entry.metric, f"{entry.value:g}{interval}", entry.cited])
    return rows


def as_json(spec: EnvSpec) -> dict[str, Any]:
    """The same as values."""
    return {
        "id": spec.id,
        "family": spec.family,
        "install": spec.install,
        "description": spec.description,
        "horizon": spec.horizon({}),
        "score": asdict(spec.score),
        "random": None if spec.random_score is None else asdict(spec.random_score),
        "best": spec.best_possible,
        "yardsticks": {who: asdict(measured) for who, measured in spec.yardsticks.items()},
        "published": [asdict(entry) for entry in spec.published],
        "licence": spec.licence,
        "params": spec.params,
    }
