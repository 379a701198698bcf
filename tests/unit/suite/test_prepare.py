"""The results folder before a run: old results aside, failures forgotten, impossible wishes refused."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from amago.errors import ConfigurationError
from amago_suite.cell import Cell, read_cell
from amago_suite.folders.files import read_json, write_json
from amago_suite.folders.ownership import check_owner, owner_file, remove_stale_locks, write_owner
from amago_suite.folders.prepare import check_results, prepare
from amago_suite.grid import Grid
from amago_suite.locks import RunLock
from amago_suite.records import write_failure

Planner = Callable[..., Grid]

SUITE = """
environments: [{{ id: tmaze-passive, params: {{ corridor: 3 }} }}]
architectures: [ff]
seeds: [0]
budget: {{ epochs: {epochs} }}
gin: "Agent.tau = {tau}"
"""


def trained(grid: Grid) -> Cell:
    """The grid's only cell, as a finished run leaves it."""
    (cell,) = grid
    prepare(grid)
    write_json(cell.state / "identity.json", {"train_hash": cell.train_hash})
    write_json(cell.provenance, {"train_hash": cell.train_hash, "epochs": cell.budget_epochs})
    cell.policy.write_bytes(b"weights")
    return cell


def test_every_cell_gets_its_file(grid_of: Planner) -> None:
    """Jobs need nothing but their cell.yaml."""
    grid = grid_of()
    assert prepare(grid) == []
    assert [read_cell(cell.folder) for cell in grid] == list(grid)


def test_unchanged_cells_are_left_alone(grid_of: Planner) -> None:
    """Preparing twice must not touch a file, or Snakemake would see it as newer."""
    grid = grid_of()
    prepare(grid)
    before = {path: path.stat().st_mtime_ns for path in grid.folder.rglob("*") if path.is_file()}
    prepare(grid)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_other_settings_move_the_old_results_aside(grid_of: Planner) -> None:
    """Results of another configuration are neither mixed nor overwritten."""
    old = trained(grid_of(SUITE.format(epochs=4, tau=0.1)))
    new = grid_of(SUITE.format(epochs=4, tau=0.2))
    ((cell, where),) = prepare(new)
    assert where == Path(f"results/.superseded/tiny/tmaze-passive/ff/seed_0.{old.train_hash[:8]}")
    assert (where / "policy.safetensors").read_bytes() == b"weights"
    assert read_cell(where).train_hash == old.train_hash
    assert not cell.policy.exists()
    assert read_cell(cell.folder) == cell


def test_moving_aside_twice_keeps_both(grid_of: Planner) -> None:
    """Going back and forth between two settings must not lose a run."""
    for _ in range(2):
        trained(grid_of(SUITE.format(epochs=4, tau=0.1)))
        trained(grid_of(SUITE.format(epochs=4, tau=0.2)))
    assert len(list(Path("results/.superseded/tiny/tmaze-passive/ff").iterdir())) == 3


def test_a_larger_budget_keeps_the_run(grid_of: Planner) -> None:
    """It continues; only cell.yaml says another number."""
    cell = trained(grid_of(SUITE.format(epochs=4, tau=0.1)))
    larger = grid_of(SUITE.format(epochs=8, tau=0.1))
    check_results(larger)
    assert prepare(larger) == []
    assert cell.policy.exists()
    assert read_cell(cell.folder).budget_epochs == 8


def test_a_smaller_budget_is_refused(grid_of: Planner) -> None:
    """A trained run cannot be shortened, and the error says what to do."""
    trained(grid_of(SUITE.format(epochs=4, tau=0.1)))
    with pytest.raises(
        ConfigurationError, match=r"already trained for 4 epochs.*set budget\.epochs to 4 or more"
    ):
        check_results(grid_of(SUITE.format(epochs=3, tau=0.1)))


def test_a_cell_in_training_is_not_moved(grid_of: Planner) -> None:
    """Its trainer would write into a folder that is gone."""
    cell = trained(grid_of(SUITE.format(epochs=4, tau=0.1)))
    with (
        RunLock(cell.state / "lock"),
        pytest.raises(ConfigurationError, match="is being trained under its old"),
    ):
        prepare(grid_of(SUITE.format(epochs=4, tau=0.2)))


def test_failures_are_forgotten(grid_of: Planner) -> None:
    """The next run tries a failed cell again."""
    grid = grid_of()
    cell = grid.cells[0]
    write_failure(cell, "it broke", "train", cell.state / "train.log")
    prepare(grid)
    assert read_json(cell.failed) is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_results_folder(grid_of: Planner, tmp_path: Path) -> None:
    """Found before the first job, not after an hour of training."""
    grid = grid_of()
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ConfigurationError, match="cannot be written"):
            check_results(grid)
    finally:
        tmp_path.chmod(0o700)


def test_a_results_path_that_is_a_file(grid_of: Planner) -> None:
    """The same, in the form that root meets too."""
    grid = grid_of()
    Path("results").write_text("not a folder")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        check_results(grid)


def test_only_a_dead_owners_locks_go(grid_of: Planner) -> None:
    """A lock of a live run, or of another suite, is nobody else's to remove."""
    grid = grid_of()
    locks = Path(".snakemake/locks")
    locks.mkdir(parents=True)
    (locks / "0.output.lock").write_text("results/tiny/a/policy.safetensors\n")
    (locks / "1.output.lock").write_text("results/other/a/policy.safetensors\n")
    assert not check_owner(grid)
    write_owner(grid)
    with pytest.raises(ConfigurationError, match="already being run by process"):
        check_owner(grid)
    gone = read_json(owner_file(grid)) | {"started": 1.0, "ticks": ""}
    write_json(owner_file(grid), gone)
    shutil.rmtree("results", ignore_errors=True)  # what people do after a crash must not hide the owner
    assert check_owner(grid)
    assert remove_stale_locks(grid) == [locks / "0.output.lock"]
    assert [path.name for path in locks.iterdir()] == ["1.output.lock"]
    assert not check_owner(grid)


def test_an_owner_elsewhere_counts_as_alive(grid_of: Planner) -> None:
    """Nobody here can tell whether it is dead."""
    grid = grid_of()
    write_owner(grid)
    write_json(owner_file(grid), read_json(owner_file(grid)) | {"host": "elsewhere"})
    with pytest.raises(ConfigurationError, match="on elsewhere; if that machine is gone"):
        check_owner(grid)
