"""Running episodes without learning, and what is said about them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np

from amago.rollout import Episode


class EvaluationResult(dict[str, Any]):
    """Metrics by name, and the episodes behind them.

    Attributes:
        episodes: one dict for each episode: actor, episode, task, return, length, success (NaN when
            the environment does not say), and every metric that the environment logged.
    """

    def __init__(self, metrics: dict[str, Any], episodes: list[dict[str, Any]]) -> None:
        super().__init__(metrics)
        self.episodes = episodes


def episode_rows(episodes: Iterable[Episode]) -> list[dict[str, Any]]:
    """One flat dict for each episode, ordered by actor, then episode."""
    rows = []
    for e in sorted(episodes, key=lambda e: (e.actor, e.index)):
        row: dict[str, Any] = {
            "actor": e.actor,
            "episode": e.index,
            "task": e.env_name,
            "return": e.total_return,
            "length": e.length,
            "success": e.metrics.get("success", float("nan")),
        }
        row.update({k: v for k, v in sorted(e.metrics.items()) if k not in row})
        rows.append(row)
    return rows


def summarise(episodes: list[Episode]) -> dict[str, float]:
    """The metrics that AMAGO users plot, by their names."""
    if not episodes:
        return {}
    by_env: dict[str, list[Episode]] = defaultdict(list)
    for e in episodes:
        by_env[e.env_name].append(e)
    out: dict[str, float] = {
        "Average Total Return (Across All Env Names)": float(
            np.mean([np.mean([e.total_return for e in group]) for group in by_env.values()])
        )
    }
    for name, group in sorted(by_env.items()):
        returns = np.array([e.total_return for e in group])
        out[f"Average Total Return in {name}"] = float(returns.mean())
        out[f"Bottom Quintile Total Return in {name}"] = float(np.percentile(returns, 20))
        for metric in sorted({m for e in group for m in e.metrics}):
            out[f"Average {metric} in {name}"] = float(
                np.mean([e.metrics[metric] for e in group if metric in e.metrics])
            )
    return out


def mean_return(episodes: list[Episode]) -> float | None:
    """Mean over episodes, or ``None`` when there are none."""
    return float(np.mean([e.total_return for e in episodes])) if episodes else None


def mean_metric(episodes: list[Episode], name: str) -> float | None:
    """Mean of a logged metric over the episodes that have it, or ``None``."""
    values = [e.metrics[name] for e in episodes if name in e.metrics]
    return float(np.mean(values)) if values else None
