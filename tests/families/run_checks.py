"""Runs the ``check_*`` functions of a script in a family's own Python, which has no pytest."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from amago.errors import ConfigurationError


def run_checks(names: Mapping[str, Any]) -> None:
    """Call every ``check_*`` of ``names``; print one JSON object: name -> None, or what is wrong."""
    found: dict[str, str | None] = {}
    for name, check in names.items():
        if name.startswith("check_") and check.__module__ == "__main__":
            found[name] = None
            try:
                check()
            except Exception as error:
                where = traceback.extract_tb(error.__traceback__)[-1]
                found[name] = f"{type(error).__name__}: {error} ({where.name}, line {where.lineno})"
    print(json.dumps(found))


def refused(call: Callable[[], Any], *words: str) -> None:
    """See that ``call`` raises a ConfigurationError of one line with all ``words``.

    Raises:
        AssertionError: it does not.
    """
    try:
        call()
    except ConfigurationError as error:
        message = str(error)
        assert "\n" not in message, message
        assert all(word in message for word in words), message
        return
    raise AssertionError(f"not refused: {words}")
