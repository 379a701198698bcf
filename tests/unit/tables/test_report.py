"""The page and its figures, without a browser."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from writer import SCORES, make_grid, write_grid, write_run

from amago_suite.analysis.bootstrap import bands
from amago_suite.analysis.collect import collect
from amago_suite.analysis.curves import Efficiency, learning_curves, sample_efficiency
from amago_suite.analysis.rows import analyse
from amago_suite.grid import Environment, Grid, Score
from amago_suite.presentation.drawings import write_figures
from amago_suite.presentation.foldouts import command
from amago_suite.presentation.interactive import plot_data
from amago_suite.presentation.layout import mixed_images
from amago_suite.presentation.lines import attempt_figures, curve_figure, horizon_figures
from amago_suite.report import score_rows, write_report
from amago_suite.statistics import iqm, normalise
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
    text = re.sub(r"<script.*?</script>", "", report_of(grid).read_text(), flags=re.DOTALL)
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


def test_an_interval_has_the_decimals_of_its_mean(tmp_path: Path) -> None:
    """A mean below 1 whose interval ends above it: both to two decimals, and the mean only once."""
    grid = make_grid(tmp_path, {"lake": SCORES["lake"]}, ("a",))
    grid = write_grid(grid, lambda e, a, s: 0.9 + 0.1 * s)
    cell = score_rows(grid, analyse(collect(grid), resamples=50))[0]["cells"][0]
    assert (cell.mean, cell.interval) == ("1.00", "[0.75, 1.25]")
    text = report_of(grid).read_text()
    assert '<span class="mean">1.00</span>' in text and '<span class="ci">[0.75, 1.25]</span>' in text


def test_warnings_are_given(tmp_path: Path) -> None:
    """Mixed images, uncommitted changes, kernels that may not repeat, a diverged run, few seeds."""
    grid = write_grid(make_grid(tmp_path, {"lake": SCORES["lake"]}))
    changes = {
        "engine": "docker",
        "image_id": "sha256:b",
        "git": {"commit": "f" * 40, "dirty": True},
        "deterministic": False,
        "diverged": "NaN",
    }
    write_run(grid.cells[0], SCORES["lake"], 1.0, **changes)
    write_run(grid.cells[1], SCORES["lake"], 1.0, engine="docker", image_id="sha256:a")
    text = report_of(grid).read_text()
    for said in ("Mixed container images in family ", "different commits", "uncommitted changes", "Not deterministic",
                 "1 run diverged", "Few seeds"):  # fmt: skip
        assert said in text


def test_images_are_compared_within_a_family(tmp_path: Path) -> None:
    """One image is one, whatever engine ran it; another one, a run of two, or the host beside it are said."""
    grid = write_grid(make_grid(tmp_path, {"lake": SCORES["lake"]}))

    def said(*images: tuple[str, list[str]]) -> list[str]:
        for cell, (engine, ids) in zip(grid, images, strict=False):
            write_run(
                cell, SCORES["lake"], 1.0, engine=engine, image_id=ids[-1] if ids else None, image_ids=ids
            )
        return mixed_images(analyse(collect(grid), resamples=50))

    engines = ["docker", "podman", "apptainer"]
    assert said(*((engines[i % 3], ["sha256:a"]) for i in range(len(grid)))) == []
    (line,) = said(("docker", ["sha256:b"]))
    assert "1 run by sha256:b" in line and f"{len(grid) - 1} runs by sha256:a" in line
    (line,) = said(*((engines[i % 3], ["sha256:a", "sha256:b"]) for i in range(len(grid))))
    assert f"{len(grid)} runs by sha256:a and sha256:b" in line
    (line,) = said(("host", []))
    assert "1 run on the host" in line


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
    """It makes this cell from nothing in any checkout; a suite of config/suites/ goes by its name."""
    grid = make_grid(tmp_path)
    target = "results/demo/tmaze/ff/seed_0/evaluation.json"
    assert command(grid, grid.cells[0]) == f"amago-suite run {tmp_path}/demo.yaml {target}"
    ours = replace(grid, file=Path("/elsewhere/config/suites/demo.yaml"))
    assert command(ours, grid.cells[0]) == f"amago-suite run demo {target}"


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
    line = sample_efficiency([curves])["a"]
    assert line.share[-1] == 1.0 and np.isnan(line.iqm[-1]) and np.isfinite(line.iqm[5])
    assert np.isnan(line.low[-1]) and line.low[5] <= line.iqm[5] <= line.high[5]


def efficiency_by_hand(tables: list[np.ndarray], resamples: int) -> tuple[np.ndarray, np.ndarray]:
    """The slow way: draw whole runs of each environment, flatten, take the IQM at each point."""
    rng = np.random.default_rng(5)
    drawn = []
    for _ in range(resamples):
        rows = np.concatenate([table[rng.integers(0, len(table), len(table))] for table in tables])
        drawn.append([iqm(column) for column in rows.T])
    return bands(np.array(drawn))


def test_efficiency_bands_are_the_stratified_bootstrap(tmp_path: Path) -> None:
    """Two environments, four seeds: point estimates exact, bands as by hand up to Monte-Carlo noise."""
    scores = {name: SCORES[name] for name in ("lake", "tmaze")}
    grid = write_grid(make_grid(tmp_path, scores, ("a",), (0, 1, 2, 3)))
    curves = learning_curves(collect(grid))
    points = curves[0].of["a"].steps.size
    line: Efficiency = sample_efficiency(curves, points=points, resamples=4000)["a"]
    tables = [normalise(c.of["a"].runs, c.environment.score.low, c.environment.score.high) for c in curves]
    np.testing.assert_allclose(line.iqm, [iqm(column) for column in np.concatenate(tables).T])
    low, high = efficiency_by_hand(tables, 4000)
    width = (high - low).mean()
    assert np.abs(line.low - low).max() < 0.15 * width and np.abs(line.high - high).max() < 0.15 * width
    assert (line.n, width > 0) == (4, True)
    two = make_grid(tmp_path / "two", {"lake": SCORES["lake"]}, ("a",), (0, 1))
    few = sample_efficiency(learning_curves(collect(write_grid(two))))["a"]
    assert np.isnan(few.low).all() and np.isfinite(few.iqm[1:]).all()


def test_plot_data_is_what_is_drawn(tmp_path: Path) -> None:
    """The page's plots show the same numbers as the figures: no gap filled, no NaN in JSON, look by architecture."""
    grid = write_grid(
        make_grid(tmp_path, {"lake": SCORES["lake"]}, ("a", "b")), skip=lambda c: c.key[1:] == ("b", 0)
    )
    (curves,) = learning_curves(collect(grid))
    data = plot_data([curve_figure(curves)], ["0", "a", "b"])["curves-lake"]
    first, second = data["lines"]
    assert [(line["name"], line["look"], line["n"]) for line in data["lines"]] == [("a", 1, 3), ("b", 2, 2)]
    np.testing.assert_allclose(first["mean"], curves.of["a"].mean, rtol=1e-3)
    np.testing.assert_allclose(first["high"], curves.of["a"].high, rtol=1e-3)
    assert "low" not in second and "runs" not in first
    np.testing.assert_allclose(second["runs"], curves.of["b"].runs, rtol=1e-3)
    curves.of["a"].mean[[0, 7]] = np.nan
    cut = plot_data([curve_figure(curves)], ["a", "b"])["curves-lake"]["lines"][0]
    assert cut["x"][0] == curves.of["a"].steps[1] and cut["mean"][6] is None and len(cut["x"]) == 29


