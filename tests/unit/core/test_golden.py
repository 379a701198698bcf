"""Training results stay what they are, or `TRAINING_VERSION` rises."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from amago.version import TRAINING_VERSION
from tests.unit.core.golden import FILE, RUNS, figures

KEPT = json.loads(FILE.read_text())


def test_the_figures_are_of_this_version() -> None:
    """A raised version comes with new figures, and every run has some."""
    assert KEPT["training_version"] == TRAINING_VERSION
    assert KEPT["runs"].keys() == RUNS.keys()


@pytest.mark.parametrize("name", RUNS)
def test_training_gives_the_kept_figures(name: str, tmp_path: Path) -> None:
    """A change that alters results must be noticed: cells are trusted by their version.

    Rounding, which differs between processors, moves these figures by less than a hundredth of the tolerance.
    """
    found, kept = figures(RUNS[name], tmp_path), KEPT["runs"][name]
    assert found.keys() == kept.keys()
    for key, values in kept.items():
        assert found[key] == pytest.approx(values, rel=1e-3, abs=1e-4), (
            f"{key} changed: if that is meant, raise TRAINING_VERSION and run python -m tests.unit.core.golden"
        )
