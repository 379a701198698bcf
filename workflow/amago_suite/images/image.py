"""One built image, as provenance and jobs know it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from amago.errors import ConfigurationError


class ImageMissing(ConfigurationError):
    """No such image; the message says what makes it."""


@dataclass(frozen=True)
class Image:
    """An image that was found and fits this code."""

    engine: str  #: docker, podman or apptainer
    family: str
    reference: str  #: the name it was found by, or the path of its .sif
    image_id: str  #: "sha256:...", the digest of its OCI configuration: the same in every engine
    repo_digest: str | None  #: "name@sha256:..." of an image that came from a registry
    sif: Path | None
    sif_sha256: str | None
    lock_hash: str
    commit: str | None = None  #: of the code in it, "-dirty" at its end where files differed
    code_hash: str | None = None  #: of that code, as its label says

    def to_dict(self) -> dict[str, Any]:
        """For a JSON file."""
        return {**asdict(self), "sif": str(self.sif) if self.sif else None}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Image:
        """What `to_dict` gave.

        Raises:
            ConfigurationError: it is something else.
        """
        texts = ("engine", "family", "reference", "image_id", "lock_hash")
        optional = ("repo_digest", "sif", "sif_sha256", "commit", "code_hash")
        if not all(isinstance(content.get(key), str) for key in texts) or not all(
            isinstance(content.get(key), (str, type(None))) for key in optional
        ):
            raise ConfigurationError("not the record of an image; delete it and start again")
        values: dict[str, Any] = {key: content.get(key) for key in (*texts, *optional)}
        return cls(**values | {"sif": Path(values["sif"]) if values["sif"] else None})
