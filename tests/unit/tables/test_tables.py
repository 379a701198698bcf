"""From cells' files to tables."""

import csv
import hashlib
import json
import os
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from writer import SCORES, level, make_grid, write_grid, write_run

from amago.errors import AmagoError, ConfigurationError, DataError
from amago_suite.analysis.collect import collect
from amago_suite.analysis.columns import TABLES
from amago_suite.analysis.rows import analyse
from amago_suite.cell import Evaluation
from amago_suite.commands.compare import compare_suites
from amago_suite.grid import Score
from amago_suite.locks import RunLock
from amago_suite.presentation.layout import bracket, escape_latex, number
from amago_suite.records import Attempts
from amago_suite.tables import csv_bytes, read_rows, write_folder, write_tables


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_table_is_written_and_says_what_the_runs_were(tmp_path: Path) -> None:
    """The whole line: planted run means come back in runs.csv and scores.csv, with n and interval."""
    grid = write_grid(make_grid(tmp_path))
    result = write_tables(grid.folder, grid, partial=False, resamples=500)
    assert result.missing == 0 and result.folder == grid.folder / "tables"
    expected = {f"{n}.csv" for n in TABLES if n != "episodes"} | {"episodes.parquet"}
    expected |= {f"{n}.{e}" for n in ("scores", "aggregate", "comparisons") for e in ("md", "tex")}
    assert {p.name for p in result.folder.iterdir()} == expected
    for name, table in TABLES.items():
        if name != "episodes":
            read = read_rows(result.folder / f"{name}.csv", table)
            assert csv_bytes(table, read) == (result.folder / f"{name}.csv").read_bytes()
    episodes = pq.read_table(result.folder / "episodes.parquet")
    assert episodes.num_rows == 27 * 10
    for run in rows(result.folder / "runs.csv"):
        planted = level(run["environment"], run["architecture"], int(run["seed"]))
        assert float(run["score"]) == pytest.approx(planted, abs=1e-9)
    score = next(r for r in rows(result.folder / "scores.csv") if r["environment"] == "lake")
    planted = [level("lake", "ff", s) for s in range(3)]
    assert float(score["mean"]) == pytest.approx(np.mean(planted))
    half = 4.302652729696142 * np.std(planted, ddof=1) / np.sqrt(3)
    assert float(score["ci_high"]) == pytest.approx(np.mean(planted) + half)
    assert (score["n"], score["ci_method"]) == ("3", "t, assumes normal")
    assert rows(result.folder / "missing.csv") == []
    assert "PARTIAL" not in result.markdown


def test_same_runs_give_the_same_bytes(tmp_path: Path) -> None:
    """Tables are reproducible: no clock, no random order, no cache in them."""
    grid = write_grid(make_grid(tmp_path))
    first = write_tables(grid.folder, grid, partial=False, resamples=500).folder
    before = {p.name: p.read_bytes() for p in first.iterdir()}
    write_tables(grid.folder, grid, partial=False, resamples=500)
    assert {p.name: p.read_bytes() for p in first.iterdir()} == before


def test_lower_is_better_is_turned_around(tmp_path: Path) -> None:
    """velocity_error: the smaller error is the better architecture and the higher normalised score."""
    grid = write_grid(make_grid(tmp_path))
    result = write_tables(grid.folder, grid, partial=False, resamples=500)
    runs = [r for r in rows(result.folder / "runs.csv") if r["environment"] == "cheetah"]
    for run in runs:
        assert float(run["normalised"]) == pytest.approx(1 - float(run["score"]) / 3)
    row = next(
        r for r in rows(result.folder / "comparisons.csv") if (r["environment"], r["a"], r["b"]) == ("cheetah", "ff", "rnn")
    )  # fmt: skip
    assert row["verdict"] == "worse" and float(row["difference"]) < 0
    best = [
        r for r in rows(result.folder / "scores.csv") if r["score"] == "velocity_error, best over training"
    ]
    final = [r for r in rows(result.folder / "scores.csv") if r["score"] == "velocity_error, final policy"]
    assert len(best) == len(final) == 3 and float(best[0]["mean"]) <= float(final[0]["mean"])


