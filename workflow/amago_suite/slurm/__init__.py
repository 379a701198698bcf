"""SLURM: what Snakemake's executor plugin is told, and what it does not do by itself.

`queue` asks SLURM and cancels, `executor` makes the plugin survive what clusters do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from amago_suite.grid import Grid


def use_with(grid: Grid) -> None:
    """Let `--executor slurm` of this Snakemake be ours, which knows the suite's cells.

    Snakemake finds executors by the names of installed top-level packages, and not those of an
    editable install, so the plugin's own entry is the one place for it.
    """
    from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

    registry = ExecutorPluginRegistry()
    if "slurm" not in registry.plugins:
        return
    from amago_suite.slurm.executor import Executor

    Executor.grid = grid
    registry.plugins["slurm"].executor = Executor
