"""Writing files so that they appear whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def fsync_folder(folder: Path) -> None:
    """Make renames and new names inside ``folder`` survive a power loss."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomic(path: Path, write: Callable[[Path], None], durable: bool = True) -> None:
    """Write through a temporary neighbour that is renamed into place.

    Args:
        path: where the file appears; an older one is replaced at once.
        write: gets the temporary path and writes all of the content.
        durable: fsync the file and its folder.

    Raises:
        OSError: as the system gave it (disk full, permission); ``path`` is then as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        if durable:
            with open(temporary, "rb") as handle:
                os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        fsync_folder(path.parent)


def write_text(path: Path, text: str, durable: bool = True) -> None:
    """Atomic ``write_text`` in UTF-8."""
    write_atomic(path, lambda p: _write_bytes(p, text.encode()), durable)


def write_json(path: Path, value: Any, durable: bool = True) -> None:
    """Atomic JSON with sorted keys; NaN is refused because JSON has none."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n", durable)


def _write_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
