"""What the image of a family holds: the folders of containers/, their locks and names."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path

from amago.errors import ConfigurationError
from amago.registry import nearest
from amago_suite.paths import ROOT, shown

CONTAINERS = ROOT / "containers"
DOCKERFILE = CONTAINERS / "Dockerfile"
CORE = "core"
#: What comes before a family in the names of built images.
PREFIX_VARIABLE = "AMAGO_IMAGE_PREFIX"
_LOCK = "requirements.lock"
_PIN = "image.txt"
#: What the Dockerfile copies, beside the locks.
_CODE = ("amago", "envs_suite", "workflow/amago_suite", "workflow/schemas")


def families() -> list[str]:
    """Names of all families, the core first."""
    names = [path.parent.name for path in CONTAINERS.glob(f"*/{_LOCK}")]
    return sorted(names, key=lambda name: (name != CORE, name))


def check_family(family: str) -> None:
    """Raise a ConfigurationError where there is no such family."""
    known = families()
    if family not in known:
        raise ConfigurationError(f"no family {family!r} in {shown(CONTAINERS)}; {nearest(family, known)}")


def lock_hash(family: str) -> str:
    """SHA-256 over what the family's image installs: its lock, Debian packages and torch's version."""
    check_family(family)
    parts = [ROOT / "requirements" / "torch.txt"]
    parts += [CONTAINERS / family / name for name in (_LOCK, "debian.txt")]
    digest = hashlib.sha256()
    for path in parts:
        if path.is_file():
            content = path.read_bytes()
            digest.update(f"{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def code_hash() -> str:
    """SHA-256 over the code that every family's image gets."""
    digest = hashlib.sha256()
    for path in sorted(path for part in _CODE for path in (ROOT / part).rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            content = path.read_bytes()
            digest.update(f"{path.relative_to(ROOT)} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def reference(family: str) -> str:
    """The name of the family's image: its pin where it has one, else the name that a build gives it."""
    return pin(family) or built_name(family)


def built_name(family: str) -> str:
    """The name that a build gives: another prefix keeps two checkouts apart, or names a registry of yours."""
    return f"{os.environ.get(PREFIX_VARIABLE) or 'amago-suite'}/{family}"


def pin(family: str) -> str | None:
    """An image of someone's own that stands for the family's: a name, a digest, or a path to a .sif."""
    try:
        lines = (CONTAINERS / family / _PIN).read_text().splitlines()
    except FileNotFoundError:
        return None
    names = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if len(names) != 1 or any(c.isspace() for c in names[0]):
        raise ConfigurationError(f"{shown(CONTAINERS / family / _PIN)}: one image, on one line, is expected")
    return names[0]


def sif_path(family: str) -> Path:
    """Where the family's image for Apptainer lies."""
    pinned = pin(family)
    if pinned is not None and pinned.endswith(".sif"):
        return Path(pinned).expanduser()
    return CONTAINERS / family / "image.sif"


@cache
def host_variant() -> str:
    """``cpu`` or ``cuda``: the build of torch that this machine's own set-up has."""
    import torch

    return "cuda" if torch.version.cuda else "cpu"
