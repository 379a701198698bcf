"""From a suite file to its grid of cells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amago_suite.cell import Cell


@dataclass(frozen=True, slots=True)
class Score:
    """How an environment is scored, as its registry entry says."""

    metric: str  #: a column of episodes.csv: "return", "success" or a logged metric
    direction: str  #: "higher" or "lower" is better
    low: float  #: becomes 0 when normalised
    high: float  #: becomes 1 when normalised
    source: str  #: where the bounds come from


@dataclass(frozen=True, slots=True)
class Environment:
    """A row of the grid: an environment of the suite, with its parameters."""

    name: str  #: unique in the suite; folder and column
    id: str  #: registry id
    params: dict[str, Any]
    family: str
    horizon: int  #: longest episode, in steps
    budget_epochs: int
    score: Score


@dataclass(frozen=True, slots=True)
class Grid:
    """A planned suite: its axes and all of its cells, in the order environment, architecture, seed."""

    suite: str
    title: str
    description: str
    environments: tuple[Environment, ...]
    architectures: tuple[str, ...]
    seeds: tuple[int, ...]
    cells: tuple[Cell, ...]
    folder: Path  #: results/{suite}
    file: Path  #: the suite file that it was planned from

    def __iter__(self) -> Iterator[Cell]:
        return iter(self.cells)

    def __len__(self) -> int:
        return len(self.cells)

    def environment(self, name: str) -> Environment:
        """The environment called ``name``; KeyError where there is none."""
        for environment in self.environments:
            if environment.name == name:
                return environment
        raise KeyError(name)
