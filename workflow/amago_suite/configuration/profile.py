"""What Snakemake's own options say of the configuration: its files, and those that a profile names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from amago_suite.configuration.schema import load_yaml

_FILE = ("config.yaml", "profile.yaml")
_CONFIGURATION = ("--configfile", "--configfiles")


def configured(options: Sequence[str]) -> dict[str, Any]:
    """The configuration that files give, the later one winning, as Snakemake will see it.

    Args:
        options: for Snakemake.

    Raises:
        ConfigurationError: a file cannot be read.
    """
    found: dict[str, Any] = {}
    for profile in values(options, ("--profile",)):
        for file in _files(Path(profile)):
            found |= load_yaml(file) or {}
    for name in values(options, _CONFIGURATION):
        found |= load_yaml(Path(name)) or {}
    return found


def runs_elsewhere(options: Sequence[str]) -> bool:
    """Whether an option or a profile chooses an executor that runs jobs on other machines."""
    named = values(options, ("-e", "--executor"))
    for profile in values(options, ("--profile",)):
        file = _profile_file(Path(profile))
        named += [str((load_yaml(file) or {}).get("executor", "local"))] if file is not None else []
    return any(name not in ("local", "dryrun", "touch") for name in named[:1])


def values(options: Sequence[str], names: Sequence[str]) -> list[str]:
    """The values of an option that takes one or more."""
    found: list[str] = []
    inside = False
    for option in options:
        name, equals, value = option.partition("=")
        if name in names:
            inside = not equals
            found += [value] if equals else []
        elif option.startswith("-"):
            inside = False
        elif inside:
            found.append(option)
    return found


def _files(profile: Path) -> list[Path]:
    """Files of the configuration that a profile names; a path is looked for beside the profile first."""
    file = _profile_file(profile)
    if file is None:
        return []  # one of Snakemake's own search path, or none; it says so itself
    named = (load_yaml(file) or {}).get("configfile", [])
    paths = [os.path.expandvars(path) for path in ([named] if isinstance(named, str) else named)]
    return [file.parent / path if (file.parent / path).exists() else Path(path) for path in paths]


def _profile_file(profile: Path) -> Path | None:
    """The YAML file of a profile given by its path."""
    file = next((profile / name for name in _FILE if (profile / name).is_file()), profile)
    return file if file.is_file() else None
