"""Whether gin files and cells may import modules other than this project's own.

An import runs the module's code, so a configuration from somewhere else could run anything. It is
allowed by `--allow-imports` alone, and whatever was imported is written in the cell.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable

from amago.errors import ConfigurationError
from amago_suite.engines import box

#: Packages whose modules a gin file may always import.
IMPORTABLE = ("amago", "envs_suite")

#: Set by `--allow-imports`; the environment takes it to Snakemake and to its jobs.
VARIABLE = "AMAGO_SUITE_ALLOW_IMPORTS"


def allow_imports(allowed: bool = True) -> None:
    """What `--allow-imports` does, for this process and those that it starts."""
    if allowed:
        os.environ[VARIABLE] = "1"


def imports_allowed() -> bool:
    """Whether `--allow-imports` was given."""
    return os.environ.get(VARIABLE) == "1"


def is_own(module: str) -> bool:
    """Whether it is a module of this project."""
    return module.split(".")[0] in IMPORTABLE


def import_modules(modules: Iterable[str]) -> None:
    """Import modules that a configuration names.

    Raises:
        ConfigurationError: not one of this project's and `--allow-imports` was not given, or it
            cannot be imported.
    """
    for module in modules:
        if not is_own(module) and not imports_allowed():
            raise ConfigurationError(
                f"`import {module}` is not allowed: a configuration may import only from "
                f"{' and '.join(IMPORTABLE)}, unless --allow-imports is given (importing runs the module's code)"
            )
        try:
            importlib.import_module(module)
        except (ImportError, ValueError) as error:
            raise ConfigurationError(f"cannot import {module}: {error}{_way_out(error, module)}") from error


def _way_out(error: Exception, module: str) -> str:
    if not isinstance(error, ModuleNotFoundError) or error.name != module.partition(".")[0]:
        return ""
    if box.current() is not None:
        return "; this job's image does not have it (docs/images.md: an image of your own)"
    return "; install it, or name its folder in PYTHONPATH"
