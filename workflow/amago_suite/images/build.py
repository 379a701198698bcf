"""Building a family's image with Docker or podman."""

from __future__ import annotations

import os
import re
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO, TYPE_CHECKING

from amago import TRAINING_VERSION
from amago.errors import AmagoError, ConfigurationError
from amago_suite.images.contents import (
    DOCKERFILE,
    built_name,
    check_family,
    code_hash,
    host_variant,
    lock_hash,
    pin,
)
from amago_suite.images.daemon import connect
from amago_suite.images.finding import resolve
from amago_suite.images.image import Image
from amago_suite.paths import ROOT, shown

if TYPE_CHECKING:
    from docker import DockerClient

#: Logs and locks of builds.
WORK = ROOT / "build" / "images"
#: The image to build on, where the default one cannot be had.
BASE_VARIABLE = "AMAGO_IMAGE_BASE"
VARIANTS = ("cpu", "cuda")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """How to build; every default is what the Dockerfile or this machine says."""

    base: str | None = None  #: image to build on
    variant: str | None = None  #: build of torch, cpu or cuda
    torch_index: str | None = None  #: package index for torch alone
    fresh: bool = False  #: use no layer of an earlier build


def build(engine: str, family: str, options: Options | None = None, say: Say = print) -> Image:
    """Build the image of ``family``, or renew it; unchanged layers are taken from the last build.

    Args:
        engine: docker or podman.
        family: a folder of containers/.
        options: what to build on and with.
        say: told what happens, a line at a time.

    Raises:
        ConfigurationError: the engine does not answer, or the family's image is pinned.
        AmagoError: the build failed; the message has its last lines and the log's path.
    """
    check_family(family)
    if pin(family) is not None:
        raise ConfigurationError(
            f"the image of {family} is pinned by containers/{family}/image.txt: `{engine} pull {pin(family)}` brings it"
        )
    options = options or Options()
    client = connect(engine)
    log = WORK / f"{family}.{engine}.log"
    say(f"building the image of {family} with {engine} (log: {shown(log)})")
    began = time.monotonic()
    try:
        with _context(options.variant or host_variant()) as context, _opened(log) as output:
            _build(client, engine, family, options, context, output)
    finally:
        client.close()
    image = resolve(engine, family)
    say(f"{image.reference}: {image.image_id[:19]} in {time.monotonic() - began:.0f} s")
    return image


@contextmanager
def build_lock(name: str) -> Iterator[None]:
    """Keep a second process from building the same thing at the same time."""
    from filelock import FileLock

    WORK.mkdir(parents=True, exist_ok=True)
    with FileLock(WORK / f"{name}.lock"):
        yield


def build_arguments(family: str, options: Options) -> dict[str, str]:
    """The Dockerfile's arguments."""
    from amago_suite.provenance import git_state

    git = git_state()
    revision = f"{git['commit']}-dirty" if git["dirty"] else git["commit"] or "unknown"
    base = options.base or os.environ.get(BASE_VARIABLE)
    return {
        **({"BASE": base} if base else {}),
        **({"TORCH_INDEX": options.torch_index} if options.torch_index else {}),
        "VARIANT": options.variant or host_variant(),
        "FAMILY": family,
        "REVISION": revision,
        "VERSION": metadata.version("amago-suite"),
        "TRAINING_VERSION": str(TRAINING_VERSION),
        "LOCK_HASH": lock_hash(family),
        "CODE_HASH": code_hash(),
    }


def _build(
    client: DockerClient, engine: str, family: str, options: Options, context: IO[bytes], log: IO[str]
) -> None:
    from docker.errors import APIError
    from requests.exceptions import RequestException

    lines: list[str] = []
    try:
        answers = client.api.build(
            fileobj=context,
            custom_context=True,
            dockerfile=str(DOCKERFILE.relative_to(ROOT)),
            tag=built_name(family),
            buildargs=build_arguments(family, options),
            nocache=options.fresh,
            rm=True,
            forcerm=True,
            decode=True,
        )
        for answer in answers:
            text = answer.get("error") or answer.get("stream") or answer.get("status") or ""
            log.write(text if text.endswith("\n") or not text else f"{text}\n")
            lines += [line for line in text.splitlines() if line.strip()]
            if "error" in answer:
                raise AmagoError(failure(family, engine, lines, Path(log.name)))
    except APIError as error:
        lines.append(str(error.explanation or error))
        raise AmagoError(failure(family, engine, lines, Path(log.name))) from error
    except RequestException as error:
        raise AmagoError(f"{engine} broke off while it built the image of {family}: {error}") from error


def failure(family: str, engine: str, lines: list[str], log: Path) -> str:
    """What to say of a build that failed: the way out where it is known, and its last lines."""
    said = "\n".join(lines[-20:])
    way_out = ""
    if re.search(r"no space left on device|disk quota exceeded", said, re.IGNORECASE):
        way_out = f": the disk is full (`{engine} system df` says what images use, `{engine} image prune` frees some)"
    elif re.search(
        r"toomanyrequests|pull access denied|failed to resolve|manifest unknown|dial tcp|i/o timeout", said
    ):
        way_out = (
            f": the base image or a package cannot be fetched (--base or {BASE_VARIABLE} names another base)"
        )
    ends = "".join(f"\n  {line.rstrip()}" for line in lines[-6:])
    return f"building the image of {family} with {engine} failed{way_out}{ends}\n  whole log: {shown(log)}"


@contextmanager
def _context(variant: str) -> Iterator[IO[bytes]]:
    """The files that the Dockerfile copies, as a tar file that is the same for the same files."""
    from docker.utils.build import exclude_paths

    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    files = sorted(exclude_paths(str(ROOT), patterns, dockerfile=str(DOCKERFILE.relative_to(ROOT))))
    with tempfile.TemporaryFile() as packed:
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for name in files:
                tar.add(ROOT / name, arcname=name, recursive=False, filter=_neutral)
            for wheel in torch_wheels(variant):
                tar.add(wheel, arcname=wheel.name, filter=_neutral)
        packed.seek(0)
        yield packed


def torch_wheels(variant: str) -> list[Path]:
    """Wheels of torch's wanted build in the folders that pip looks into here (PIP_FIND_LINKS)."""
    version = re.search(r"^torch==(\S+)", (ROOT / "requirements" / "torch.txt").read_text(), re.MULTILINE)
    assert version is not None
    folders = [Path(name) for name in os.environ.get("PIP_FIND_LINKS", "").split() if Path(name).is_dir()]
    found = [path for folder in folders for path in sorted(folder.glob(f"torch-{version[1]}*.whl"))]
    return [path for path in found if ("+cpu" in path.name) == (variant == "cpu")][:1]


def _neutral(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Owner, times and modes of the checkout must not make another image."""
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
    return entry


@contextmanager
def _opened(log: Path) -> Iterator[IO[str]]:
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "w", buffering=1) as file:
            yield file
    except OSError as error:
        raise AmagoError(f"cannot write {shown(log)}: {error.strerror or error}") from error
