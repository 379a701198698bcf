"""The short form of the torture: a few kills of each architecture. `make torture` is the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.torture.torture import ARCHITECTURES, torture


@pytest.mark.slow
def test_killed_runs_end_where_undisturbed_ones_end(tmp_path: Path) -> None:
    """Guards exact resume from outside: real processes, real SIGKILLs, every file of the results."""
    cells = torture(tmp_path, kills=3, launcher=1, epochs=12, seed=1)
    assert [cell.differences for cell in cells] == [[]] * len(ARCHITECTURES)
    assert all(len(cell.kills) >= 3 for cell in cells)
    assert {"checkpoint", "evaluation"} <= {kill.phase for cell in cells for kill in cell.kills}
