"""Writes docs/example.md and docs/example/ from the results of the suite `example`, which must be complete.

make example                                         run the suite (an hour and a half of CPU time), then write the page
python docs/example.py                               only write the page
python docs/example.py --results results/quick --to /tmp/page     of other results, to another folder
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from amago.errors import AmagoError, DataError
from amago_suite.analysis.columns import RUNS, Row
from amago_suite.grid import Grid, read_plan
from amago_suite.presentation.layout import duration
from amago_suite.tables import read_rows

ROOT = Path(__file__).resolve().parents[1]
TABLES = ("scores", "aggregate", "comparisons", "costs", "runs")
#: Figures that are shown on the page, as far as the suite has them, by the beginning of their names.
SHOWN = ("aggregate", "sample-efficiency", "profiles", "horizon-", "attempts-", "cost")
LARGEST_REPORT = 5_000_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 written, 1 results that cannot be shown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "example", help="results/SUITE")
    parser.add_argument("--to", type=Path, default=ROOT / "docs", help="folder of the page")
    given = parser.parse_args(arguments)
    try:
        print(write(given.results, given.to))
    except AmagoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def write(results: Path, to: Path) -> Path:
    """Copy report, tables and figures, and write the page around them.

    Args:
        results: ``results/{suite}`` of a complete grid.
        to: gets ``{suite}.md`` and the folder ``{suite}/``.

    Returns:
        The page.

    Raises:
        DataError: the tables are incomplete, or the report is too large to be kept.
    """
    grid = read_plan(results / "plan.json")
    report = results / "report.html"
    if not (results / "tables" / "scores.md").is_file() or not report.is_file():
        raise DataError(f"{results} holds no complete tables; `amago-suite run {grid.suite}` makes them")
    if report.stat().st_size > LARGEST_REPORT:
        raise DataError(f"{report} is larger than {LARGEST_REPORT:,} bytes")
    runs = read_rows(results / "tables" / "runs.csv", RUNS)
    if len(runs) != len(grid):
        raise DataError(f"{results}: {len(runs)} of {len(grid)} runs are in the tables; run the suite again")
    folder = to / grid.suite
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copyfile(report, folder / "report.html")
    for name in TABLES:
        shutil.copyfile(results / "tables" / f"{name}.csv", folder / f"{name}.csv")
    figures = [p for start in SHOWN for p in sorted((results / "report").glob(f"{start}*.svg"))]
    for figure in figures:
        # White paper, also where the page around it is dark.
        text = figure.read_text().replace("<svg ", '<svg style="background: #ffffff" ', 1)
        (folder / figure.name).write_text(text)
    page = to / f"{grid.suite}.md"
    scores = (results / "tables" / "scores.md").read_text()
    page.write_text(_page(grid, runs, scores, [figure.name for figure in figures]))
    return page


def _page(grid: Grid, runs: list[Row], scores: str, figures: list[str]) -> str:
    environments, architectures, seeds = len(grid.environments), len(grid.architectures), len(grid.seeds)
    body = scores.split("\n", 1)[1].strip()  # without its own title
    links = ", ".join(f"[{name}.csv]({grid.suite}/{name}.csv)" for name in TABLES)
    shown = "\n\n".join(f"![{_title(name)}]({grid.suite}/{name})" for name in figures)
    return f"""# {grid.title}: {environments} environments, {architectures} architectures, {seeds} seeds

{grid.description}

Every number here is from a real run. The page is written from the results by `python docs/example.py`; do not
edit it by hand. [The report]({grid.suite}/report.html) is one file: save it and open it in a browser, it needs no
network. The tables behind it: {links}; `results/README.md` says what each column means.

## How it was made

    make example        # `amago-suite run {grid.suite}`, then this page

{_facts(runs)}

## Scores

{body}

## Figures

{shown}
"""


def _facts(runs: list[Row]) -> str:
    """What ran where, from the runs' own records."""
    seconds = sum(r["wall_seconds"] or 0.0 for r in runs)
    facts = [
        ("runs", f"{len(runs)}, {duration(seconds)} of training time in all"),
        ("environment steps", f"{sum(r['env_steps'] or 0 for r in runs):,}"),
        ("updates", f"{sum(r['gradient_steps'] or 0 for r in runs):,}"),
        ("evaluation", f"{sum(r['episodes'] for r in runs):,} episodes"),
    ]
    for name, column in (
        ("engine", "engine"),
        ("hardware", "hardware"),
        ("torch", "torch"),
        ("code", "git_commit"),
    ):
        values = sorted({r[column] for r in runs if r[column]})
        if values:
            facts.append((name, ", ".join(values)))
    rows = [f"| {name} | {value} |" for name, value in facts]
    return "\n".join(["| | |", "|---|---|", *rows])


def _title(name: str) -> str:
    """``attempts-lake-success.svg`` -> ``attempts lake success``: what a reader without the picture hears."""
    return re.sub(r"-+", " ", name.removesuffix(".svg"))


if __name__ == "__main__":
    sys.exit(main())
