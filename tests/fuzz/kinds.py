"""One kind of file that the program reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from amago.errors import AmagoError


@dataclass(frozen=True)
class Target:
    """One kind of file.

    Attributes:
        inputs: contents.
        read: gives the content to the program; may raise only AmagoError.
        share: weight in the long form; slow readers get less.
        allowed: audit events that belong to the reader.
        valid: a content that must be accepted, so that the others are known to get that far.
    """

    name: str
    inputs: st.SearchStrategy[bytes]
    read: Callable[[bytes], Any]
    share: float = 1.0
    allowed: tuple[str, ...] = ()
    valid: bytes = b""


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def each(*reads: Callable[[], Any]) -> None:
    """All of several readers, also when an earlier one refuses the file; its error is raised in the end."""
    refused: AmagoError | None = None
    for read in reads:
        try:
            read()
        except AmagoError as error:
            refused = error
    if refused is not None:
        raise refused