def test_missing_cells_are_named_with_their_reasons(tmp_path: Path) -> None:
    """Each way of not being finished is told apart, and never dropped in silence."""
    grid = make_grid(tmp_path, {"lake": SCORES["lake"]}, ("a", "b"), (0, 1, 2, 3))
    by = {c.key: c for c in grid}
    write_grid(grid, skip=lambda c: c.architecture == "a" or c.seed == 0)
    failed = by["lake", "a", 0]
    failed.state.mkdir(parents=True)
    failed.failed.write_text(
        json.dumps({"stage": "train", "error": "NaN in\nthe reward", "time": "", "host": "", "log": ""})
    )
    attempts = Attempts(by["lake", "a", 1])
    attempts.finish(attempts.begin(None, 0), "interrupted")
    Attempts(by["lake", "a", 2]).begin(None, 0)
    stale = by["lake", "b", 0]
    write_run(stale, SCORES["lake"], 2.0, train_hash="of other settings")
    unjudged = by["lake", "b", 1]
    unjudged.evaluation_file.unlink()
    with RunLock(by["lake", "a", 2].state / "lock"):
        missing = {(m["architecture"], m["seed"]): (m["reason"], m["detail"]) for m in collect(grid).missing}
    assert missing[("a", 0)] == ("failed", "train: NaN in the reward")
    assert missing[("a", 1)][0] == "interrupted"
    assert missing[("a", 2)][0] == "running"
    assert missing[("a", 3)][0] == "not started"
    assert missing[("b", 0)][0] == "stale"
    assert missing[("b", 1)][0] == "not evaluated"
    assert len(missing) == 6
    with pytest.raises(DataError, match=r"6 of 8 runs of demo are missing .*amago-suite tables demo"):
        write_tables(grid.folder, grid, partial=False, resamples=500)
    result = write_tables(grid.folder, grid, partial=True, resamples=500)
    assert not (grid.folder / "tables").exists()
    assert result.folder == grid.folder / "partial" and "PARTIAL: 6 of 8 runs" in result.markdown
    assert "lake / a / seed 0: failed: train: NaN in the reward" in result.markdown
    aggregate = rows(result.folder / "aggregate.csv")
    assert {(r["architecture"], r["partial"], r["missing"]) for r in aggregate} == {("b", "true", "lake")}
    assert all(r["ci_low"] == "" and r["n"] == "2" for r in aggregate)


def test_an_empty_grid_still_gives_tables(tmp_path: Path) -> None:
    """Nothing finished yet: partial tables exist, and say so."""
    grid = make_grid(tmp_path)
    result = write_tables(grid.folder, grid, partial=True, resamples=500)
    assert result.missing == 27 and "No run is finished yet" in result.markdown
    assert len(rows(result.folder / "missing.csv")) == 27


def test_complete_tables_take_the_partial_ones_away(tmp_path: Path) -> None:
    """Old partial numbers beside complete ones would mislead; a user's own file there stays."""
    grid = write_grid(make_grid(tmp_path))
    write_tables(grid.folder, grid, partial=True, resamples=500)
    (grid.folder / "partial" / "mine.txt").write_text("a note")
    write_tables(grid.folder, grid, partial=False, resamples=500)
    assert [p.name for p in (grid.folder / "partial").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text.replace(",lake,", ",other,", 1), "'environment' names another cell"),
        (lambda text: text.replace("return", "reward", 1), "lacks the columns return"),
        (lambda text: text.splitlines()[0] + "\n", "holds no episode"),
        (lambda text: text.replace(",16,", ",many,", 1), "malformed"),
        (lambda text: text + "torn,row\n", "malformed"),
        (lambda text: text.replace(",16,", ",,", 1), "'length' may not be empty"),
    ],
)
def test_a_malformed_file_is_named(tmp_path: Path, damage, said: str) -> None:
    """One bad file among many is found and named, with what is wrong in it."""
    grid = write_grid(make_grid(tmp_path, {"lake": SCORES["lake"]}))
    victim = grid.cells[4].episodes
    victim.write_text(damage(victim.read_text()))
    with pytest.raises(DataError) as error:
        write_tables(grid.folder, grid, partial=True, resamples=500)
    assert said in str(error.value) and str(victim) in str(error.value)


