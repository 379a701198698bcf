"""Which engine jobs run in, and what their boxes may do beyond the strictest: chosen once for a whole run.

The choice reaches jobs through the environment, not through their command: it must not be a rule's
parameter, or a change of engine would train every finished cell again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from amago.errors import ConfigurationError
from amago.registry import nearest

HOST = "host"
ENGINES = (HOST, "docker", "podman", "apptainer")
NETWORKS = ("none", "bridge")

ENGINE_VARIABLE = "AMAGO_SUITE_ENGINE"
NETWORK_VARIABLE = "AMAGO_SUITE_NETWORK"
SECRETS_VARIABLE = "AMAGO_SUITE_SECRETS"

_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a person chose.

    Attributes:
        engine: one of ``ENGINES``.
        network: ``none``, or ``bridge`` for boxes that may reach the network.
        secrets: names of environment variables whose values enter the box, and nothing else does.
    """

    engine: str = HOST
    network: str = "none"
    secrets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise ConfigurationError(f"unknown engine {self.engine!r}; {nearest(self.engine, list(ENGINES))}")
        if self.network not in NETWORKS:
            raise ConfigurationError(f"network must be one of {', '.join(NETWORKS)}, got {self.network!r}")
        for name in self.secrets:
            if not _VARIABLE_NAME.fullmatch(name):
                raise ConfigurationError(
                    f"secrets: {name!r} is no name of an environment variable (its value is never written here)"
                )

    def check(self) -> None:
        """Find out whether every secret is there.

        Raises:
            ConfigurationError: one is not.
        """
        for name in self.secrets:
            if name not in os.environ:
                raise ConfigurationError(f"secrets: the environment variable {name} is not set")

    def export(self) -> None:
        """For the processes that this one starts."""
        os.environ[ENGINE_VARIABLE] = self.engine
        os.environ[NETWORK_VARIABLE] = self.network
        os.environ[SECRETS_VARIABLE] = ",".join(self.secrets)


def from_config(config: Mapping[str, Any]) -> Settings:
    """The settings in Snakemake's ``config``; what it does not name is as in the environment.

    Raises:
        ConfigurationError: a value that none of them can have.
    """
    inherited = from_environment()
    return Settings(
        str(config.get("engine", inherited.engine)),
        str(config.get("network", inherited.network)),
        _names(config["secrets"]) if "secrets" in config else inherited.secrets,
    )


def from_environment(engine: str | None = None) -> Settings:
    """The settings that `Settings.export` left for this process.

    Args:
        engine: one named in the command, which goes before.

    Raises:
        ConfigurationError: a value that none of them can have.
    """
    return Settings(
        engine or os.environ.get(ENGINE_VARIABLE) or HOST,
        os.environ.get(NETWORK_VARIABLE) or "none",
        _names(os.environ.get(SECRETS_VARIABLE, "")),
    )


def _names(value: str | Iterable[str]) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    return tuple(dict.fromkeys(str(part).strip() for part in parts if str(part).strip()))
