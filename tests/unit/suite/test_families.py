"""Families: which Python trains a cell, and what is said where it is absent."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

import envs_suite
from amago.errors import ConfigurationError
from amago_suite import families
from amago_suite.build import provide_data
from amago_suite.engines import box
from amago_suite.grid import plan
from envs_suite import files

SUITE = """
environments:
  - {id}
architectures: [ff]
seeds: [0]
budget: {{ epochs: 1 }}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project without any family's environment, so that this machine's do not matter."""
    monkeypatch.setattr(families, "ROOT", tmp_path)
    return tmp_path


def install(project: Path, family: str) -> Path:
    """What `make family-NAME` leaves, as far as it is looked at: the stamp comes last."""
    python = project / f".venv-{family}" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    (project / f".venv-{family}" / "stamp").touch()
    return python


def test_the_core_and_unbuilt_families_stay_here(project: Path) -> None:
    """Guards the ordinary case: no other Python for the core, none for a family that was not built to its end."""
    assert families.python_of("core") is None
    assert families.python_of("jax") is None
    python = install(project, "jax")
    assert families.python_of("jax") == python
    (project / ".venv-jax" / "stamp").unlink()
    assert families.python_of("jax") is None


def test_a_familys_own_python_stays_where_it_is(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a process that hands over to itself for ever."""
    install(project, "jax")
    monkeypatch.setattr(sys, "prefix", str(project / ".venv-jax"))
    assert families.python_of("jax") is None


def test_an_absent_family_is_one_line_with_its_command(project: Path, tmp_path: Path) -> None:
    """Guards what `amago-suite run` says before anything starts."""
    file = tmp_path / "odd.yaml"
    file.write_text(SUITE.format(id="xland"))
    grid = plan(str(file))
    with pytest.raises(ConfigurationError, match=r"odd\.yaml: .*family jax .*make family-jax$") as caught:
        families.check_environments(grid.environments, "odd.yaml")
    assert "\n" not in str(caught.value)
    install(project, "jax")
    families.check_environments(grid.environments, "odd.yaml")


def test_an_absent_family_is_told_by_the_environment() -> None:
    """Guards the error of whoever makes the environment in a Python that lacks it."""
    if families.python_of("metaworld") is None and "metaworld" in sys.modules:
        pytest.skip("metaworld is installed here")
    with pytest.raises(ConfigurationError, match="install family 'metaworld' with: make family-metaworld"):
        envs_suite.get("metaworld-ml1").make()


def test_a_missing_data_file_is_told_before_anything_starts(project: Path, tmp_path: Path) -> None:
    """Guards the messages for offline data that are not there: suite, environment, parameter, and a way that exists."""
    file = tmp_path / "odd.yaml"

    def said(env_id: str, data: str) -> str:
        file.write_text(SUITE.format(id=f"{{ id: {env_id}, params: {{ data: {data} }} }}"))
        with pytest.raises(ConfigurationError) as caught:
            families.check_environments(plan(str(file)).environments, "odd.yaml")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    absent = said("offline-hopper", "/no/such.hdf5")
    assert absent.startswith(
        "odd.yaml: environment 'offline-hopper': parameter 'data': there is no data file"
    )
    assert "'/no/such.hdf5'" in absent and "Minari" in absent
    assert "skilled" not in absent, "nobody plays this one"
    assert "no data file is named" in said("offline-hopper", "''")
    assert "one of random, skilled, mixed" in said("offline-pendulum", "mixt")
    (tmp_path / "notes.hdf5").write_text("not this")
    assert "notes.hdf5' is no HDF5 file" in said("offline-hopper", str(tmp_path / "notes.hdf5"))


def test_a_file_that_a_container_cannot_see_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards the message of a job in a container, where a file that the machine has is missing: why, and the way out."""
    file = tmp_path / "odd.yaml"
    file.write_text(SUITE.format(id="{ id: offline-hopper, params: { data: /data/mine.hdf5 } }"))
    (cell,) = plan(str(file)).cells
    monkeypatch.setattr(box, "current", lambda: object())
    with pytest.raises(ConfigurationError, match=r"'/data/mine\.hdf5'.*a container.*--engine host") as caught:
        provide_data(cell, tmp_path)
    assert "\n" not in str(caught.value)


def test_files_of_a_familys_package_are_asked_of_its_own_python(project: Path, tmp_path: Path) -> None:
    """Guards `amago-suite run` with a console game: what the family's Python says of its ROM comes before anything
    starts, as one line with the suite's name (here that Python is this one, which lacks the package)."""
    if importlib.util.find_spec("stable_retro") is not None:
        pytest.skip("stable_retro is installed here: tests/families asks it for a ROM that is missing")
    file = tmp_path / "odd.yaml"
    file.write_text(SUITE.format(id="{ id: retro, params: { game: 1942-Nes-v0 } }"))
    python = install(project, "atari")
    python.unlink()  # a link would start without this environment's packages
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    with pytest.raises(
        ConfigurationError, match=r"^odd\.yaml: .*'stable_retro'.*make family-atari$"
    ) as caught:
        families.check_environments(plan(str(file)).environments, "odd.yaml")
    assert "\n" not in str(caught.value)


def test_the_files_of_other_environments_are_there(capsys: pytest.CaptureFixture) -> None:
    """Guards the small program that a family's Python runs: 0 where nothing is missing, else 2 and one line."""
    assert files.main(["tmaze-passive", "{}"]) == 0
    assert files.main(["offline-hopper", '{"data": "/no/such.hdf5"}']) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_handing_over_keeps_process_and_arguments(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the call: the family's Python, the same arguments, its folder first on the path, no shell."""
    python = install(project, "jax")
    called = []
    monkeypatch.setattr(os, "execve", lambda *args: called.append(args))
    families.hand_over("core", ["train", "x"])
    assert not called
    families.hand_over("jax", ["train", "a folder", "--parent", "7"])
    ((program, command, environment),) = called
    assert str(program) == str(python)
    assert command == [str(python), "-m", "amago_suite", "train", "a folder", "--parent", "7"]
    assert environment["PATH"].split(os.pathsep)[0] == str(python.parent)


def test_a_small_size_keeps_what_it_names(tmp_path: Path) -> None:
    """Guards `smoke.environments` and `smoke.architectures`: a part of the suite, misspelt names refused."""
    text = (
        "environments: [tmaze-passive, tmaze-active, maze-runner]\narchitectures: [ff, rnn]\nseeds: [0, 1]\n"
        "budget: { epochs: 1 }\nsmoke:\n  environments: [maze-runner]\n  architectures: [rnn]\n"
    )
    file = tmp_path / "part.yaml"
    file.write_text(text)
    assert len(plan(str(file))) == 12
    small = plan(str(file), smoke=True)
    assert [(c.environment, c.architecture, c.seed) for c in small] == [
        ("maze-runner", "rnn", 0),
        ("maze-runner", "rnn", 1),
    ]
    file.write_text(text.replace("[maze-runner]", "[maze-runer]"))
    with pytest.raises(ConfigurationError, match=r"smoke\.environments.*maze-runer.*maze-runner"):
        plan(str(file), smoke=True)
    plan(str(file))
