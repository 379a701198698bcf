"""What images there are, and whether each fits this code."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from amago.errors import ConfigurationError
from amago_suite.images.contents import reference, sif_path
from amago_suite.images.daemon import connect
from amago_suite.images.finding import REVISION, resolve, sif_labels
from amago_suite.images.image import Image, ImageMissing
from amago_suite.images.preparing import other_code
from amago_suite.paths import shown

READY, OLD, MISSING, OTHER, NO_ENGINE = "ready", "other code", "missing", "does not fit", "no engine"


@dataclass(frozen=True)
class Listed:
    """A family's image in one engine."""

    family: str
    engine: str
    reference: str
    state: str
    image: Image | None = None
    size_bytes: int | None = None
    revision: str | None = None  #: git commit that it was built from
    why: str | None = None  #: it is not ready, or holds other code

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "image": self.image.to_dict() if self.image else None}


def list_images(families: Iterable[str], engines: Iterable[str]) -> list[Listed]:
    """Look for the image of every family in every engine."""
    silent: dict[str, str] = {}
    listed = []
    for engine in engines:
        try:
            _check_engine(engine)
        except ConfigurationError as error:
            silent[engine] = str(error)
    for family in families:
        for engine in engines:
            name = shown(sif_path(family)) if engine == "apptainer" else reference(family)
            if engine in silent:
                listed.append(Listed(family, engine, name, NO_ENGINE, why=silent[engine]))
            else:
                listed.append(_look(family, engine, name))
    return listed


def _check_engine(engine: str) -> None:
    if engine == "apptainer":
        from amago_suite.images.finding import run_apptainer

        run_apptainer("--version")
    else:
        connect(engine).close()


def _look(family: str, engine: str, name: str) -> Listed:
    try:
        image = resolve(engine, family)
    except ImageMissing as error:
        return Listed(family, engine, name, MISSING, why=str(error))
    except ConfigurationError as error:
        return Listed(family, engine, name, OTHER, why=str(error))
    size, revision = _facts(image)
    note = other_code(image)
    return Listed(family, engine, name, OLD if note else READY, image, size, revision, note)


def _facts(image: Image) -> tuple[int, str | None]:
    """Size in bytes (uncompressed, but for a .sif) and commit."""
    if image.sif is not None:
        return image.sif.stat().st_size, sif_labels(image.sif).get(REVISION)
    client = connect(image.engine)
    try:
        found = client.images.get(image.image_id)
        return int(found.attrs["Size"]), found.labels.get(REVISION)
    finally:
        client.close()
