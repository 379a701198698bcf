"""A small cell that trains in seconds, in every engine that this machine has."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from amago_suite.cell import Cell
from amago_suite.folders.prepare import prepare
from amago_suite.grid import Grid, plan
from amago_suite.images.preparing import ensure
from tests.integration.conftest import Desk

#: Engines with containers, each under the mark that says whether it is here.
BOXED = [pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("docker", "podman", "apptainer")]
SMALL = {"epochs": 8, "batches": 3, "architectures": "[rnn]", "episodes": 10}


def wait_for(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Poll until ``condition()`` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.05)


def epochs(cell: Path) -> int:
    """Epochs in a cell's progress.csv."""
    try:
        return len((cell / "progress.csv").read_text().splitlines()) - 1
    except FileNotFoundError:
        return 0


def planned(desk: Desk, **settings: object) -> Grid:
    """The grid of a suite on a desk, its cells ready to be trained by hand."""
    desk.write(**settings)
    grid = plan(str(desk.folder / "tiny.yaml"), results=desk.folder / "results")
    prepare(grid)
    return grid


@pytest.fixture
def image(engine: str) -> None:
    """The core's image is there; built when it is not."""
    ensure(engine, "core")


@pytest.fixture(scope="session")
def reference(make_desk: Callable[[str], Desk]) -> Desk:
    """The cell, run on the host."""
    desk = make_desk("reference")
    for cell in planned(desk, **SMALL):
        for stage in ("train", "evaluate"):
            done = desk.type(stage, str(cell.folder))
            assert done.returncode == 0, done.stdout + done.stderr
    return desk


@pytest.fixture
def fresh(desk: Desk) -> Cell:
    """The same cell before anything was done."""
    return next(iter(planned(desk, **SMALL)))


@pytest.fixture(scope="session")
def make_desk(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Desk]:
    """Desks that several tests share."""
    return lambda name: Desk(tmp_path_factory.mktemp(name))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """An empty desk."""
    return Desk(tmp_path)
