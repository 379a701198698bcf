"""The end of a progress.csv, without reading the rest of it."""

from __future__ import annotations

import csv
import math
import os
import re
from pathlib import Path

_TAIL = 8192
_EPOCH = re.compile("[0-9]{1,15}")


def tail_rows(path: Path, count: int) -> list[dict[str, str]]:
    """The last ``count`` whole rows, oldest first; empty where there is no file."""
    try:
        with path.open("rb") as file:
            header = file.readline(_TAIL).decode(errors="replace").rstrip("\r\n")
            start = file.tell()
            end = file.seek(0, os.SEEK_END)
            file.seek(max(start, end - _TAIL))
            partial = file.tell() > start
            text = file.read().decode(errors="replace")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return []
    lines = text.splitlines(keepends=True)
    if partial:
        lines = lines[1:]
    whole = [line for line in lines if line.endswith("\n")][-count:]
    try:
        names = next(csv.reader([header.replace("\0", "")]), [])
        rows = list(csv.reader(line.replace("\0", "") for line in whole))
    except csv.Error:
        return []
    return [dict(zip(names, row, strict=False)) for row in rows if len(row) == len(names)]


def last_row(path: Path) -> dict[str, str] | None:
    """The last whole row, or None; one that is damaged counts as none."""
    rows = tail_rows(path, 1)
    return rows[0] if rows and _EPOCH.fullmatch(rows[0].get("epoch", "")) else None


def number(row: dict[str, str] | None, column: str) -> float | None:
    """A finite number of a row, or None."""
    try:
        value = float(row[column]) if row is not None else math.nan
    except (KeyError, ValueError):
        return None
    return value if math.isfinite(value) else None
