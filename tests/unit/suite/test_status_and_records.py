"""What a grid says about itself from the files that its cells leave."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from amago_suite.cell import Cell
from amago_suite.exits import FAILED, USAGE
from amago_suite.folders.files import write_json
from amago_suite.folders.progress import last_row, tail_rows
from amago_suite.grid import Grid
from amago_suite.live.display import clock
from amago_suite.live.status import Overview, Watcher, cell_status
from amago_suite.locks import RunLock
from amago_suite.paths import ROOT
from amago_suite.records import SILENT_DEATHS, Attempts, died_silently, write_failure
from amago_suite.runner import _Run, _slots, _split_config, starts_no_jobs

Planner = Callable[..., Grid]


def progress(cell: Cell, epochs: int, seconds: float = 2.0) -> None:
    """progress.csv after so many epochs."""
    lines = ["epoch,env_steps,gradient_steps,wall_seconds,env_steps_per_second"]
    lines += [f"{n},{(n + 1) * 100},{n + 1},{(n + 1) * seconds},50.0" for n in range(epochs)]
    cell.folder.mkdir(parents=True, exist_ok=True)
    cell.progress.write_text("\n".join(lines) + "\n")


def finish(cell: Cell, seconds: float = 8.0) -> None:
    write_json(cell.provenance, {"epochs": cell.budget_epochs, "wall_seconds": seconds})
    write_json(cell.evaluation_file, {"evaluation_hash": cell.evaluation_hash})


def test_states(grid_of: Planner) -> None:
    """Each state is told from files alone, as it must be when the run is on another machine."""
    grid = grid_of()
    done, running, failed, idle = grid.cells
    finish(done)
    progress(running, 1)
    write_failure(failed, "NaN in the loss", "train", failed.state / "train.log")
    with RunLock(running.state / "lock"):
        states = [status.state for status in Watcher(grid).look().cells]
        assert states == ["done", "training", "failed", "waiting"]
        assert cell_status(running).seconds_left == pytest.approx(6.0)
    assert cell_status(running).state == "interrupted"
    assert cell_status(failed).error == "NaN in the loss"
    assert cell_status(idle).seconds_left is None


def test_another_evaluation_is_not_done(grid_of: Planner) -> None:
    """After a change of the evaluation, the old one does not count."""
    cell = grid_of().cells[0]
    finish(cell)
    write_json(cell.evaluation_file, {"evaluation_hash": "other"})
    assert cell_status(cell).state != "done"


def test_the_end_is_estimated_from_cells_alike(grid_of: Planner) -> None:
    """Two cells of four epochs at 2 s each on one slot, one of them half done."""
    grid = grid_of()
    finish(grid.cells[0])
    finish(grid.cells[1])
    progress(grid.cells[2], 2)
    (grid.cells[2].state).mkdir(parents=True)
    assert Watcher(grid, slots=1).look().seconds_left() == pytest.approx(4.0 + 8.0)
    assert Watcher(grid, slots=2).look().seconds_left() == pytest.approx(8.0)
    assert Overview(grid, [cell_status(grid.cells[3])]).seconds_left() is None


def test_the_tail_of_a_long_file(tmp_path: Path) -> None:
    """Watching must not read a whole progress.csv every second, nor half a row."""
    path = tmp_path / "progress.csv"
    path.write_text("epoch,x\n" + "".join(f"{n},{'y' * 50}\n" for n in range(1000)) + "1000,half")
    assert last_row(path) == {"epoch": "999", "x": "y" * 50}
    assert [row["epoch"] for row in tail_rows(path, 3)] == ["997", "998", "999"]
    path.write_text("epoch,x\n")
    assert last_row(path) is None
    assert last_row(tmp_path / "none.csv") is None


def test_attempts_survive_a_crash(grid_of: Planner) -> None:
    """A killed attempt is closed by the next one, and a torn line costs nothing else."""
    cell = grid_of().cells[0]
    attempts = Attempts(cell)
    attempts.begin("a.log", 0)
    with attempts.path.open("a") as file:
        file.write('{"attempt": 1, "sta')
    second = attempts.begin("b.log", 3)
    attempts.finish(second, "finished", epoch_end=4, seconds=1.5)
    assert [(a.attempt, a.reason, a.log, a.epoch_end) for a in attempts.read()] == [
        (1, "lost", "a.log", 3),
        (2, "finished", "b.log", 4),
    ]


def test_silent_deaths_count_within_one_run(grid_of: Planner) -> None:
    """Out of memory again and again is a failure; a person who kills often is not."""
    cell = grid_of().cells[0]
    attempts = Attempts(cell)
    for _ in range(SILENT_DEATHS):
        attempts.begin(None, 2, parent=7)
    assert died_silently(attempts.read(), 2, parent=7)
    assert not died_silently(attempts.read(), 2, parent=8)
    assert not died_silently(attempts.read(), 3, parent=7)


def test_config_options_are_merged() -> None:
    """Snakemake keeps only the last --config, and the suite's must not be lost."""
    options = ["--cores", "2", "--config", "a=1", "b=2", "-n", "--config", "c=3", "--forceall"]
    assert _split_config(options) == (["--cores", "2", "-n", "--forceall"], {"a": "1", "b": "2", "c": "3"})


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (65.4, "1:05"), (3725, "1:02:05"), (None, "?")])
def test_clock(seconds: float | None, text: str) -> None:
    """The form that a person reads at a glance."""
    assert clock(seconds) == text


