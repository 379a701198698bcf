"""The end of a progress.csv, without reading the rest of it."""

from __future__ import annotations

import csv
import os
from pathlib import Path

_TAIL = 8192


def tail_rows(path: Path, count: int) -> list[dict[str, str]]:
    """The last ``count`` whole rows, oldest first; empty where there is no file."""
    try:
        with path.open("rb") as file:
            header = file.readline().decode().rstrip("\r\n")
            start = file.tell()
            end = file.seek(0, os.SEEK_END)
            file.seek(max(start, end - _TAIL))
            partial = file.tell() > start
            text = file.read().decode(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return []
    lines = text.splitlines(keepends=True)
    if partial:
        lines = lines[1:]
    whole = [line for line in lines if line.endswith("\n")][-count:]
    names = next(csv.reader([header]), [])
    return [dict(zip(names, row, strict=False)) for row in csv.reader(whole) if len(row) == len(names)]


def last_row(path: Path) -> dict[str, str] | None:
    """The last whole row, or None."""
    rows = tail_rows(path, 1)
    return rows[0] if rows else None
