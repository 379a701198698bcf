"""What Snakemake's own options say of the configuration: its files, and those that a profile names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from amago.errors import ConfigurationError
from amago_suite.configuration.schema import load_yaml
from amago_suite.paths import PROFILE, shown

_FILE = ("config.yaml", "profile.yaml")
_CONFIGURATION = ("--configfile", "--configfiles")


def configured(options: Sequence[str]) -> dict[str, Any]:
    """The configuration that files give, the later one winning, as Snakemake will see it.

    Args:
        options: for Snakemake.

    Raises:
        ConfigurationError: a file cannot be read, or there is no such profile.
    """
    found: dict[str, Any] = {}
    for profile in values(options, ("--profile",)):
        for file in _files(profile):
            found |= load_yaml(file) or {}
    for name in values(options, _CONFIGURATION):
        found |= load_yaml(Path(name)) or {}
    return found


def runs_elsewhere(options: Sequence[str]) -> bool:
    """Whether an option or a profile chooses an executor that runs jobs on other machines."""
    named = values(options, ("-e", "--executor"))
    for profile in values(options, ("--profile",)):
        named.append(str((load_yaml(_profile_file(profile)) or {}).get("executor", "local")))
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


def _files(profile: str) -> list[Path]:
    """Files of the configuration that a profile names; a path is looked for beside the profile first."""
    file = _profile_file(profile)
    named = (load_yaml(file) or {}).get("configfile", [])
    paths = [os.path.expandvars(path) for path in ([named] if isinstance(named, str) else named)]
    return [file.parent / path if (file.parent / path).exists() else Path(path) for path in paths]


def _profile_file(profile: str) -> Path:
    """The YAML file of a profile, given by its path or by a name that Snakemake knows."""
    path = Path(profile)
    file = next((path / name for name in _FILE if (path / name).is_file()), path)
    if file.is_file():
        return file
    from snakemake.cli import get_profile_dir  # slow to import, and seldom needed

    known = get_profile_dir(profile)
    if known is None:
        ours = sorted(shown(file.parent) for file in PROFILE.parent.glob("*/config.yaml"))
        raise ConfigurationError(
            f"--profile {profile}: no such folder or profile of Snakemake's; here are {', '.join(ours)}"
        )
    return Path(known[1])
