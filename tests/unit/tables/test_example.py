"""The page of docs/example.py."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
from writer import SCORES, make_grid, write_grid

from amago.errors import DataError
from amago_suite.grid import write_plan
from amago_suite.presentation.drawings import write_figures
from amago_suite.report import write_report
from amago_suite.tables import write_tables

SCRIPT = Path(__file__).parents[3] / "docs" / "example.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("example", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_shows_what_the_runs_were(example, tmp_path: Path) -> None:
    """Complete results become a page whose links all lead somewhere, with the numbers of the tables; twice the
    same. Incomplete ones are refused, and nothing is written."""
    grid = write_grid(make_grid(tmp_path, {"lake": SCORES["lake"]}), skip=lambda c: c.seed == 1)
    grid.folder.mkdir(exist_ok=True)
    write_plan(grid)
    write_tables(grid.folder, grid, partial=True, resamples=500)
    with pytest.raises(DataError, match="holds no complete tables; `amago-suite run demo`"):
        example.write(grid.folder, tmp_path / "docs")
    assert not (tmp_path / "docs").exists()

    tables = write_tables(grid.folder, write_grid(grid), partial=False, resamples=500)
    write_report(grid.folder, grid, partial=False, tables=tables)
    write_figures(grid.folder, tables)
    page = example.write(grid.folder, tmp_path / "docs")
    text = page.read_text()
    assert text.startswith("# Demo suite: 1 environments, 3 architectures, 3 seeds")
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert "://" in link or (page.parent / link).is_file(), link
    (row,) = [
        line for line in tables.markdown.splitlines() if line.startswith("| lake ") and "return" in line
    ][:1]
    assert row in text and "2.13.0+cpu" in text and "9, 3 min 14 s of training time" in text
    files = {p.name: p.read_bytes() for p in (tmp_path / "docs" / "demo").iterdir()}
    assert {"report.html", "runs.csv", "scores.csv", "aggregate.svg"} <= files.keys()
    assert b'style="background: #ffffff"' in files["aggregate.svg"]
    example.write(grid.folder, tmp_path / "docs")
    assert {p.name: p.read_bytes() for p in (tmp_path / "docs" / "demo").iterdir()} == files
