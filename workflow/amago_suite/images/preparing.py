"""What a suite needs of images before its first job, and what its jobs read of it.

An image is provenance and no identity: no rule has it as an input, or finished cells would be trained
again whenever one is built or the engine changes. So what is found is recorded beside the results.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from amago.errors import ConfigurationError
from amago_suite.folders.files import read_record, write_json
from amago_suite.images.build import Options, Say, build, build_lock
from amago_suite.images.contents import check_family, code_hash, pin
from amago_suite.images.finding import resolve
from amago_suite.images.image import Image, ImageMissing
from amago_suite.images.sif import build_sif, copy_image
from amago_suite.paths import shown

if TYPE_CHECKING:
    from amago_suite.grid import Grid

HOST = "host"


def prepare(grid: Grid, engine: str, say: Say = print) -> dict[str, Image]:
    """Before a suite's first job: find the images of its unfinished cells, build what is missing.

    Args:
        grid: about to run.
        engine: of its jobs; on the host nothing is needed.
        say: told what happens, a line at a time.

    Returns:
        The image of every family that has something to do.

    Raises:
        ConfigurationError: the engine is not there, or an image belongs to other code.
        AmagoError: a build failed.
    """
    if engine == HOST:
        return {}
    found = {}
    for family in wanted_families(grid):
        found[family] = ensure(engine, family, say=say)
        if note := other_code(found[family]):
            say(f"note: {note}")
        write_json(record_file(grid.folder, engine, family), found[family].to_dict(), durable=False)
    return found


def other_code(image: Image) -> str | None:
    """What to say of an image whose code is not the code that lies here; None where it is the same.

    Such an image is used, so that a suite half done goes on in the one that it began in.
    """
    if image.code_hash == code_hash():
        return None
    renew = f"`amago-suite images build {image.family} --engine {image.engine}` renews it"
    if pin(image.family) is not None:
        renew = f"containers/{image.family}/image.txt pins it"
    commit = f" (commit {image.commit[:8]})" if image.commit else ""
    return f"jobs in {image.reference} run the code that is in it{commit}, which differs from what is here; {renew}"


def wanted_families(grid: Grid) -> list[str]:
    """Families with a cell that is not trained and evaluated yet."""
    open_cells = (
        cell
        for cell in grid
        if not all(p.exists() for p in (cell.policy, cell.provenance, cell.episodes, cell.evaluation_file))
    )
    return sorted({cell.family for cell in open_cells})


def ensure(engine: str, family: str, options: Options | None = None, say: Say = print) -> Image:
    """The family's image, built when there is none. One process builds, others wait for it."""
    try:
        return resolve(engine, family)
    except ImageMissing:
        with build_lock(f"{family}.{engine}"):
            try:
                return resolve(engine, family)
            except ImageMissing:
                return make(engine, family, options, say)


def make(engine: str, family: str, options: Options | None = None, say: Say = print) -> Image:
    """Build for one engine: .sif files from Docker's or podman's image, which is built when missing."""
    if engine != "apptainer":
        return build(engine, family, options, say)
    reasons = []
    for daemon in ("docker", "podman"):
        try:
            return build_sif(ensure(daemon, family, options, say), say)
        except ConfigurationError as error:
            reasons.append(str(error))
    raise ConfigurationError(
        f"an image for apptainer is made from one of docker or podman, and neither has it: {'; '.join(reasons)}. "
        f"Build it on another machine and copy containers/{family}/image.sif"
    )


def make_all(
    engines: Sequence[str], family: str, options: Options | None = None, say: Say = print
) -> list[Image]:
    """Build once, with the first engine that builds, and hand the very same image to the others."""
    check_family(family)
    daemons = [engine for engine in engines if engine != "apptainer"]
    if not daemons:
        with build_lock(f"{family}.apptainer"):
            return [make("apptainer", family, options, say)]
    with build_lock(f"{family}.{daemons[0]}"):
        first = build(daemons[0], family, options, say)
    made = [first] + [copy_image(first, engine, say) for engine in daemons[1:]]
    if "apptainer" in engines:
        with build_lock(f"{family}.apptainer"):
            made.append(build_sif(first, say))
    return made


def record_file(suite_folder: Path, engine: str, family: str) -> Path:
    """Where a suite's run says which image its jobs get."""
    return suite_folder / ".images" / f"{engine}-{family}.json"


def recorded(suite_folder: Path, engine: str, family: str) -> Image:
    """The image that `prepare` found; looked for now where it did not (a cell by hand).

    Args:
        suite_folder: results/SUITE.
        engine: of the job.
        family: of its cell.

    Raises:
        ConfigurationError: there is no such image, or its record is damaged.
    """
    path = record_file(suite_folder, engine, family)
    record = read_record(path)
    if record is None:
        image = resolve(engine, family)
        write_json(path, image.to_dict(), durable=False)
        return image
    try:
        return Image.from_dict(record)
    except ConfigurationError as error:
        raise ConfigurationError(f"{shown(path)}: {error}") from None
