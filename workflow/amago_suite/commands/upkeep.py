"""Commands that look after a machine and its results: `amago-suite gc | doctor`."""

from __future__ import annotations

from typing import Annotated

import typer

from amago_suite.command_line import (
    AllowImports,
    Json,
    Smoke,
    Suite,
    planned,
    print_json,
    print_table,
    resumable,
    spinner,
)
from amago_suite.exits import DONE, USAGE

app = typer.Typer()


@app.command()
def gc(
    suite: Suite,
    smoke: Smoke = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Free it. Without, only say what would be freed.")
    ] = False,
    as_json: Json = False,
    imports: AllowImports = False,
) -> None:
    """Free checkpoints and replay of runs that are trained and evaluated; their results stay."""
    from rich.filesize import decimal

    from amago_suite.folders.freeing import free, measure

    grid = planned(suite, smoke)
    with resumable(), spinner(f"{grid.suite}: looking at {len(grid)} runs") as say:
        spaces = free(grid, lambda cell: say(f"freeing {cell.label}")) if yes else measure(grid)
    going = [space for space in spaces if space.bytes and space.kept is None]
    total = sum(space.bytes for space in going)
    if as_json:
        cells = [space.to_dict() for space in spaces]
        print_json({"suite": grid.suite, "freed": yes, "runs": len(going), "bytes": total, "cells": cells})
        return
    shown = [space for space in spaces if space.bytes]
    if len(shown) > 60:
        shown = [space for space in shown if space.kept is not None]
    if shown:
        print_table(
            ["environment", "architecture", "seed", "space", "", "why"],
            [
                [
                    *(space.cell.environment, space.cell.architecture, str(space.cell.seed)),
                    *(decimal(space.bytes), "stays" if space.kept else "freed" if yes else "can go"),
                    space.kept or "",
                ]
                for space in shown
            ],
        )
        print()
    size = f"{decimal(total)} of {len(going)} finished run{'' if len(going) == 1 else 's'}"
    if yes:
        print(f"{grid.suite}: freed {size}; policies, records and logs stay")
    elif going:
        print(
            f"{grid.suite}: {size} can go: type the same command with --yes. Policies, records and logs stay; "
            "a larger budget would then train from the start"
        )
    else:
        print(f"{grid.suite}: nothing to free")


@app.command()
def doctor(
    profile: Annotated[
        str | None, typer.Option(metavar="P", help="The profile that you will run with: profiles/slurm, say.")
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(metavar="E", help="host, docker, podman or apptainer; the profile's by default."),
    ] = None,
    suite: Annotated[str | None, typer.Option(metavar="S", help="The suite that you will run.")] = None,
    nodes: Annotated[
        int, typer.Option(min=0, help="Also meet so many nodes of the cluster, in a job of a minute each.")
    ] = 0,
    patience: Annotated[
        float, typer.Option(min=1, help="Seconds that such a job may wait in the queue.")
    ] = 300.0,
    as_json: Json = False,
) -> None:
    """Look for what would stop a suite here: machine, engine, cluster, settings. Nothing is submitted."""
    from amago_suite.doctor import OK, PROBLEM, examine

    found = []
    with resumable(), spinner("looking") as say:
        for finding in examine(profile=profile, engine=engine, suite=suite, nodes=nodes, patience=patience):
            found.append(finding)
            say(f"looking: {finding.area}")
    problems = sum(finding.level == PROBLEM for finding in found)
    if as_json:
        print_json({"problems": problems, "findings": [finding.to_dict() for finding in found]})
    else:
        print_table(
            ["", "area", "found", "way out"],
            [[f.level if f.level != OK else "", f.area, f.what, f.way_out] for f in found],
        )
        print(
            "\nnothing stands in the way" if not problems else f"\n{problems} to mend before anything can run"
        )
    raise typer.Exit(USAGE if problems else DONE)
