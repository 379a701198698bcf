"""The pipeline: from a suite file to trained, evaluated and tabulated cells.

Modules of this folder are what the rest is built around: the command line (`cli`, `runner`, `dag`), a grid and its
cells (`grid`, `cell`), one job (`train`, `evaluate` and what they need), a cell's and a machine's state (`records`,
`locks`, `gpus`), and what comes out (`statistics`, `tables`, `figures`, `report`). Folders:

* ``configuration``: what a person wrote (suite, site, profile, gin), read, checked and merged; the hashes of it.
* ``folders``: the results folder and a cell's: written, owned, made ready, freed, followed.
* ``engines``: what jobs run in: this machine itself, or a container.
* ``images``: which image a job gets, and how it is built.
* ``slurm``: what Snakemake's SLURM executor is told, and what it does not do by itself.
* ``analysis``: from finished cells to the numbers of every table.
* ``presentation``: tables as text, figures, the parts of the report.
* ``templates``: the report's page: HTML, CSS and JavaScript.
* ``live``: what a suite is doing now.
* ``commands``: one module for each smaller command: check, compare, envs, gc, verify.
* ``doctor``: what would stop a suite on this machine or cluster.

Imports point one way between modules; ``configuration`` uses only `paths`, and nothing but `cli` uses ``commands``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from amago_suite.policy import Policy

__all__ = ["load"]


def load(cell_folder: str | Path) -> Policy:
    """The trained policy of a cell, to act with.

    Args:
        cell_folder: ``results/SUITE/ENVIRONMENT/ARCHITECTURE/seed_N``.

    Raises:
        AmagoError: not a cell, or not trained yet.
    """
    from amago_suite.policy import Policy

    return Policy(Path(cell_folder))
