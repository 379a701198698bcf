"""Packages that an environment needs: how they are installed, and how their absence is told.

An environment imports its package when it is made, never before, so that the registry can be read without it.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from amago.errors import ConfigurationError

#: The family that every set-up has.
CORE = "core"

#: Packages that no family can have, because they are on no index: how a user installs them. dm_alchemy's set-up
#: script wants Python 3.11, grpcio-tools, and what newer setuptools lack.
BY_HAND = {
    "dm_alchemy": ".venv/bin/pip install 'setuptools<81' grpcio-tools && "
    ".venv/bin/pip install --no-build-isolation git+https://github.com/google-deepmind/dm_alchemy",
}


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
        by_hand = BY_HAND.get(top)
        way_out = f"it with: {by_hand}" if by_hand else f"family {family!r} with: {install_command(family)}"
        raise ConfigurationError(
            f"{who} needs the Python package {top!r}, which cannot be imported "
            f"({str(error).splitlines()[0]}); install {way_out}"
        ) from error
