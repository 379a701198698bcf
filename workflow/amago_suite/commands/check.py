"""`amago-suite check SUITE`: build everything once, so that nothing is found out after a night of waiting."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from amago.errors import AmagoError
from amago_suite.cell import Cell
from amago_suite.configuration.imports import imports_allowed
from amago_suite.families import python_of
from amago_suite.grid import Grid
from amago_suite.paths import shown

#: One step of every actor beyond an episode, one update, no validation.
_TINY = """
Experiment.train_batches_per_epoch = 1
Experiment.batches_per_update = 1
Experiment.start_learning_at_epoch = 0
Experiment.start_collecting_at_epoch = 0
Experiment.val_interval = None
Experiment.dloader_workers = 0
"""


@dataclass(frozen=True, slots=True)
class Checked:
    """One (environment, architecture) of a grid."""

    environment: str
    architecture: str
    parameters: int | None
    seconds: float
    error: str | None


def check(grid: Grid, family: str | None = None) -> list[Checked]:
    """Build every (environment, architecture), collect a little, make one update, in a temporary folder.

    Args:
        grid: what to check.
        family: only environments of this family, here. By default all, each in its family's own environment.
    """
    pairs = {(cell.environment, cell.architecture): cell for cell in reversed(grid.cells)}
    ordered = [
        pairs[environment.name, name] for environment in grid.environments for name in grid.architectures
    ]
    if family is not None:
        here = [cell for cell in ordered if cell.family == family]
        return [check_cell(cell, grid.environment(cell.environment).horizon) for cell in here]
    elsewhere: dict[tuple[str, str], Checked] = {}
    for other in dict.fromkeys(cell.family for cell in ordered):
        python = python_of(other)
        if python is not None:
            rows = _check_in(python, grid, other)
            elsewhere |= {(row.environment, row.architecture): row for row in rows}
    return [
        elsewhere.get((cell.environment, cell.architecture))
        or check_cell(cell, grid.environment(cell.environment).horizon)
        for cell in ordered
    ]


def _check_in(python: Path, grid: Grid, family: str) -> list[Checked]:
    """The same for one family, by its own Python."""
    command = [str(python), "-m", "amago_suite", "check", str(grid.file), "--json", "--family", family]
    if grid.suite != grid.file.stem:
        command.append("--smoke")
    if imports_allowed():
        command.append("--allow-imports")
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    try:
        return [Checked(**row) for row in json.loads(done.stdout)]
    except (ValueError, TypeError) as error:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise AmagoError(f"the check of family {family} by {shown(python)} failed: {last}") from error


def check_cell(cell: Cell, horizon: int) -> Checked:
    """One pair.

    Args:
        cell: any of its cells.
        horizon: longest episode; so many steps are collected, so that there is something to learn from.
    """
    from amago_suite.build import apply_gin, build_experiment, provide_data

    began = time.monotonic()
    parameters = None
    error = None
    with tempfile.TemporaryDirectory(prefix="amago-check-") as work:
        try:
            apply_gin(cell, f"{_TINY}Experiment.train_timesteps_per_epoch = {min(horizon, 64)}\n")
            provide_data(cell, Path(work))
            once = replace(cell, segment_epochs=1)
            experiment = build_experiment(once, state=Path(work), log_dir=Path(work), epochs=1)
            experiment.start()
            try:
                parameters = sum(p.numel() for p in experiment.policy.trainable_params)
                experiment.learn()
            finally:
                experiment.close()
        except Exception as problem:  # whatever goes wrong is what a person wants to read here
            error = f"{type(problem).__name__}: {problem}".replace("\n", " ")
    return Checked(cell.environment, cell.architecture, parameters, time.monotonic() - began, error)
