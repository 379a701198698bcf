"""What the Snakefile calls: planning, parameters of rules, and what happens around the jobs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from amago.errors import AmagoError, ConfigurationError
from amago_suite import gpus
from amago_suite.cell import Cell
from amago_suite.configuration.identity import digest
from amago_suite.configuration.imports import allow_imports
from amago_suite.configuration.schema import validate
from amago_suite.configuration.site import read_site
from amago_suite.engines import engine
from amago_suite.engines.settings import HOST, Settings, from_config, from_environment
from amago_suite.exits import USAGE
from amago_suite.folders.freeing import anew_notice, to_train_anew
from amago_suite.folders.ownership import clear_owner, write_owner
from amago_suite.folders.prepare import check_results, prepare
from amago_suite.grid import Grid, plan, read_plan
from amago_suite.images import prepare as prepare_images
from amago_suite.images import resolve, sif_path
from amago_suite.paths import RESULTS, shown
from amago_suite.records import MAIN_VARIABLE

DEFAULT_SUITE = "quick"
#: Names the plan that `amago-suite run` has just written, so that Snakemake need not plan again.
PLAN_VARIABLE = "AMAGO_SUITE_PLAN"


def load_grid(config: Mapping[str, Any], *, main: bool, deployment: Collection[Any] = ()) -> Grid:
    """The grid that Snakemake's ``config`` asks for. Wrong input ends the process with one line.

    Args:
        config: keys of the schema ``config``.
        main: whether this is the process that a person started. Jobs that parse the Snakefile again
            read the plan that it left.
        deployment: what Snakemake itself puts around jobs (``--sdm``).
    """
    # Jobs find the same installation as this process, also where its environment is not activated.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    try:
        # Snakemake itself reads True and False only, in this spelling.
        words = {"true": True, "false": False}
        config = {key: words.get(str(value).lower(), value) for key, value in config.items()}
        validate(config, "config", Path("--config"))
        allow_imports(bool(config.get("allow_imports", False)))
        settings = from_config(config)
        settings.export()
        gpus.set_share(config.get("gpus_per_cell"))
        suite = str(config.get("suite", DEFAULT_SUITE))
        smoke = bool(config.get("smoke", False))
        results = Path(config.get("results", RESULTS))
        if main:
            os.environ[MAIN_VARIABLE] = str(os.getpid())
            check_engine(settings)
        folder = results / (f"{Path(suite).stem}-smoke" if smoke else Path(suite).stem)
        if main and PLAN_VARIABLE in os.environ:
            grid = read_plan(Path(os.environ[PLAN_VARIABLE]), folder)
            check_deployment(grid, settings, deployment)
            return grid
        if not main:
            return read_plan(folder / "plan.json")
        grid = plan(suite, smoke=smoke, results=results)
        check_results(grid)
        check_deployment(grid, settings, deployment)
        return grid
    except AmagoError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(USAGE)


def use_executors(grid: Grid) -> None:
    """Let SLURM jobs be followed by an executor that knows the cells."""
    from amago_suite import slurm

    slurm.use_with(grid)


def check_engine(settings: Settings) -> None:
    """Find out what would stop every job.

    Raises:
        ConfigurationError: no such engine here, or a secret that is not set.
    """
    settings.check()
    engine(settings.engine).check()


def check_deployment(grid: Grid, settings: Settings, deployment: Collection[Any]) -> None:
    """The same where Snakemake itself puts every job into a container (``--sdm apptainer``).

    Raises:
        ConfigurationError: our own engine would put another one inside, or there is no image.
    """
    if not any(str(method).lower().endswith("apptainer") for method in deployment):
        return
    if settings.engine != HOST:
        raise ConfigurationError(
            f"--sdm apptainer puts every job into a container already; leave it out, or the engine {settings.engine}"
        )
    for family in sorted({cell.family for cell in grid}):
        resolve("apptainer", family)


def image_file(cell: Cell) -> str:
    """The cell's image as a file: its family's .sif."""
    return str(sif_path(cell.family))


def reader(grid: Grid) -> Callable[[Callable[[Cell], Any]], Callable[[Any], Any]]:
    """``of(lambda cell: ...)`` makes a rule's parameter function from a function of its cell."""
    cells = {(cell.environment, cell.architecture, str(cell.seed)): cell for cell in grid}

    def of(value: Callable[[Cell], Any]) -> Callable[[Any], Any]:
        def parameter(wildcards: Any) -> Any:
            return value(cells[wildcards.environment, wildcards.architecture, wildcards.seed])

        return parameter

    return of


def requester(grid: Grid) -> Callable[[str, str], Callable[[Any], Any]]:
    """``need("train", "mem_mb")`` makes a function that gives a job's resource from its wildcards."""
    slurm = read_site().slurm
    of = reader(grid)

    def need(rule: str, name: str) -> Callable[[Any], Any]:
        return of(lambda cell: slurm.request(cell.resources[rule])[name])

    return need


def pattern(grid: Grid, *parts: str) -> str:
    """A path below the suite's results, with wildcards left open."""
    return str(Path(grid.folder, *parts))


def grid_digest(grid: Grid) -> str:
    """Changes when the tables' content would."""
    return digest([grid.title, grid.description, grid.tuning, [cell.evaluation_hash for cell in grid]])


def on_start(grid: Grid) -> None:
    """Before the first job: old results aside, every cell.yaml in place, failures forgotten."""
    write_owner(grid)
    name = from_environment().engine
    engine(name).clean(grid.folder)
    for cell, where in prepare(grid):
        print(f"{cell.label}: settings changed; its old results are in {shown(where)}", file=sys.stderr)
    if anew := to_train_anew(grid):
        print(anew_notice(anew), file=sys.stderr)
    try:
        prepare_images(grid, name, lambda line: print(line, file=sys.stderr, flush=True))
    except AmagoError as error:
        clear_owner(grid)
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(USAGE)


def on_success(grid: Grid) -> None:
    """After the last job."""
    clear_owner(grid)


def on_error(grid: Grid) -> None:
    """After a failure or an interruption: partial tables, outside of every declared output."""
    command = [sys.executable, "-m", "amago_suite", "tables", "--plan", str(grid.plan_file), "--quiet"]
    subprocess.run(command, check=False)
    clear_owner(grid)