def test_files_with_different_metrics_keep_the_grids_order(tmp_path: Path) -> None:
    """Environments log different metrics, so headers differ; rows must still belong to their runs."""
    scores = {
        "cheetah": SCORES["cheetah"],
        "tmaze": SCORES["tmaze"],
        "maze": Score("goals", "higher", 0, 1, "x"),
    }
    grid = write_grid(make_grid(tmp_path, scores, ("rnn",), (0, 1)), lambda e, a, s: 0.1 * len(e) + 0.01 * s)
    collection = collect(grid)
    order = collection.episodes["environment"].cast("string").to_pylist()
    assert order == [c.environment for c in grid for _ in range(10)]
    assert collection.episodes.column_names[-2:] == ["goals", "velocity_error"]
    means = [r["score"] for r in analyse(collection, resamples=50).runs]
    assert means == pytest.approx([0.7, 0.71, 0.5, 0.51, 0.4, 0.41])


def test_a_diverged_run_counts_and_is_marked(tmp_path: Path) -> None:
    """Leaving out what diverged would flatter an architecture."""
    grid = write_grid(make_grid(tmp_path, {"lake": SCORES["lake"]}))
    write_run(grid.cells[0], SCORES["lake"], 0.0, diverged="NaN in the loss")
    result = write_tables(grid.folder, grid, partial=False, resamples=500)
    first = rows(result.folder / "runs.csv")[0]
    assert (first["diverged"], float(first["score"])) == ("true", pytest.approx(0.0, abs=1e-9))
    assert "Diverged, counted with the last score: lake/ff/seed 0." in result.markdown


def test_best_is_bold_only_where_the_interval_supports_it(tmp_path: Path) -> None:
    """The largest mean is not enough: a tie stays plain, a clear winner is bold, in LaTeX too."""
    clear = write_grid(
        make_grid(tmp_path / "x", {"lake": SCORES["lake"]}, ("a", "b")), lambda e, a, s: (a == "b") + 0.01 * s
    )
    result = write_tables(clear.folder, clear, partial=False, resamples=500)
    assert "**1.01 [0.985, 1.035]**" in result.markdown or "**1.01 [0.99, 1.03]**" in result.markdown
    assert r"\textbf{" in (result.folder / "scores.tex").read_text()
    tied = write_grid(
        make_grid(tmp_path / "y", {"lake": SCORES["lake"]}, ("a", "b")),
        lambda e, a, s: 1 + 0.3 * s + 0.1 * (a == "b"),
    )
    assert "**1." not in write_tables(tied.folder, tied, partial=False, resamples=500).markdown


