"""The command line: `amago-suite run | check | status | tables | verify | train | evaluate | ...`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from amago.errors import AmagoError, ConfigurationError, StorageError
from amago.files import said_of_storage
from amago_suite.command_line import (
    AllowImports,
    CellFolder,
    EngineName,
    Json,
    Smoke,
    Suite,
    output,
    planned,
    print_json,
    print_table,
    resumable,
    spinner,
)
from amago_suite.commands import upkeep
from amago_suite.engines.job import Job
from amago_suite.exits import DONE, FAILED, USAGE
from amago_suite.images import commands as images

app = typer.Typer(
    name="amago-suite",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(upkeep.app)
app.add_typer(images.app)

Log = Annotated[str | None, typer.Option(hidden=True, help="Where the output goes, for the record.")]
Parent = Annotated[int | None, typer.Option(hidden=True, help="Process to end with.")]
Memory = Annotated[
    int | None,
    typer.Option("--mem-mb", min=1, help="Memory of its container, MB; the cell's own by default."),
]


def main() -> None:
    """Run a command; errors are one line, and the exit code says whose they are."""
    try:
        app()
    except ConfigurationError as error:
        _fail(error, USAGE)
    except AmagoError as error:
        _fail(error, FAILED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(DONE)
    except OSError as error:
        said = said_of_storage(error)
        if said is None:
            raise
        _fail(StorageError(said), FAILED)


def _fail(error: AmagoError, code: int) -> None:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(code)


def _say_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        from amago import TRAINING_VERSION

        try:
            number = version("amago-suite")
        except PackageNotFoundError:  # in an image, which has the code and no package of it
            number = "in an image"
        print(f"amago-suite {number} (training version {TRAINING_VERSION})")
        raise typer.Exit(DONE)


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Environments x architectures x seeds: train, evaluate, and one honest table."""


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def run(
    context: typer.Context,
    suite: Suite,
    smoke: Smoke = False,
    engine: EngineName = None,
    imports: AllowImports = False,
) -> None:
    """Run a suite to its tables: only what is missing, from where it stopped. Further options go to Snakemake."""
    from amago_suite.runner import run as run_suite

    raise typer.Exit(run_suite(suite, context.args, smoke=smoke, engine=engine))


@app.command()
def train(
    folder: CellFolder,
    engine: EngineName = None,
    memory: Memory = None,
    parent: Parent = None,
    log: Log = None,
    imports: AllowImports = False,
) -> None:
    """Train one cell by hand, exactly as a suite would."""
    _run_job(engine, Job("train", folder, parent, log, memory))


@app.command()
def evaluate(
    folder: CellFolder,
    engine: EngineName = None,
    memory: Memory = None,
    parent: Parent = None,
    log: Log = None,
    imports: AllowImports = False,
) -> None:
    """Evaluate one trained cell by hand, exactly as a suite would."""
    _run_job(engine, Job("evaluate", folder, parent, log, memory))


def _run_job(name: str | None, job: Job) -> None:
    from amago_suite.engines import engine
    from amago_suite.engines.settings import from_environment

    settings = from_environment(name)
    with resumable():
        raise typer.Exit(engine(settings.engine).run(job, settings))


@app.command()
def check(
    suite: Suite,
    smoke: Smoke = False,
    as_json: Json = False,
    imports: AllowImports = False,
    family: Annotated[str | None, typer.Option(hidden=True, help="Only this family, here.")] = None,
) -> None:
    """Build every (environment, architecture) of a suite: one rollout, one update, nothing is kept."""
    from dataclasses import asdict

    from amago_suite.commands.check import check as check_grid
    from amago_suite.grid import plan

    grid = plan(suite, smoke=smoke)
    checked = check_grid(grid, family)
    if as_json:
        print_json([asdict(row) for row in checked])
    else:
        print_table(
            ["environment", "architecture", "parameters", "seconds", "result"],
            [
                [c.environment, c.architecture, f"{c.parameters or 0:,}", f"{c.seconds:.1f}", c.error or "ok"]
                for c in checked
            ],
        )
        cells = f"{len(grid)} cells: {len(grid.environments)} environments x {len(grid.architectures)} architectures"
        print(f"\n{cells} x {len(grid.seeds)} seeds")
    if any(row.error for row in checked):
        raise typer.Exit(USAGE)


