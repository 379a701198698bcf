"""Packages that the core's lock leaves out: how each is installed, and how its absence is told.

An environment imports such a package when it is made, never before, so that the registry can be read
without it.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from amago.errors import ConfigurationError

#: Module -> the command that installs what belongs to it, at the versions that were tested.
INSTALL = {
    "mujoco": 'pip install "gymnasium[mujoco]==1.4.0" mujoco==3.3.0',
    "Box2D": 'pip install "gymnasium[box2d]==1.4.0" box2d==2.3.10',
    "minigrid": "pip install minigrid==3.2.0",
    "popgym": "pip install popgym==1.0.7",
}


def need(module: str, who: str) -> ModuleType:
    """Import ``module`` for ``who``.

    Raises:
        ConfigurationError: it is not installed; the message has the command.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        top = module.partition(".")[0]
        raise ConfigurationError(
            f"{who} needs the Python package {top!r}, which cannot be imported ({error}); "
            f"install it with: {INSTALL[top]}"
        ) from error
