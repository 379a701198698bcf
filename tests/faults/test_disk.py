"""Disks that are full, read-only or rotten: one clear line, what was there stays, and it goes on afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from amago.errors import AmagoError, CheckpointError, StorageError
from tests.faults.conftest import Desk, SmallDisk
from tests.unit.core.small_run import assert_same, configure, experiment
from tests.unit.tables.writer import make_grid, write_grid

MakeDisk = Callable[..., SmallDisk]


def leftovers(folder: Path) -> list[str]:
    """Temporary files that a failed write left."""
    return [str(p) for p in folder.rglob("*") if ".tmp" in p.name or p.name.startswith(".")]


def test_full_during_a_checkpoint(make_disk: MakeDisk, tmp_path: Path) -> None:
    """Guards checkpoints: the earlier one is intact, nothing half-written stays, the run ends in the same bits."""
    configure()
    whole = experiment(tmp_path / "whole")
    whole.learn()
    disk = make_disk(4000)
    run = experiment(disk.folder, keep_last_checkpoints=1)
    real = run.store.save

    def save(position, *rest):  # type: ignore[no-untyped-def]
        if position.epoch == 4:
            disk.fill(leave=40_000)  # the state and half of the weights find room
        return real(position, *rest)

    run.store.save = save  # type: ignore[method-assign]
    with pytest.raises(CheckpointError, match=r"No space left on device.*earlier checkpoints are intact"):
        run.learn()
    assert [p.epoch for p in run.store.positions()] == [2]
    assert not leftovers(disk.folder)
    disk.empty()
    again = experiment(disk.folder, keep_last_checkpoints=1)
    assert again.epoch == 2
    again.learn()
    assert_same(whole, again)


def test_full_during_a_trajectory(make_disk: MakeDisk, tmp_path: Path) -> None:
    """Guards the replay: a shard appears whole or not at all, and the error says what to do."""
    configure()
    whole = experiment(tmp_path / "whole")
    whole.learn()
    disk = make_disk(4000)
    run = experiment(disk.folder)
    real = run.dataset.add

    def add(name, *rest):  # type: ignore[no-untyped-def]
        if name == "00000003":
            disk.fill()
        return real(name, *rest)

    run.dataset.add = add  # type: ignore[method-assign]
    with pytest.raises(StorageError, match="No space left on device; free some space"):
        run.learn()
    shards = sorted(p.name for p in (disk.folder / "replay/buffer/fifo").iterdir())
    assert shards == [f"{n:08d}.safetensors" for n in range(3)]
    disk.empty()
    again = experiment(disk.folder)
    again.learn()
    assert_same(whole, again)


def test_full_during_a_row_of_progress(make_disk: MakeDisk, tmp_path: Path) -> None:
    """Guards progress.csv on a disk of its own: half a row is cut off when the run goes on."""
    configure()
    whole = experiment(tmp_path / "whole")
    whole.learn()
    disk = make_disk(64)
    run = experiment(tmp_path / "run", log_dir=disk.folder)
    real = run.tracker.epoch_row

    def row(values):  # type: ignore[no-untyped-def]
        if values["epoch"] == 3:
            disk.fill()
            (disk.folder / "metrics.jsonl").write_bytes(
                (disk.folder / "metrics.jsonl").read_bytes() + b"x" * 5000
            )
        real(values)

    run.tracker.epoch_row = row  # type: ignore[method-assign]
    with pytest.raises(AmagoError, match="No space left on device"):
        run.learn()
    disk.empty()
    again = experiment(tmp_path / "run", log_dir=disk.folder)
    again.learn()
    assert_same(whole, again)


def test_full_during_a_table(make_disk: MakeDisk) -> None:
    """Guards tables: all of the old ones stay when not all of the new ones fit."""
    from amago_suite.tables import write_tables

    disk = make_disk(3000)
    grid = write_grid(make_grid(disk.folder))
    write_tables(grid.folder, grid, partial=False)
    before = {p.name: p.read_bytes() for p in (grid.folder / "tables").iterdir()}
    disk.fill(leave=8_000)
    with pytest.raises(AmagoError, match=r"cannot write .*No space left on device"):
        write_tables(grid.folder, grid, partial=False)
    assert {p.name: p.read_bytes() for p in (grid.folder / "tables").iterdir()} == before
    assert not leftovers(grid.folder)


@pytest.mark.slow
def test_a_cell_on_a_full_disk(make_disk: MakeDisk, desk: Desk) -> None:
    """Guards the command: one line, exit code 1, and with space again it goes on by itself."""
    disk = make_disk(40_000)
    desk.write()
    cell = desk.cell(disk.folder / "results")
    disk.fill(leave=60_000)
    full = desk.type("train", str(cell))
    assert full.returncode == 1, full.stdout + full.stderr
    said = [line for line in (full.stdout + full.stderr).splitlines() if "error" in line]
    assert any("No space left on device" in line for line in said)
    assert "Traceback" not in full.stdout + full.stderr
    disk.empty()
    done = desk.type("train", str(cell))
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((cell / "provenance.json").read_text())["epochs"] == 6


@pytest.mark.slow
def test_a_cell_on_a_read_only_disk(make_disk: MakeDisk, desk: Desk) -> None:
    """Guards read-only folders (of root too, whom permissions do not stop)."""
    disk = make_disk(40_000)
    desk.write()
    cell = desk.cell(disk.folder / "results")
    disk.read_only(True)
    refused = desk.type("train", str(cell))
    assert refused.returncode == 1
    assert "Read-only file system" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    disk.read_only(False)
    assert desk.type("train", str(cell)).returncode == 0


def test_read_only_in_the_middle_of_a_run(make_disk: MakeDisk, tmp_path: Path) -> None:
    """Guards disks that the system remounts after an error: the checkpoint before it loads."""
    configure()
    whole = experiment(tmp_path / "whole")
    whole.learn()
    disk = make_disk(4000)

    def when(row: dict[str, object]) -> None:
        if row["epoch"] == 2:
            disk.read_only(True)

    run = experiment(disk.folder, on_epoch_end=when)
    with pytest.raises(AmagoError, match="Read-only file system"):
        run.learn()
    disk.read_only(False)
    again = experiment(disk.folder)
    assert again.epoch == 2
    again.learn()
    assert_same(whole, again)


@pytest.mark.parametrize("how", ["flipped", "cut", "gone"])
def test_a_rotten_file_costs_only_work(tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str) -> None:
    """Guards checksums in an experiment: any file of the newest checkpoint, or a replay shard that only it names."""
    configure()
    whole = experiment(tmp_path / "whole")
    whole.learn()
    run = experiment(tmp_path / "run", epochs=4)
    run.learn()
    newest, before = (run.store.read(p).state for p in reversed(run.store.positions()))
    names = {e["file"] for e in newest["dataset"]["fifo"]} - {e["file"] for e in before["dataset"]["fifo"]}
    folder = run.store.folder / run.store.positions()[-1].folder_name
    shards = [tmp_path / "run/replay/buffer/fifo" / name for name in sorted(names)]
    rng = np.random.default_rng(3)
    import shutil

    for number, path in enumerate([*sorted(folder.iterdir()), *shards[:1]]):
        place = tmp_path / f"copy{number}"
        shutil.copytree(tmp_path / "run", place)
        rotten = place / path.relative_to(tmp_path / "run")
        data = bytearray(rotten.read_bytes())
        at = int(rng.integers(len(data) - 2))
        if how == "gone":
            rotten.unlink()
        else:
            if how == "flipped":
                data[at] ^= 1 << int(rng.integers(8))
            rotten.write_bytes(bytes(data if how == "flipped" else data[:at]))
        caplog.clear()
        again = experiment(place)
        if not (how == "flipped" and path.name == "COMPLETE" and again.epoch == 4):
            assert again.epoch == 2, path.name
            assert "using the checkpoint before it" in caplog.text
        if number in (0, len(list(folder.iterdir()))):
            again.learn()
            assert_same(whole, again)
