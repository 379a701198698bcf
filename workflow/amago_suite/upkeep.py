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

    from amago_suite.freeing import free, measure

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
