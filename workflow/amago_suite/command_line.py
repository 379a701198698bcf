"""What commands share: options, and how they print."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amago_suite.configuration.imports import allow_imports
from amago_suite.exits import RESUMABLE

if TYPE_CHECKING:
    from rich.console import Console

    from amago_suite.grid import Grid

Suite = Annotated[str, typer.Argument(help="A suite in config/suites/, or a path to a YAML file.")]
Smoke = Annotated[bool, typer.Option("--smoke", help="The small size that the suite states.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
CellFolder = Annotated[Path, typer.Argument(help="results/SUITE/ENVIRONMENT/ARCHITECTURE/seed_N")]
EngineName = Annotated[
    str | None,
    typer.Option("--engine", help="What jobs run in: host (the default), docker, podman or apptainer."),
]
AllowImports = Annotated[
    bool,
    typer.Option(
        "--allow-imports",
        help="Let gin files import modules of other packages, which runs their code.",
        callback=lambda allowed: allow_imports(allowed) or allowed,
    ),
]


def planned(suite: str, smoke: bool) -> Grid:
    """The grid that a command is about."""
    from amago_suite.grid import plan

    return plan(suite, smoke=smoke)


@contextlib.contextmanager
def resumable() -> Iterator[None]:
    """A stop that comes before or after the training loop can be gone on from like any other."""
    try:
        yield
    except KeyboardInterrupt as error:  # TrainingInterrupted is one
        print(f"interrupted: {error}" if str(error) else "interrupted", file=sys.stderr)
        raise typer.Exit(RESUMABLE) from error


@contextlib.contextmanager
def spinner(text: str) -> Iterator[Callable[[str], None]]:
    """Something that moves on a terminal, and nothing elsewhere. Gives a function that changes the text."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda text: None
        return
    with console.status(text) as status:
        yield status.update


def print_json(content: Any) -> None:
    """Indented JSON."""
    print(json.dumps(content, indent=2))


def print_table(header: list[str], rows: list[list[str]]) -> None:
    """Columns in the terminal's width; in a file or a pipe, one line a row."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(value) for value in row))
    output().print(table)


def output() -> Console:
    """Standard output; into a file or a pipe, a row stays one line, however long."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=250)
