"""Running episodes without learning, and what is said about them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np

from amago.errors import ConfigurationError
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


def check_counts(
    timesteps: int | None, episodes: int | None, episodes_per_actor: int | None, default_timesteps: int
) -> None:
    """Refuse a test's length that is none.

    Args:
        timesteps, episodes, episodes_per_actor: see ``Experiment.evaluate_test``.
        default_timesteps: steps when none of them is given.

    Raises:
        ConfigurationError: no steps or episodes, or two numbers of episodes.
    """
    given = {"timesteps": timesteps, "episodes": episodes, "episodes_per_actor": episodes_per_actor}
    for name, count in given.items():
        if count is not None and count < 1:
            raise ConfigurationError(f"evaluate_test's {name} is {count}; pass at least 1")
    if episodes is not None and episodes_per_actor is not None:
        raise ConfigurationError("evaluate_test takes episodes (in all) or episodes_per_actor, not both")
    if default_timesteps < 1 and all(count is None for count in given.values()):
        raise ConfigurationError(
            "evaluate_test would act for 0 steps (Experiment.val_timesteps_per_epoch is what it does when no "
            "count is given); pass timesteps, episodes or episodes_per_actor"
        )


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


def epoch_line(row: dict[str, Any], epochs: int, seconds: float) -> str:
    """What a person wants to see of an epoch: counters, time, and the returns that there are.

    Args:
        row: as ``progress.csv`` has it.
        epochs: of the whole run.
        seconds: that the epoch took.
    """
    parts = [f"epoch {row['epoch'] + 1} of {epochs}: {row['env_steps']:,} steps"]
    parts.append(f"{row['gradient_steps']:,} updates, {seconds:.1f} s")
    for name, column in (("return", "train_return"), ("validation", "val_return"), ("loss", "loss")):
        if row.get(column) is not None:
            parts.append(f"{name} {row[column]:.4g}")
    return ", ".join(parts)


class ReturnHistory:
    """Returns of finished episodes: ``data[environment's name]`` is a list in the order in which they ended."""

    def __init__(self) -> None:
        self.data: dict[str, list[float]] = defaultdict(list)


class SpecialMetricHistory:
    """What episodes logged: ``data[environment's name][metric]`` is a list, as in :class:`ReturnHistory`."""

    def __init__(self) -> None:
        self.data: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))


def histories(episodes: Iterable[Episode]) -> tuple[list[ReturnHistory], list[SpecialMetricHistory]]:
    """Episodes in the form of ``Experiment.policy_metrics``: one history of each kind, for all actors."""
    returns, specials = ReturnHistory(), SpecialMetricHistory()
    for e in episodes:
        returns.data[e.env_name].append(e.total_return)
        for metric, value in e.metrics.items():
            specials.data[e.env_name][metric].append(value)
    return [returns], [specials]


def summarise(returns: Iterable[ReturnHistory], specials: Iterable[SpecialMetricHistory]) -> dict[str, float]:
    """The metrics that AMAGO users plot, by their names."""
    by_env: dict[str, list[float]] = defaultdict(list)
    logged: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for history in returns:
        for name, values in history.data.items():
            by_env[name] += values
    for special in specials:
        for name, metrics in special.data.items():
            for metric, values in metrics.items():
                logged[name][metric] += values
    if not by_env:
        return {}
    out: dict[str, float] = {
        "Average Total Return (Across All Env Names)": float(
            np.mean([np.mean(values) for values in by_env.values()])
        )
    }
    for name, values in sorted(by_env.items()):
        out[f"Average Total Return in {name}"] = float(np.mean(values))
        out[f"Bottom Quintile Total Return in {name}"] = float(np.percentile(values, 20))
        for metric in sorted(logged[name]):
            out[f"Average {metric} in {name}"] = float(np.mean(logged[name][metric]))
    return out


def mean_return(episodes: list[Episode]) -> float | None:
    """Mean over episodes, or ``None`` when there are none."""
    return float(np.mean([e.total_return for e in episodes])) if episodes else None


def mean_metric(episodes: list[Episode], name: str) -> float | None:
    """Mean of a logged metric over the episodes that have it, or ``None``."""
    values = [e.metrics[name] for e in episodes if name in e.metrics]
    return float(np.mean(values)) if values else None
