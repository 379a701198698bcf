"""Writing files so that a reader never meets half of one, and failures are one clear line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from amago.errors import AmagoError
from amago.files import write_atomic


def write_file(path: Path, write: Callable[[Path], None], *, durable: bool = True) -> None:
    """A whole file or none, its folder made where there is none.

    Args:
        path: where the file appears.
        write: gets a temporary path and writes all of the content there.
        durable: survive a power loss; not worth its price for what can be written again.

    Raises:
        AmagoError: it cannot be written (permissions, full disk).
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, write, durable)
    except OSError as error:
        raise AmagoError(f"cannot write {path}: {error.strerror or error}") from error


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """`write_file` of text in UTF-8, without translating line ends."""
    write_file(path, lambda temporary: _write_bytes(temporary, text.encode()), durable=durable)


def write_json(path: Path, content: Any, *, durable: bool = True) -> None:
    """Indented JSON, keys as given; NaN is refused, because JSON has none."""
    text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    write_text(path, text, durable=durable)


def read_json(path: Path) -> Any | None:
    """The content of a JSON file, or None where there is none or only part of one."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError, RecursionError):
        return None
    except OSError as error:
        raise AmagoError(f"cannot read {path}: {error.strerror or error}") from error


def read_record(path: Path) -> dict[str, Any] | None:
    """A JSON file whose content is a mapping, or None where it holds anything else."""
    content = read_json(path)
    return content if isinstance(content, dict) else None


def append_line(path: Path, line: str) -> None:
    """Append one line and make it last (fsync): the record of an attempt must survive a crash."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise AmagoError(f"cannot write {path}: {error.strerror or error}") from error


def _write_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)
