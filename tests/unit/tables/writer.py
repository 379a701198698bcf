"""Finished cells as training and evaluation leave them, written without training anything."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from amago_suite.cell import Cell, Checkpoints, Evaluation, hash_cell
from amago_suite.grid import Environment, Grid, Score

EVALUATION = Evaluation(episodes=10, actors=5, greedy=True, seed=9)
SCORES: Mapping[str, Score] = {
    "tmaze": Score("success", "higher", 0.5, 1.0, "a coin's choice and the best policy"),
    "lake": Score("return", "higher", 0.0, 3.0, "no goal and every goal"),
    "cheetah": Score("velocity_error", "lower", 3.0, 0.0, "standing still and exact"),
}
Level = Callable[[str, str, int], float]


def make_grid(
    folder: Path,
    environments: Mapping[str, Score] = SCORES,
    architectures: tuple[str, ...] = ("ff", "rnn", "transformer"),
    seeds: tuple[int, ...] = (0, 1, 2),
    suite: str = "demo",
    evaluation: Evaluation = EVALUATION,
) -> Grid:
    """A planned grid with the given axes; its results folder is ``folder/suite``."""
    entries = tuple(
        Environment(n, f"{n}-id", {"size": 4}, "core", 16, 30, s) for n, s in environments.items()
    )
    cells = []
    for environment in entries:
        for architecture in architectures:
            for seed in seeds:
                gin = f"# {architecture}\nExperiment.batch_size = 24\nAgent.gamma = 0.99\n"
                settings: dict[str, Any] = {
                    "env_id": environment.id,
                    "env_params": environment.params,
                    "seed": seed,
                    "gin": gin,
                    "threads": 1,
                    "segment_epochs": 1,
                    "budget_epochs": environment.budget_epochs,
                    "evaluation": evaluation,
                }
                trained, evaluated = hash_cell(**settings)
                cells.append(
                    Cell(
                        suite=suite,
                        environment=environment.name,
                        family=environment.family,
                        architecture=architecture,
                        checkpoints=Checkpoints(every_epochs=5, keep=1),
                        train_hash=trained,
                        evaluation_hash=evaluated,
                        folder=folder / suite / environment.name / architecture / f"seed_{seed}",
                        **settings,
                    )
                )
    return Grid(
        suite, f"{suite.title()} suite", "For tests.", entries, architectures, seeds, tuple(cells),
        folder / suite, folder / f"{suite}.yaml",
    )  # fmt: skip


def level(environment: str, architecture: str, seed: int) -> float:
    """A plausible run score: memory helps, seeds differ a little."""
    noise = np.random.default_rng([len(environment), len(architecture), seed]).normal(0, 0.03)
    skill = {"ff": 0.05}.get(architecture, 0.9) + noise
    score = SCORES.get(environment, SCORES["lake"])
    return score.low + skill * (score.high - score.low)


def write_run(cell: Cell, score: Score, value: float, **changes: Any) -> None:
    """Everything a finished cell leaves. ``value`` is exactly the run's mean of its metric.

    ``changes`` go into provenance.json.
    """
    cell.folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([cell.seed, *cell.environment.encode(), *cell.architecture.encode()])
    episodes, actors = cell.evaluation.episodes, cell.evaluation.actors
    spread = rng.normal(0, 0.1, episodes)
    spread -= spread.mean()
    metrics = {"return": rng.random(episodes), "success": np.full(episodes, np.nan)}
    metrics[score.metric] = value + spread
    extra = [m for m in metrics if m not in ("return", "success")]
    header = [
        "suite",
        "environment",
        "task",
        "architecture",
        "seed",
        "actor",
        "episode",
        "return",
        "length",
        "success",
    ]
    with cell.episodes.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*header, *extra])
        for i in range(episodes):
            names = [cell.suite, cell.environment, f"task {i % 2}", cell.architecture, cell.seed]
            row = [*names, i % actors, i // actors, metrics["return"][i], 16, metrics["success"][i]]
            writer.writerow([*row, *(metrics[m][i] for m in extra)])
    write_progress(cell, score, value, rng)
    cell.policy.write_bytes(b"weights")
    provenance = {
        "train_hash": cell.train_hash,
        "git": {"commit": "0123456789abcdef0123456789abcdef01234567", "dirty": False},
        "engine": "host",
        "image": None,
        "versions": {"torch": "2.13.0+cpu", "numpy": "2.4.6"},
        "torch": {"version": "2.13.0", "build": "2.13.0+cpu"},
        "hardware": {"cpu": "A CPU", "gpu": None},
        "attempts": 1 + cell.seed % 2,
        "wall_seconds": 20.5 + cell.seed,
        "gpu_seconds": 0.0,
        "peak_rss_mb": 512.0,
        "parameters": 54321,
        "epochs": cell.budget_epochs,
        "env_steps": 30 * 256,
        "gradient_steps": 30 * 40,
        "deterministic": True,
        **changes,
    }
    cell.provenance.write_text(json.dumps(provenance))
    cell.evaluation_file.write_text(
        json.dumps(
            {"train_hash": cell.train_hash, "evaluation_hash": cell.evaluation_hash, "episodes": episodes}
        )
    )


def write_progress(cell: Cell, score: Score, value: float, rng: np.random.Generator) -> None:
    """A learning curve that ends near ``value``."""
    cell.folder.mkdir(parents=True, exist_ok=True)
    epochs = cell.budget_epochs
    rise = 1 - np.exp(-np.arange(1, epochs + 1) / (epochs / 5))
    curve = score.low + (value - score.low) * rise + rng.normal(0, 0.01, epochs)
    names = [
        "epoch",
        "env_steps",
        "gradient_steps",
        "wall_seconds",
        "env_steps_per_second",
        "updates_per_second",
    ]
    with cell.progress.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*names, "loss", f"val_{score.metric}"])
        for e in range(epochs):
            writer.writerow([e + 1, (e + 1) * 256, (e + 1) * 40, e * 0.7, 365.0, 57.0, 1 / (e + 1), curve[e]])


def write_grid(grid: Grid, of: Level = level, skip: Callable[[Cell], bool] = lambda cell: False) -> Grid:
    """Write every cell of ``grid`` but those that ``skip`` says."""
    for cell in grid:
        if not skip(cell):
            score = grid.environment(cell.environment).score
            write_run(cell, score, of(cell.environment, cell.architecture, cell.seed))
    return grid