def test_results_of_other_settings_are_not_shown_as_progress(grid_of: Planner) -> None:
    """After a change of the settings, the old run's epochs are nobody's."""
    cell = grid_of().cells[0]
    progress(cell, 3)
    write_json(cell.state / "identity.json", {"train_hash": "0123"})
    status = cell_status(cell)
    assert (status.state, status.epoch) == ("waiting", 0)
    assert "other settings" in (status.error or "")


def test_the_end_is_estimated_from_what_runs_on_a_cluster(grid_of: Planner, monkeypatch) -> None:
    """This machine's cores say nothing of a cluster's."""
    grid = grid_of()
    profile = str(ROOT / "profiles" / "slurm")
    monkeypatch.setattr("amago_suite.runner.available_cores", lambda: 64)
    assert _slots(grid, ["--profile", profile]) is None
    assert _slots(grid, [f"--profile={profile}", "--jobs", "3"]) is None
    assert _slots(grid, ["--executor", "slurm"]) is None
    assert _slots(grid, ["--profile", str(ROOT / "profiles" / "docker"), "--cores", "3"]) == 3
    assert _slots(grid, ["--cores", "3"]) == 3
    watcher = Watcher(grid, slots=None)
    for cell in grid.cells:
        progress(cell, 2)
    with RunLock(grid.cells[0].state / "lock"):
        assert watcher.look().slots == 1
        with RunLock(grid.cells[1].state / "lock"):
            assert watcher.look().slots == 2


@pytest.mark.parametrize(
    ("options", "only_says"),
    [
        (["-n"], True),
        (["-np"], True),
        (["-Fn"], True),
        (["--dry-run"], True),
        (["--dry"], True),
        (["--dag=dot"], True),
        (["--delete-all-output"], True),
        (["-p"], False),
        (["-kp", "--cores", "2"], False),
        (["--nolock"], False),
        (["-c2"], False),
    ],
)
def test_dry_runs_are_known_in_every_spelling(options: list[str], only_says: bool) -> None:
    """One that was taken for a run would move old results aside."""
    assert starts_no_jobs(options) is only_says


def test_what_snakemake_refused_is_said_once_and_is_no_failure_of_the_tables(
    grid_of: Planner, capsys: pytest.CaptureFixture[str]
) -> None:
    """An old log of finished tables is no reason; Snakemake's own words are."""
    grid = grid_of()
    for cell in grid.cells:
        finish(cell)
    logs = grid.folder / "logs"
    logs.mkdir()
    (logs / "tables.log").write_text("Training took 1 min.\n")
    run = _Run(grid, [], "amago-suite run tiny", 1, Console())
    run.log.write_text("MissingRuleException: no rule to produce it\n")
    assert run._conclude(1, None) == FAILED
    said = capsys.readouterr().err
    assert "the tables failed" not in said and "MissingRuleException" in said
    run.log.write_text("error: --config: unknown key 'siute'\n")
    assert run._conclude(USAGE, None) == USAGE
    assert capsys.readouterr().err == "error: --config: unknown key 'siute'\n"
    (logs / "tables.log").unlink()
    (logs / "tables.log").write_text("error: no space left\n")
    assert run._conclude(1, None) == FAILED
    assert "the tables failed: no space left" in capsys.readouterr().err
