"""Suites in a temporary folder, planned with the project's own gin files."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from amago_suite.grid import Grid, plan

TINY = """
environments:
  - { id: tmaze-passive, params: { corridor: 3 } }
architectures: [ff, rnn]
seeds: [0, 1]
budget: { epochs: 4 }
"""


@pytest.fixture
def write_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes suite text to a file; the working folder is temporary too."""
    monkeypatch.chdir(tmp_path)

    def write(text: str = TINY, name: str = "tiny.yaml") -> Path:
        path = tmp_path / name
        path.write_text(textwrap.dedent(text))
        return path

    return write


@pytest.fixture
def grid_of(write_suite: Callable[..., Path]) -> Callable[..., Grid]:
    """Plans suite text."""

    def planned(text: str = TINY, *, smoke: bool = False) -> Grid:
        return plan(str(write_suite(text)), smoke=smoke)

    return planned