def test_a_failed_write_leaves_the_old_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All or nothing: an error while writing must not leave half new, half old tables."""
    folder = tmp_path / "tables"
    write_folder(folder, {"a.csv": b"old", "b.csv": b"old"})
    calls = []

    def full_disk(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(AmagoError, match="No space left"):
        write_folder(folder, {"a.csv": b"new", "b.csv": b"new"})
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {"a.csv": b"old", "b.csv": b"old"}
    assert [p.name for p in tmp_path.iterdir()] == ["tables"]


def test_schema_refuses_what_does_not_fit() -> None:
    """The writer is the last guard against NaN, infinity, wrong types and unknown columns."""
    good = {
        "environment": "e",
        "architecture": "a",
        "seed": 0,
        "reason": "failed",
        "detail": None,
        "log": None,
    }
    table = TABLES["missing"]
    assert csv_bytes(table, [good]).endswith(b"e,a,0,failed,,\n")
    for change in ({"seed": 0.5}, {"seed": True}, {"reason": None}, {"more": 1}, {"environment": 3}):
        with pytest.raises(DataError):
            csv_bytes(table, [{**good, **change}])
    costs = dict.fromkeys(TABLES["costs"].header) | {"environment": "e", "architecture": "a", "runs": 1}
    with pytest.raises(DataError, match="infinite"):
        csv_bytes(TABLES["costs"], [{**costs, "wall_seconds": float("inf")}])


def test_numbers_as_people_read_them() -> None:
    """Digits follow the largest number of a cell, so that its interval lines up."""
    assert [number(v) for v in (0.0, 0.12345, 1.2345, 12.345, 1234.5, None, float("nan"))] == [
        "0.000", "0.123", "1.23", "12.3", "1,234", "-", "-",
    ]  # fmt: skip
    assert bracket(0.96, 0.9, 1.017) == "0.96 [0.90, 1.02]"
    assert escape_latex("a_b & -1 50%") == r"a\_b \& $-$1 50\%"


def test_compare_says_what_moved(tmp_path: Path) -> None:
    """Two suites: a planted change is found, an equal score is not called moved, and why is said."""
    old = write_grid(make_grid(tmp_path / "a"))
    moved = {"tmaze": 0.2}
    new = make_grid(tmp_path / "b")
    for cell in new:
        score = new.environment(cell.environment).score
        value = level(cell.environment, cell.architecture, cell.seed + 10) - moved.get(cell.environment, 0)
        write_run(cell, score, value, git={"commit": "f" * 40, "dirty": True})
    write_tables(old.folder, old, partial=False, resamples=500)
    write_tables(new.folder, new, partial=False, resamples=500)
    result = compare_suites(old.folder, new.folder)
    assert {(r["environment"], r["verdict"]) for r in result.moved} == {("tmaze", "worse")}
    assert len(result.moved) == 3 and {r["changed"] for r in result.rows} == {"code"}
    assert result.rows[0]["difference"] == pytest.approx(-0.2, abs=0.1)
    assert "3 scores of 9 moved" in result.markdown
    with pytest.raises(ConfigurationError, match="holds no tables"):
        compare_suites(old.folder, tmp_path / "nowhere")


@pytest.mark.slow
def test_ten_thousand_runs_in_time_and_memory(tmp_path: Path) -> None:
    """10,000 runs of 100 episodes: under 30 s and 2 GB, in a process of their own."""
    import subprocess
    import sys

    names = {f"env-{i}": SCORES["lake"] for i in range(40)}
    evaluation = Evaluation(episodes=100, actors=25, greedy=True, seed=0)
    grid = make_grid(tmp_path, names, tuple("abcde"), tuple(range(50)), evaluation=evaluation)
    first = grid.cells[0]
    write_run(first, SCORES["lake"], 1.0)
    episodes, progress = first.episodes.read_text(), first.progress.read_bytes()
    for cell in grid:
        cell.folder.mkdir(parents=True, exist_ok=True)
        old, new = f"demo,{first.environment},", f"demo,{cell.environment},"
        cell.episodes.write_text(
            episodes.replace(old, new).replace(",a,0,", f",{cell.architecture},{cell.seed},")
        )
        cell.progress.write_bytes(progress)
        cell.policy.write_bytes(b"")
        cell.provenance.write_text(json.dumps({"train_hash": cell.train_hash, "wall_seconds": 1.0}))
        cell.evaluation_file.write_text(json.dumps({"evaluation_hash": cell.evaluation_hash}))
    script = (
        "import sys, time, resource; from pathlib import Path; sys.path[:0] = sys.argv[1:]\n"
        "from writer import *; from amago_suite.tables import write_tables\n"
        "scores = {f'env-{i}': SCORES['lake'] for i in range(40)}\n"
        "evaluation = Evaluation(episodes=100, actors=25, greedy=True, seed=0)\n"
        f"grid = make_grid(Path({str(tmp_path)!r}), scores, tuple('abcde'), tuple(range(50)), evaluation=evaluation)\n"
        "start = time.perf_counter(); result = write_tables(grid.folder, grid, partial=False)\n"
        "usage = resource.getrusage(resource.RUSAGE_SELF); cpu = usage.ru_utime + usage.ru_stime\n"
        "print(time.perf_counter() - start, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)\n"
    )
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", script, str(root), str(root / "workflow"), str(Path(__file__).parent)]
    began = time.perf_counter()
    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    seconds, cpu, gib = map(float, out.split())
    print(f"{seconds:.1f} s, {gib:.2f} GiB, {time.perf_counter() - began:.1f} s with imports and planning")
    assert min(seconds, cpu) < 30 and gib < 2  # the wall clock of a busy machine says little


def _record(cell, **entries: str) -> None:
    record = json.loads(cell.evaluation_file.read_text())
    cell.evaluation_file.write_text(json.dumps({**record, **entries}))


@pytest.mark.parametrize("how", ["a value", "a row less", "a row twice"])
def test_episodes_that_were_changed_are_left_out(tmp_path: Path, how: str) -> None:
    """A number that no evaluation wrote becomes part of no table; the other cells' partial tables are written."""
    grid = write_grid(make_grid(tmp_path))
    cell = grid.cells[4]
    _record(cell, episodes_sha256=hashlib.sha256(cell.episodes.read_bytes()).hexdigest())
    assert not collect(grid).missing
    lines = cell.episodes.read_text().splitlines(keepends=True)
    if how == "a value":
        lines[-1] = lines[-1].replace(",16,", ",17,")
    else:
        lines = lines[:-1] if how == "a row less" else [*lines, lines[-1]]
    cell.episodes.write_text("".join(lines))
    with pytest.raises(
        DataError, match=r"seed \d: damaged: episodes.csv changed since it was written: delete it"
    ):
        write_tables(grid.folder, grid, partial=False, resamples=50)
    partial = write_tables(grid.folder, grid, partial=True, resamples=50)
    assert [(row["reason"], row["seed"]) for row in partial.collection.missing] == [("damaged", cell.seed)]


