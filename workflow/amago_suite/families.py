"""Which Python trains a cell: each family of environments has a virtual environment of its own.

``make family-NAME`` builds ``.venv-NAME`` beside the project. A command about a cell of that family, typed in any
other environment, goes on in that one as the same process. In an image there is no such folder: the family's
packages lie in its only environment.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from amago.errors import ConfigurationError
from amago_suite.paths import ROOT
from envs_suite.optional import CORE, install_command

if TYPE_CHECKING:
    from amago_suite.grid import Environment


def environment_folder(family: str) -> Path:
    """Where ``make family-NAME`` builds; the core has the project's own ``.venv``."""
    return ROOT / (".venv" if family == CORE else f".venv-{family}")


def python_of(family: str) -> Path | None:
    """The Python of another environment that cells of ``family`` need, or None where this one will do."""
    own = Path(sys.prefix).resolve()
    folder = environment_folder(family)
    if family == CORE or own == folder.resolve() or not (folder / "stamp").is_file():
        return None
    return folder / "bin" / "python"


def missing_families(needed: Iterable[tuple[str, str]]) -> list[str]:
    """Families that neither have an environment of their own nor are installed in this one.

    Args:
        needed: (family, registry id) of every environment in question.
    """
    import envs_suite

    found = []
    for family, env_id in sorted(set(needed)):
        if family in found or python_of(family) is not None:
            continue
        spec = envs_suite.get(env_id)
        modules = () if spec.by_hand else spec.requires
        if any(importlib.util.find_spec(module) is None for module in modules):
            found.append(family)
    return found


def check_environments(environments: Iterable[Environment], who: str) -> None:
    """See that every environment of a suite can be trained on this machine: its packages, and the files it needs.

    Raises:
        ConfigurationError: one cannot; the line has the commands.
    """
    import envs_suite

    environments = list(environments)
    in_family = [e for e in environments if envs_suite.get(e.id).files_are_in_family(e.params)]
    for environment in environments:
        spec = envs_suite.get(environment.id)
        try:
            if spec.by_hand:
                spec.check_installed()
            # Whether a data file is there can be seen without any package.
            if environment not in in_family or spec.data is not None:
                spec.check_files(environment.params)
        except ConfigurationError as error:
            raise ConfigurationError(f"{who}: {error}") from error
    missing = missing_families((environment.family, environment.id) for environment in environments)
    if missing:
        commands = " && ".join(install_command(family) for family in missing)
        raise ConfigurationError(
            f"{who}: environments of {'family' if len(missing) == 1 else 'the families'} {', '.join(missing)} "
            f"are not installed here; install with: {commands}"
        )
    for environment in {json.dumps((e.id, e.params)): e for e in in_family}.values():
        if lacking := _lacking_file(environment):
            raise ConfigurationError(f"{who}: {lacking}")


def _lacking_file(environment: Environment) -> str | None:
    """What is said of a file by the family's own Python, which has the package that knows its files."""
    python = python_of(environment.family) or sys.executable
    command = [str(python), "-W", "ignore", "-m", "envs_suite.files", environment.id]
    done = subprocess.run(
        [*command, json.dumps(environment.params)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if not done.returncode:
        return None
    return (done.stderr.strip().splitlines() or ["no output"])[-1]


def hand_over(family: str, arguments: Sequence[str]) -> None:
    """Go on as the same command in the family's environment; return where this is it.

    The process stays the same one, so that signals and locks keep their meaning.

    Args:
        family: of the cell.
        arguments: of the command line, without the program.
    """
    python = python_of(family)
    if python is not None:
        _become(python, arguments)


def _become(python: Path, arguments: Sequence[str]) -> NoReturn:
    path = os.pathsep.join([str(python.parent), os.environ.get("PATH", "")])
    sys.stdout.flush()
    sys.stderr.flush()
    command = [str(python), "-m", "amago_suite", *arguments]
    os.execve(python, command, {**os.environ, "PATH": path})  # noqa: S606 (no shell is wanted)
