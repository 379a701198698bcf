"""An image for Apptainer, made from the one that Docker or podman built; and copies from one to the other."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from amago.errors import AmagoError, ConfigurationError
from amago_suite.folders.files import write_text
from amago_suite.images.build import WORK, Say, failure
from amago_suite.images.contents import sif_path
from amago_suite.images.daemon import connect
from amago_suite.images.finding import IMAGE_ID, resolve, run_apptainer
from amago_suite.images.image import Image
from amago_suite.paths import shown


def build_sif(image: Image, say: Say = print) -> Image:
    """Pack ``image`` into the family's .sif, which says in a label what it was made of.

    Args:
        image: of Docker or podman.
        say: told what happens, a line at a time.

    Raises:
        ConfigurationError: Apptainer is not installed.
        AmagoError: it failed; the message has its last lines.
    """
    target = sif_path(image.family)
    run_apptainer("--version")
    say(f"packing {image.reference} into {shown(target)}")
    began = time.monotonic()
    WORK.mkdir(parents=True, exist_ok=True)
    # Beside its place, so that a full disk leaves the old one whole.
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with tempfile.TemporaryDirectory(dir=WORK, prefix=f"{image.family}-") as folder:
            definition = Path(folder, "definition")
            write_text(definition, _definition(image, Path(folder)), durable=False)
            # Half as long to pack as gzip, and quicker to read.
            quick = ["--mksquashfs-args", "-comp zstd -Xcompression-level 3"]
            done = run_apptainer("build", "--force", *quick, str(fresh), str(definition), timeout=None)
        log = WORK / f"{image.family}.apptainer.log"
        write_text(log, done.stdout + done.stderr, durable=False)
        if done.returncode != 0:
            lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            raise AmagoError(failure(image.family, "apptainer", lines, log))
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)
    made = resolve("apptainer", image.family)
    size = target.stat().st_size / 1e6
    say(f"{shown(target)}: {size:.0f} MB in {time.monotonic() - began:.0f} s")
    return made


def copy_image(image: Image, engine: str, say: Say = print) -> Image:
    """Hand an image that one of Docker and podman built to the other; its id stays.

    Raises:
        ConfigurationError: an engine does not answer.
        AmagoError: what arrived is another image.
    """
    say(f"copying {image.reference} from {image.engine} to {engine}")
    source, target = connect(image.engine), connect(engine)
    try:
        # It streams an iterator as well, which a whole gigabyte in memory is worse than.
        target.images.load(cast("bytes", source.images.get(image.reference).save(named=True)))
    finally:
        source.close()
        target.close()
    copied = resolve(engine, image.family)
    if copied.image_id != image.image_id:
        raise AmagoError(
            f"{engine} made {copied.image_id} of {image.image_id} while copying {image.reference}; "
            f"build it there: `amago-suite images build {image.family} --engine {engine}`"
        )
    return copied


def _definition(image: Image, folder: Path) -> str:
    if image.engine == "docker" and not os.environ.get("DOCKER_HOST", "unix:").startswith("unix:"):
        raise ConfigurationError(
            "apptainer reads Docker's images on this machine only, and DOCKER_HOST names another"
        )
    if image.engine == "docker":
        source = f"Bootstrap: docker-daemon\nFrom: {_tagged(image.reference)}"
    else:
        archive = folder / "image.tar"
        _save(image, archive)
        source = f"Bootstrap: docker-archive\nFrom: {archive}"
    return f"{source}\n\n%labels\n    {IMAGE_ID} {image.image_id}\n"


def _save(image: Image, archive: Path) -> None:
    client = connect(image.engine)
    try:
        chunks: Iterator[bytes] = client.images.get(image.reference).save(named=True)
        with archive.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
    except OSError as error:
        raise AmagoError(f"cannot write {shown(archive)}: {error.strerror or error}") from error
    finally:
        client.close()


def _tagged(reference: str) -> str:
    """Apptainer takes no name without a tag or a digest."""
    return reference if ":" in reference.rpartition("/")[2] else f"{reference}:latest"
