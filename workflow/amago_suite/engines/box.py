"""The box that a job runs in, as the job itself sees it: its name, and which image it is made of."""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

#: Tells the process in a box where it is.
VARIABLE = "AMAGO_SUITE_BOX"
#: What Apptainer itself leaves in its containers, also where something else than this package started them.
_APPTAINER, _LABELS = "APPTAINER_CONTAINER", Path("/.singularity.d/labels.json")


@dataclass(frozen=True, slots=True)
class Box:
    """A container that runs one job. Where an engine is asked, it finds the container by this name."""

    name: (
        str  #: unique; stands for the machine in locks, because process numbers in a box mean nothing outside
    )
    host: str  #: the machine that it is on
    engine: str
    image: str | None = None  #: reference, as a person would write it
    image_id: str | None = (
        None  #: "sha256:...": digest of the image's configuration, the same in every engine
    )
    repo_digest: str | None = None
    sif_sha256: str | None = None
    lock_hash: str | None = None  #: of what the image installs
    commit: str | None = None  #: of the code in the image, as its label says

    def text(self) -> str:
        """For the environment of the box."""
        return json.dumps(asdict(self))

    def record(self) -> dict[str, Any]:
        """What provenance says of it."""
        return {
            "engine": self.engine,
            "image": self.image,
            "image_id": self.image_id,
            "repo_digest": self.repo_digest,
            "sif_sha256": self.sif_sha256,
            "lock_hash": self.lock_hash,
        }


def new_name(engine: str) -> str:
    """A name for a box of this machine that no other has: ``HOST/ENGINE-RANDOM``."""
    return f"{socket.gethostname()}/{engine}-{secrets.token_hex(6)}"


@cache
def current() -> Box | None:
    """The box that this process runs in, or None on the host."""
    return _read(os.environ)


def _read(environment: Mapping[str, str]) -> Box | None:
    text = environment.get(VARIABLE)
    if text:
        return Box(**json.loads(text))
    if _APPTAINER in environment:
        # Started by something else, Snakemake's own `--sdm apptainer` say: process numbers are the host's.
        return Box(
            name=socket.gethostname(), host=socket.gethostname(), engine="apptainer",
            image=Path(environment[_APPTAINER]).name, **_labels(),
        )  # fmt: skip
    return None


def _labels() -> dict[str, str | None]:
    try:
        found = json.loads(_LABELS.read_text())
    except (OSError, ValueError):
        found = {}
    return {
        "image_id": found.get("amago.image-id"),
        "lock_hash": found.get("amago.lock-hash"),
        "commit": found.get("org.opencontainers.image.revision"),
    }


def here() -> str:
    """What names this place in locks: the box, or on the host the machine."""
    box = current()
    return box.name if box else socket.gethostname()


def host() -> str:
    """The machine's name, in a box too."""
    box = current()
    return box.host if box else socket.gethostname()
