"""Packages that an environment needs: how they are installed, and how their absence is told.

An environment imports its package when it is made, never before, so that the registry can be read without it.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from amago.errors import ConfigurationError

#: The family that every set-up has.
CORE = "core"


def install_command(family: str) -> str:
    """What to type, in the project's folder, to install a family."""
    return "make .venv/run.stamp" if family == CORE else f"make family-{family}"


def need(module: str, who: str, family: str = CORE) -> ModuleType:
    """Import ``module`` for ``who``, which belongs to ``family``.

    Raises:
        ConfigurationError: it is not installed; the message has the command.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        top = module.partition(".")[0]
        raise ConfigurationError(
            f"{who} needs the Python package {top!r}, which cannot be imported "
            f"({str(error).splitlines()[0]}); install family {family!r} with: {install_command(family)}"
        ) from error
