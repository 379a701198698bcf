"""AMAGO's names for environments that live in ``envs_suite``; nothing is imported before it is used."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any


def forward(module: str, where: dict[str, str]) -> tuple[Callable[[str], Any], list[str]]:
    """A module's ``__getattr__`` and ``__all__``.

    Args:
        module: the module that offers the names.
        where: name -> the module that has it.
    """

    def get(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        return getattr(importlib.import_module(where[name]), name)

    return get, sorted(where)
