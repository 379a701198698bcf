"""Finding a family's built image, and whether it fits this code."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from amago import TRAINING_VERSION
from amago.errors import ConfigurationError
from amago.files import sha256
from amago.registry import nearest
from amago_suite.images.contents import check_family, lock_hash, pin, reference, sif_path
from amago_suite.images.daemon import DAEMONS, connect
from amago_suite.images.image import Image, ImageMissing
from amago_suite.paths import shown

FAMILY = "amago.family"
VARIANT = "amago.variant"
TRAINING = "amago.training-version"
LOCK = "amago.lock-hash"
IMAGE_ID = "amago.image-id"
CODE = "amago.code-hash"
REVISION = "org.opencontainers.image.revision"
VERSION = "org.opencontainers.image.version"
ENGINES = (*DAEMONS, "apptainer")


def check_engine(engine: str) -> None:
    """Raise a ConfigurationError for what has no images."""
    if engine not in ENGINES:
        raise ConfigurationError(f"no engine {engine!r} has images; {nearest(engine, list(ENGINES))}")


def resolve(engine: str, family: str) -> Image:
    """The image that jobs of ``family`` run in. Asks the engine: once a suite, not once a job.

    Args:
        engine: docker, podman or apptainer.
        family: a folder of containers/.

    Raises:
        ImageMissing: it was not built yet.
        ConfigurationError: the engine is not there, or the image belongs to other code.
    """
    check_engine(engine)
    check_family(family)
    if engine == "apptainer":
        return _resolve_sif(family)
    return _resolve_daemon(engine, family)


def check_labels(labels: Mapping[str, str], family: str, name: str, engine: str) -> None:
    """Refuse an image that would train otherwise than this code, or with other packages.

    Raises:
        ConfigurationError: says what differs, and what mends it.
    """
    build = f"`amago-suite images build {family} --engine {engine}`"
    if pin(family) is not None:
        build = f"another image in containers/{family}/image.txt, or none and {build},"
    found = labels.get(FAMILY)
    if found is None:
        raise ConfigurationError(
            f"{name} has no label {FAMILY}, so it is no image of this project; {build} makes one"
        )
    differences = [
        f"{what} {labels.get(label, 'none')[:12]} (here: {here[:12]})"
        for what, label, here in (
            ("family", FAMILY, family),
            ("training version", TRAINING, str(TRAINING_VERSION)),
            ("lock", LOCK, lock_hash(family)),
        )
        if labels.get(label) != here
    ]
    if differences:
        raise ConfigurationError(
            f"the image {name} of {engine} was built for other code: {', '.join(differences)}; {build} makes one that fits"
        )


def run_apptainer(*arguments: str, timeout: float | None = 120) -> subprocess.CompletedProcess[str]:
    """Apptainer's output.

    Raises:
        ConfigurationError: it is not installed.
    """
    program = shutil.which("apptainer") or shutil.which("singularity")
    if program is None:
        raise ConfigurationError(
            "apptainer is not installed (Debian and others have a package; on a cluster perhaps `module load "
            "apptainer`), or choose another engine with --engine"
        )
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=timeout)


def sif_labels(path: Path) -> dict[str, str]:
    """Labels of a .sif.

    Raises:
        ConfigurationError: Apptainer cannot read it.
    """
    done = run_apptainer("inspect", "--json", "--labels", str(path))
    try:
        labels = json.loads(done.stdout)["data"]["attributes"]["labels"]
    except (ValueError, KeyError, TypeError):
        reason = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise ConfigurationError(f"{shown(path)} is no image that Apptainer can read: {reason}") from None
    return {key: str(value) for key, value in (labels or {}).items()}


def image_id(attributes: Mapping[str, Any]) -> str:
    """``sha256:...`` from what an engine says of an image."""
    return "sha256:" + str(attributes["Id"]).removeprefix("sha256:")


def _resolve_daemon(engine: str, family: str) -> Image:
    from docker.errors import APIError, ImageNotFound

    client = connect(engine)
    name = reference(family)
    try:
        found = client.images.get(name)
    except ImageNotFound:
        way_out = f"`amago-suite images build {family} --engine {engine}` makes it"
        if pin(family) is not None:
            way_out = f"`{engine} pull {name}` may bring it (containers/{family}/image.txt names it)"
        raise ImageMissing(f"{engine} has no image {name}; {way_out}") from None
    except APIError as error:
        raise ConfigurationError(f"{engine} says of the image {name}: {error.explanation}") from error
    finally:
        client.close()
    check_labels(found.labels, family, name, engine)
    # Podman makes up a digest for what it built itself; only a pinned image came from somewhere.
    digests = found.attrs.get("RepoDigests") or [] if pin(family) is not None else []
    return Image(
        engine=engine,
        family=family,
        reference=name,
        image_id=image_id(found.attrs),
        repo_digest=digests[0] if digests else None,
        sif=None,
        sif_sha256=None,
        lock_hash=found.labels[LOCK],
        commit=found.labels.get(REVISION),
        code_hash=found.labels.get(CODE),
    )


def _resolve_sif(family: str) -> Image:
    path = sif_path(family)
    if not path.is_file():
        run_apptainer("--version")
        raise ImageMissing(
            f"there is no {shown(path)}; `amago-suite images build {family} --engine apptainer` makes it"
        )
    labels = sif_labels(path)
    check_labels(labels, family, shown(path), "apptainer")
    if IMAGE_ID not in labels:
        raise ConfigurationError(
            f"{shown(path)} has no label {IMAGE_ID}, so nobody can tell which image it was made of; "
            f"`amago-suite images build {family} --engine apptainer` makes one that says so"
        )
    return Image(
        engine="apptainer",
        family=family,
        reference=shown(path),
        image_id=labels[IMAGE_ID],
        repo_digest=None,
        sif=path.resolve(),
        sif_sha256=sha256(path),
        lock_hash=labels[LOCK],
        commit=labels.get(REVISION),
        code_hash=labels.get(CODE),
    )
