"""What results/README.md says of files and columns is what is written."""

import re
from pathlib import Path

import pytest

from amago.tracking import PROGRESS_COLUMNS
from amago_suite.analysis.columns import TABLES

README = (Path(__file__).parents[3] / "results" / "README.md").read_text()


def section(title: str) -> str:
    return README.split(f"### `{title}`\n", 1)[1].split("\n#", 1)[0]


@pytest.mark.parametrize("name", TABLES)
def test_readme_lists_every_column_of_the_schema(name: str) -> None:
    """Guards against a column that is added, renamed or retyped without its explanation."""
    table = TABLES[name]
    text = section("episodes.parquet" if name == "episodes" else f"{name}.csv")
    rows = re.findall(r"^\| `(\w+)` \| (\w+)(, may be empty)? \| (.+) \|$", text, flags=re.M)
    assert rows == [(c.name, c.kind, ", may be empty" if c.optional else "", c.doc) for c in table.columns]
    assert table.row in text


def test_readme_lists_every_column_of_progress() -> None:
    """Guards the explanation of progress.csv against the writer in amago.tracking."""
    first_cells = re.findall(r"^\| (`.+?) \|", section("progress.csv"), flags=re.M)
    assert re.findall(r"`(\w+)`", " ".join(first_cells)) == list(PROGRESS_COLUMNS)


def test_scores_have_exactly_the_contracts_columns() -> None:
    """Other programs read scores.csv: its columns never change silently."""
    assert TABLES["scores"].header == (
        [
            "environment",
            "architecture",
            "score",
            "n",
            "mean",
            "se",
            "iqm",
            "ci_low",
            "ci_high",
            "ci_method",
            "published",
        ]
    )