def test_sizes_and_tuning_that_differ_are_said(tmp_path: Path) -> None:
    """An unequal comparison must be visible: parameters and tuning stand in the report, and in runs.csv."""
    grid = make_grid(tmp_path, {"lake": SCORES["lake"]}, ("a", "b"))
    grid = replace(grid, tuning={"a": "20 settings on lake", "b": "defaults of <the paper>"})
    for cell in grid:
        write_run(cell, SCORES["lake"], 1.0, parameters=1_000 if cell.architecture == "a" else 3_500)
    text = report_of(grid).read_text()
    assert "parameters differ by up to 3.5 times (lake: b 3,500, a 1,000)" in text
    assert "Unequal tuning" in text and "defaults of &lt;the paper&gt;" in text
    runs = (grid.folder / "partial" / "runs.csv").read_text()
    assert runs.count("20 settings on lake") == 3
    same = report_of(replace(grid, tuning={"a": "none", "b": "none"})).read_text()
    assert "Unequal tuning" not in same


def test_horizon_and_attempt_figures_appear_where_there_is_something_to_show(tmp_path: Path) -> None:
    """Three corridors of one id make a memory curve; attempt metrics make an adaptation curve."""
    score = Score("success", "higher", 0.0, 1.0, "x")
    environments = tuple(
        Environment(f"t{h}", "tmaze", {"corridor": h, "oracle": False}, "core", h, 1, score)
        for h in (10, 50, 400)
    )
    grid = Grid("s", "", "", environments, ("rnn", "ff"), (0, 1, 2), (), tmp_path, tmp_path)
    scores = {(e.name, "rnn"): np.full(3, 1.0 / e.horizon) for e in environments}
    (figure,) = horizon_figures(grid, scores)
    assert list(figure.of) == ["rnn"] and figure.logarithmic and figure.ticks == (10, 50, 400)
    np.testing.assert_allclose(figure.of["rnn"].x, [10, 50, 400])
    np.testing.assert_allclose(figure.of["rnn"].mean, [0.1, 0.02, 0.0025])

    real = write_grid(make_grid(tmp_path, {"lake": SCORES["lake"]}, ("a",)))
    for cell in real:
        lines = cell.episodes.read_text().splitlines()
        rows = [
            lines[0] + ",success_attempt_0,success_attempt_1",
            *(f"{line},0.25,{0.5 + cell.seed}" for line in lines[1:]),
        ]
        cell.episodes.write_text("\n".join(rows) + "\n")
    (adaptation,) = attempt_figures(collect(real))
    line = adaptation.of["a"]
    assert line.x.tolist() == [1, 2] and line.mean.tolist() == [0.25, 1.5] and line.low[1] < 1.5
    assert horizon_figures(real, {}) == []
