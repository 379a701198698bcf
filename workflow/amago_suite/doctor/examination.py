"""Everything that is looked at, in order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from amago.errors import ConfigurationError
from amago_suite.configuration.site import site_file
from amago_suite.doctor import machine
from amago_suite.doctor.engine import engine as look_at_engine
from amago_suite.doctor.findings import Finding, ok, problem
from amago_suite.doctor.nodes import meet_nodes
from amago_suite.doctor.profile import dry_run, profile_folder, requests, settings, site
from amago_suite.doctor.sharing import meeting, sharing_here
from amago_suite.doctor.slurm import cluster
from amago_suite.grid import Grid, plan
from amago_suite.paths import RESULTS, shown


def examine(
    *,
    profile: str | None = None,
    engine: str | None = None,
    suite: str | None = None,
    results: Path = RESULTS,
    nodes: int = 0,
    patience: float = 300.0,
) -> Iterator[Finding]:
    """Look at everything that a suite needs.

    Args:
        profile: folder or name of the profile that the suite will be run with.
        engine: what jobs will run in; the profile's by default.
        suite: whose needs; without one, the default resources stand for it.
        results: where runs write.
        nodes: of a cluster to send a small job to; 0 submits nothing.
        patience: seconds that such a job may wait.

    Raises:
        ConfigurationError: there is no such profile.
    """
    folder = profile_folder(profile) if profile is not None else None
    chosen = settings(folder) if folder is not None else {"executor": "local", "engine": "host"}
    given, engine = engine, engine or chosen["engine"]
    slurm, found = site()
    yield from machine.versions()
    yield from found
    grid: Grid | None = None
    if suite is not None and slurm is not None:
        try:
            grid = plan(suite, results=results)
            yield ok("suite", f"{grid.suite}: {len(grid)} cells")
        except ConfigurationError as error:
            yield problem("suite", str(error), "correct the suite file")
    if slurm is not None and (suite is None or grid is not None):
        yield from dry_run(folder, suite or "quick", given)
    yield from machine.disk(results)
    yield from machine.temporary_folder()
    local = chosen["executor"] in ("local", None)
    wants_gpu = grid is not None and any(cell.resources["train"].gpus for cell in grid)
    yield from machine.gpu(needed=local and wants_gpu)
    yield from look_at_engine(engine, {cell.family for cell in grid} if grid is not None else {"core"})
    try:
        with meeting(results) as met:
            yield from machine.clock(met.folder)
            yield from sharing_here(met)
            if chosen["executor"] == "slurm" and slurm is not None:
                wanted = requests(slurm, grid)
                yield from cluster(wanted, shown(site_file()))
                if nodes:
                    yield from meet_nodes(met, wanted[0], nodes, patience)
    except OSError as error:
        yield problem("sharing", f"{results} cannot be written: {error.strerror}", "see the findings on disk")
