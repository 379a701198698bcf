"""The table of learning runs in the docs is the one that the kept runs give."""

from __future__ import annotations

from pathlib import Path

from benchmarks.learning.__main__ import read
from benchmarks.learning.table import markdown

ROOT = Path(__file__).parents[3]


def test_the_table_is_of_the_kept_runs() -> None:
    """No figure in the table was typed by hand."""
    runs = read(ROOT / "benchmarks" / "learning" / "results.jsonl")
    assert len(runs) > 5
    assert markdown(runs) in (ROOT / "docs" / "learning.md").read_text()
