"""`amago-suite images build | list | digest`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from amago.errors import ConfigurationError
from amago_suite.command_line import Json, print_json, print_table

if TYPE_CHECKING:
    from amago_suite.images.listing import Listed

app = typer.Typer(name="images", help="Images of the families that jobs run in.", no_args_is_help=True)

Families = Annotated[list[str] | None, typer.Argument(metavar="[FAMILY]...", help="All by default.")]
Engines = Annotated[
    list[str] | None,
    typer.Option("--engine", metavar="ENGINE", help="docker, podman or apptainer (repeatable)."),
]


@app.command()
def build(
    families: Families = None,
    engine: Engines = None,
    base: Annotated[
        str | None,
        typer.Option(help="Image to build on; by default the Dockerfile's, or what AMAGO_IMAGE_BASE names."),
    ] = None,
    variant: Annotated[
        str | None, typer.Option(help="Build of torch: cpu or cuda; by default as on this machine.")
    ] = None,
    torch_index: Annotated[str | None, typer.Option(help="Package index for torch alone.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Use nothing of earlier builds.")] = False,
    as_json: Json = False,
) -> None:
    """Build images once, for one engine (docker by default) or several; unchanged parts are not built again."""
    from amago_suite.images.build import VARIANTS, Options
    from amago_suite.images.preparing import make_all

    if variant is not None and variant not in VARIANTS:
        raise ConfigurationError(f"--variant is {variant!r}: {' or '.join(VARIANTS)}")
    options = Options(base, variant, torch_index, fresh)
    made = []
    for family in _families(families):
        made += make_all(_engines(engine, ("docker",)), family, options, _say)
    if as_json:
        print_json([image.to_dict() for image in made])


@app.command("list")
def list_(families: Families = None, engine: Engines = None, as_json: Json = False) -> None:
    """Which images there are, how large, and whether they fit this code."""
    from amago_suite.images.finding import ENGINES

    found = _look(families, engine, ENGINES)
    if as_json:
        print_json([row.to_dict() for row in found])
        return
    print_table(
        ["family", "engine", "image", "id", "size", "commit", ""],
        [
            [
                *(row.family, row.engine, row.reference),
                row.image.image_id[7:19] if row.image else "",
                f"{row.size_bytes / 1e6:,.0f} MB" if row.size_bytes is not None else "",
                (row.revision or "")[:8],
                row.state,
            ]
            for row in found
        ],
    )
    for why in dict.fromkeys(row.why for row in found if row.why and row.state != "missing"):
        print(why, file=sys.stderr)


@app.command()
def digest(families: Families = None, engine: Engines = None, as_json: Json = False) -> None:
    """The ids of images, as they stand in every run's provenance."""
    from amago_suite.images.finding import ENGINES

    ready = [row.image for row in _look(families, engine, ENGINES) if row.image is not None]
    if as_json:
        print_json([image.to_dict() for image in ready])
        return
    print_table(
        ["family", "engine", "image id", "registry digest, or SHA-256 of the .sif"],
        [[i.family, i.engine, i.image_id, i.repo_digest or i.sif_sha256 or ""] for i in ready],
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _look(families: list[str] | None, engines: list[str] | None, default: tuple[str, ...]) -> list[Listed]:
    from amago_suite.images.listing import list_images

    return list_images(_families(families), _engines(engines, default))


def _families(given: list[str] | None) -> list[str]:
    from amago_suite.images.contents import check_family, families

    for family in given or []:
        check_family(family)
    return list(dict.fromkeys(given)) if given else families()


def _engines(given: list[str] | None, default: tuple[str, ...]) -> tuple[str, ...]:
    from amago_suite.images.finding import check_engine

    for engine in given or []:
        check_engine(engine)
    return tuple(dict.fromkeys(given)) if given else default
