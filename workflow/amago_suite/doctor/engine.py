"""What jobs run in: the host itself, or images of an engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from amago.errors import AmagoError
from amago_suite.doctor.findings import Finding, note, ok, problem

HOST = "host"


def engine(name: str, families: Iterable[str]) -> Iterator[Finding]:
    """Is the engine there, and an image of this code for every family?"""
    if name == HOST:
        yield ok("engine", "jobs run on the host, without containers")
        return
    from amago_suite.images import resolve
    from amago_suite.images.preparing import other_code

    for family in sorted(set(families)):
        try:
            image = resolve(name, family)
        except AmagoError as error:
            what, _, way_out = str(error).partition("; ")
            yield problem("engine", what, way_out or "see docs/containers.md")
            continue
        if said := other_code(image):
            what, _, way_out = said.partition("; ")
            yield note("engine", what, way_out)
        else:
            yield ok("engine", f"{name}: {image.reference} ({image.image_id[:19]}) fits this code")
