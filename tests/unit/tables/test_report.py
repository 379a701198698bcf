"""The page and its figures, without a browser."""

import re
from pathlib import Path

import numpy as np
import pytest
from writer import SCORES, make_grid, write_grid, write_run

from amago_suite.collect import collect
from amago_suite.curves import attempt_curves, horizon_curves, learning_curves, sample_efficiency
from amago_suite.grid import Environment, Grid, Score
from amago_suite.report import command, write_figures, write_report
from amago_suite.tables import write_tables


def report_of(grid: Grid) -> Path:
    tables = write_tables(grid.folder, grid, partial=True, resamples=500)
    return write_report(grid.folder, grid, partial=True, tables=tables)


def test_same_runs_give_the_same_page(tmp_path: Path) -> None:
    """No clock, no random id: the page and every figure are reproducible to the byte."""
    grid = write_grid(make_grid(tmp_path, {"lake": SCORES["lake"]}))
    tables = write_tables(grid.folder, grid, partial=False, resamples=500)
    path = write_report(grid.folder, grid, partial=False, tables=tables)
    figures = write_figures(grid.folder, tables)
    before = path.read_bytes(), {p.name: p.read_bytes() for p in figures.iterdir()}
    assert path == grid.folder / "report.html" and len(before[1]) == 10
    write_report(
        grid.folder, grid, partial=False, tables=write_tables(grid.folder, grid, partial=False, resamples=500)
    )
    write_figures(grid.folder, tables)
    assert (path.read_bytes(), {p.name: p.read_bytes() for p in figures.iterdir()}) == before


def test_nothing_is_fetched_and_ids_are_unique(tmp_path: Path) -> None:
    """One file: no address outside it, and figures that never share an id."""
    grid = write_grid(make_grid(tmp_path))
    text = report_of(grid).read_text()
    links = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert all(link.startswith(("#", "data:")) for link in links)
    assert "url(http" not in text and "@import" not in text
    ids = re.findall(r'\sid="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'(?:href="#|url\(#)([^")]*)', text))
    assert used <= set(ids)


def test_names_cannot_break_the_page(tmp_path: Path) -> None:
    """Whatever a log, an error or a configuration holds is text, never markup."""
    grid = write_grid(make_grid(tmp_path, {"lake": SCORES["lake"]}), skip=lambda c: c.seed == 1)
    nasty = "<script>alert(1)</script></pre>&\"'"
    write_run(grid.cells[0], SCORES["lake"], 1.0, hardware={"cpu": nasty, "gpu": None})
    state = grid.cells[1].state
    state.mkdir(parents=True)
    (state / "train.log").write_text(nasty)
    (state / "failed.json").write_text(
        '{"stage": "train", "error": "<b>bold</b>", "log": "", "time": "", "host": ""}'
    )
    text = report_of(grid).read_text()
    assert "alert(1)" in text and "<script>alert" not in text and "<b>bold" not in text


def test_warnings_are_given(tmp_path: Path) -> None:
    """Mixed images, uncommitted changes, kernels that may not repeat, a diverged run, few seeds."""
    grid = write_grid(make_grid(tmp_path, {"lake": SCORES["lake"]}))
    changes = {
        "image": "sha256:b",
        "git": {"commit": "f" * 40, "dirty": True},
        "deterministic": False,
        "diverged": "NaN",
    }
    write_run(grid.cells[0], SCORES["lake"], 1.0, **changes)
    write_run(grid.cells[1], SCORES["lake"], 1.0, image="sha256:a")
    text = report_of(grid).read_text()
    for said in ("different container images", "different commits", "uncommitted changes", "Not deterministic",
                 "1 run diverged", "Few seeds"):  # fmt: skip
        assert said in text


@pytest.mark.slow
def test_five_hundred_cells_stay_below_five_megabytes(tmp_path: Path) -> None:
    """20 environments x 5 architectures x 5 seeds, with logs."""
    scores = {f"environment-{i:02d}": SCORES["lake"] for i in range(20)}
    grid = make_grid(tmp_path, scores, ("ff", "rnn", "transformer", "mamba", "window"), tuple(range(5)))
    write_grid(grid)
    for cell in grid:
        cell.state.mkdir()
        (cell.state / "train.log").write_text(
            "epoch 12 of 30: loss 0.123456, 365 steps/s, 57 updates/s\n" * 40
        )
    assert report_of(grid).stat().st_size < 5_000_000


def test_a_cells_command_can_be_typed(tmp_path: Path) -> None:
    """Relative to where results/ lies, so that it works in another checkout."""
    cell = make_grid(tmp_path).cells[0]
    folder = "results/demo/tmaze/ff/seed_0"
    assert command(cell) == f"amago-suite train {folder} && amago-suite evaluate {folder}"


def test_curves_follow_the_runs(tmp_path: Path) -> None:
    """The curve of one epoch a point is the runs' values; a run that stopped early leaves a gap, not zero."""
    grid = write_grid(make_grid(tmp_path, {"lake": SCORES["lake"]}, ("a",)))
    short = grid.cells[2].progress
    short.write_text("\n".join(short.read_text().splitlines()[:11]) + "\n")
    collection = collect(grid)
    (curves,) = learning_curves(collection)
    curve = curves.of["a"]
    assert curves.column == "val_return" and curve.runs.shape == (3, 30)
    np.testing.assert_allclose(curve.runs[0], collection.runs[0].progress["val_return"])
    np.testing.assert_allclose(curve.steps, collection.runs[0].progress["env_steps"])
    assert np.isnan(curve.runs[2, 10:]).all() and np.isfinite(curve.mean).all()
    assert np.isnan(curve.low[10:]).all() and np.isfinite(curve.low[:10]).all()
    share, line = sample_efficiency([curves])["a"]
    assert share[-1] == 1.0 and np.isnan(line[-1]) and np.isfinite(line[5])


def test_horizon_and_attempt_figures_appear_where_there_is_something_to_show(tmp_path: Path) -> None:
    """Three corridors of one id make a memory curve; attempt metrics make an adaptation curve."""
    score = Score("success", "higher", 0.0, 1.0, "x")
    environments = tuple(
        Environment(f"t{h}", "tmaze", {"corridor": h, "oracle": False}, "core", h, 1, score)
        for h in (10, 50, 400)
    )
    grid = Grid("s", "", "", environments, ("rnn", "ff"), (0, 1, 2), (), tmp_path, tmp_path)
    scores = {(e.name, "rnn"): np.full(3, 1.0 / e.horizon) for e in environments}
    (figure,) = horizon_curves(grid, scores)
    assert list(figure.of) == ["rnn"] and figure.logarithmic
    np.testing.assert_allclose(figure.of["rnn"][0], [10, 50, 400])
    np.testing.assert_allclose(figure.of["rnn"][1], [0.1, 0.02, 0.0025])

    real = write_grid(make_grid(tmp_path, {"lake": SCORES["lake"]}, ("a",)))
    for cell in real:
        lines = cell.episodes.read_text().splitlines()
        rows = [
            lines[0] + ",success_attempt_0,success_attempt_1",
            *(f"{line},0.25,{0.5 + cell.seed}" for line in lines[1:]),
        ]
        cell.episodes.write_text("\n".join(rows) + "\n")
    (adaptation,) = attempt_curves(collect(real))
    attempts, mean, low, _ = adaptation.of["a"]
    assert attempts.tolist() == [1, 2] and mean.tolist() == [0.25, 1.5] and low[1] < 1.5
    assert horizon_curves(real, {}) == []
