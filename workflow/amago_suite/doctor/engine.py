"""What jobs run in: the host itself, or images of an engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from amago.errors import AmagoError
from amago_suite.doctor.findings import Finding, note, ok, problem

if TYPE_CHECKING:
    from amago_suite.images import Image

HOST = "host"


def engine(name: str, families: Iterable[str]) -> Iterator[Finding]:
    """Is the engine there, and an image of this code for every family? Does it start them well?"""
    if name == HOST:
        yield ok("engine", "jobs run on the host, without containers")
        return
    from amago_suite.images import resolve
    from amago_suite.images.preparing import other_code

    found = None
    for family in sorted(set(families)):
        try:
            image = resolve(name, family)
        except AmagoError as error:
            yield _problem(error)
            continue
        found = image
        if said := other_code(image):
            what, _, way_out = said.partition("; ")
            yield note("engine", what, way_out)
        else:
            yield ok("engine", f"{name}: {image.reference} ({image.image_id[:19]}) fits this code")
    if found is not None:
        yield from _boxes(found)


def _boxes(image: Image) -> Iterator[Finding]:
    """What jobs in this engine meet that its images do not show."""
    from amago_suite.engines import engine as boxes_of
    from amago_suite.engines.boxed import Boxed

    boxes = boxes_of(image.engine)
    assert isinstance(boxes, Boxed)
    try:
        if why := boxes.without_limits():
            what = f"{image.engine}: a job can use more memory and CPUs than the suite gives it"
            yield note("engine", what, f"{why}; keep --cores small enough for all jobs to fit")
        if slow := boxes.slow_start(image):
            yield note("engine", f"{image.engine}: {slow[0]}", slow[1])
    except AmagoError as error:
        yield _problem(error)


def _problem(error: AmagoError) -> Finding:
    what, _, way_out = str(error).partition("; ")
    return problem("engine", what, way_out or "see docs/engines.md")