@app.command()
def status(
    suite: Suite,
    smoke: Smoke = False,
    as_json: Json = False,
    every: Annotated[bool, typer.Option("--all", help="Every cell, however many there are.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Keep looking, until Ctrl-C.")] = False,
    imports: AllowImports = False,
) -> None:
    """What is done, running, waiting, or failed and why."""
    import time

    from rich.console import Group
    from rich.live import Live

    from amago_suite.live.display import clock, status_table
    from amago_suite.live.status import Overview, Watcher

    grid = planned(suite, smoke)
    watcher = Watcher(grid)
    if as_json:
        overview = watcher.look()
        print_json(
            {
                "suite": grid.suite,
                "counts": overview.count(),
                "seconds_left": overview.seconds_left(),
                "cells": [cell.to_dict() for cell in overview.cells],
            }
        )
        return

    def view() -> Group:
        found = watcher.look()
        look = Overview(grid, found.cells, max(len(found.running), 1))
        counts = ", ".join(f"{count} {state}" for state, count in look.count().items())
        left = look.seconds_left() if look.running else None
        ends = f"; about {clock(left)} left" if left is not None else ""
        table = status_table(look, every=every or len(grid) <= 60)
        return Group(table, f"\n{grid.suite}: {counts}{ends}")

    console = output()
    if not watch:
        console.print(view())
        return
    with Live(view(), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(2.0)
            live.update(view(), refresh=True)


@app.command()
def watch(
    suite: Suite,
    smoke: Smoke = False,
    host: Annotated[
        str, typer.Option(help="An address of this machine that no other reaches.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 8765,
    imports: AllowImports = False,
) -> None:
    """Serve the report of what is finished to this machine's browser, and renew it as cells finish."""
    from amago_suite.live.watch import loopback
    from amago_suite.live.watch import watch as watch_grid

    loopback(host)
    watch_grid(planned(suite, smoke), host, port, lambda line: print(line, flush=True))


@app.command()
def tables(
    suite: Annotated[str | None, typer.Argument(help="A suite, or nothing with --plan.")] = None,
    smoke: Smoke = False,
    as_json: Json = False,
    plan_file: Annotated[Path | None, typer.Option("--plan", hidden=True)] = None,
    complete: Annotated[bool, typer.Option("--complete", hidden=True)] = False,
    quiet: Annotated[bool, typer.Option("--quiet", hidden=True)] = False,
    imports: AllowImports = False,
) -> None:
    """Tables and report from what is finished so far, in results/SUITE/partial/."""
    from amago_suite.analysis.accounting import update as update_accounts
    from amago_suite.grid import read_plan
    from amago_suite.presentation.drawings import write_figures
    from amago_suite.report import write_report
    from amago_suite.tables import write_tables

    if plan_file is None and suite is None:
        raise ConfigurationError("which suite? `amago-suite tables SUITE`")
    grid = read_plan(plan_file) if plan_file is not None else planned(str(suite), smoke)
    update_accounts(grid)
    result = write_tables(grid.folder, grid, partial=not complete)
    write_report(grid.folder, grid, partial=not complete, tables=result)
    if complete:
        write_figures(grid.folder, result)
    if as_json:
        print_json({"folder": str(result.folder), "missing": result.missing, "partial": result.partial})
    elif not quiet:
        print(result.markdown)


@app.command()
def verify(
    suite: Suite,
    smoke: Smoke = False,
    as_json: Json = False,
    cores: Annotated[
        int | None, typer.Option(min=1, help="Checks side by side; all cores by default.")
    ] = None,
    retrain: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CELL", help="Check only this cell, and train it again from nothing (repeatable)."
        ),
    ] = None,
) -> None:
    """Play every finished policy again and check every file's hash: do the reported numbers come back?"""
    from dataclasses import asdict

    from amago_suite.commands.verify import verify as verify_grid
    from amago_suite.runner import available_cores

    grid = planned(suite, smoke)
    with resumable(), spinner(f"verifying {grid.suite}") as say:
        reports = verify_grid(
            grid,
            cores=cores or available_cores(),
            retrain=retrain or (),
            on_report=lambda report, done, of: say(f"verifying {grid.suite}: {done} of {of}"),
        )
    differing = [report for report in reports if report.differences]
    first = f"{differing[0].label}: {differing[0].differences[0]}" if differing else None
    checked = [report for report in reports if not report.skipped]
    if as_json:
        print_json(
            {
                "suite": grid.suite,
                "checked": len(checked),
                "differing": len(differing),
                "first_difference": first,
                "cells": [{**asdict(report), "result": report.result} for report in reports],
            }
        )
    else:
        shown = reports if len(reports) <= 60 else [r for r in reports if r.result != "same"]
        print_table(
            ["environment", "architecture", "seed", "checks", "seconds", "result", ""],
            [
                [
                    *(r.environment, r.architecture, str(r.seed)),
                    *(", ".join(r.checks), f"{r.seconds:.1f}", r.result),
                    "; ".join([*r.differences, *([r.skipped] if r.skipped else []), *r.notes]),
                ]
                for r in shown
            ],
        )
        rest = len(reports) - len(checked)
        print(
            f"\n{grid.suite}: {len(checked)} {'run' if len(checked) == 1 else 'runs'} checked, {len(differing)} differ"
            + (f"; {rest} not checked" if rest else "")
        )
    if first is not None:
        print(f"error: {first}", file=sys.stderr)
        raise typer.Exit(FAILED)


@app.command(hidden=True)
def verify_cell(
    folder: CellFolder,
    result: Annotated[Path, typer.Option()],
    retrain: Annotated[bool, typer.Option("--retrain")] = False,
) -> None:
    """One cell of `verify`, in a process of its own."""
    from dataclasses import asdict

    from amago_suite.commands.verify_cell import verify_cell as check_one
    from amago_suite.folders.files import write_json

    with resumable():
        write_json(result, asdict(check_one(folder, retrain=retrain)), durable=False)


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="results/SUITE, or a folder that holds tables.")],
    b: Annotated[Path, typer.Argument(help="The other one: another suite, commit or image.")],
    as_json: Json = False,
) -> None:
    """Which scores moved from A to B, and whether by more than the noise of the seeds."""
    from amago_suite.commands.compare import compare_suites

    found = compare_suites(a, b)
    if as_json:
        print_json({"rows": found.rows, "only_a": found.only_a, "only_b": found.only_b})
    else:
        print(found.markdown)