def test_an_evaluation_of_other_weights_is_stale(tmp_path: Path) -> None:
    """Scores belong to the policy that lies beside them."""
    grid = write_grid(make_grid(tmp_path))
    cell = grid.cells[0]
    provenance = json.loads(cell.provenance.read_text())
    cell.provenance.write_text(json.dumps({**provenance, "policy_sha256": "a"}))
    _record(cell, policy_sha256="a")
    assert not collect(grid).missing
    _record(cell, policy_sha256="b")
    (row,) = collect(grid).missing
    assert row["reason"] == "stale" and "other weights" in row["detail"]


def test_every_bracket_says_what_it_is(tmp_path: Path) -> None:
    """In Markdown and LaTeX: method, coverage, margin; and no interval is claimed where none is given."""
    grid = write_grid(make_grid(tmp_path))
    folder = write_tables(grid.folder, grid, partial=False, resamples=50).folder
    page = (folder / "scores.md").read_text()
    for words in (
        "stratified bootstrap, covers about",
        "expanded percentiles",
        "Comparable: inside of +-0.05",
    ):
        assert words in page
    assert "covers about" in (folder / "aggregate.tex").read_text()
    assert "expanded percentiles" in (folder / "comparisons.tex").read_text()
    scores = (folder / "scores.tex").read_text()
    assert "95 \\% t interval" in scores and "assumes that runs are normal" in scores
    two = write_grid(make_grid(tmp_path / "two", seeds=(0, 1)))
    folder = write_tables(two.folder, two, partial=False, resamples=50).folder
    caption = next(line for line in (folder / "scores.tex").read_text().splitlines() if "caption" in line)
    assert "interval" not in caption
    assert "Below 3 runs no interval is given." in (folder / "scores.tex").read_text()
    assert "covers about" not in (folder / "aggregate.tex").read_text()
