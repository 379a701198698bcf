"""Writing files so that a reader never meets half of one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from amago.errors import AmagoError


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file or nothing: a temporary neighbour, fsync, rename.

    Raises:
        AmagoError: the folder cannot be written (permissions, full disk).
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise AmagoError(f"cannot write {path}: {error.strerror}") from error


def write_text(path: Path, text: str) -> None:
    """`write_bytes` in UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, content: Any) -> None:
    """Indented JSON with a newline at the end; NaN is refused, because JSON has none."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any | None:
    """The content of a JSON file, or None where there is none or only part of one."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def append_line(path: Path, line: str) -> None:
    """Append one line and make it last (fsync): the record of an attempt must survive a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())