@app.command()
def envs(
    env_id: Annotated[str | None, typer.Argument(help="Show this one in full.")] = None, as_json: Json = False
) -> None:
    """Environments that a suite file can name."""
    import envs_suite

    if env_id is not None:
        from amago_suite.commands import environment_facts

        spec = envs_suite.get(env_id)
        if as_json:
            print_json(environment_facts.as_json(spec))
            return
        told = environment_facts.facts(spec)
        width = max(len(key) for key in told)
        for key, value in told.items():
            print(f"{key:>{width}}  {value}")
        if spec.parameters:
            print()
            print_table(
                ["parameter", "default", "allowed", "meaning"],
                [[name, str(p.default), p.allowed, p.doc] for name, p in spec.parameters.items()],
            )
        if spec.published:
            print()
            print_table(
                ["published result", "metric", "value", "source"], environment_facts.published_rows(spec)
            )
        return
    specs = [envs_suite.get(name) for name in envs_suite.ids()]
    if as_json:
        print_json(
            [
                {
                    "id": s.id,
                    "family": s.family,
                    "horizon": s.horizon({}),
                    "metric": s.score.metric,
                    "description": s.description,
                }
                for s in specs
            ]
        )
        return
    print_table(
        ["id", "family", "horizon", "score", "description"],
        [[s.id, s.family, str(s.horizon({})), s.score.metric, s.description] for s in specs],
    )


@app.command()
def architectures(as_json: Json = False) -> None:
    """Architectures that a suite file can name."""
    from amago_suite.grid import architecture_names
    from amago_suite.paths import ARCHITECTURES

    rows = []
    for name in architecture_names():
        first = (ARCHITECTURES / f"{name}.gin").read_text().splitlines()[0]
        rows.append({"id": name, "description": first.lstrip("# ").strip()})
    if as_json:
        print_json(rows)
        return
    print_table(["id", "description"], [[row["id"], row["description"]] for row in rows])
