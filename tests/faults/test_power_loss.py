"""Power losses at any moment of a save: the newest whole checkpoint loads, never a torn one."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from amago.checkpoints import CheckpointStore, Position
from tests.faults.power import after_crash, recorded, tree
from tests.unit.core.small_run import assert_same, configure, experiment


def contents(epoch: int) -> dict[str, bytes]:
    return {"policy.bin": bytes([epoch]) * 64, "optimizer.bin": bytes([epoch, 7]) * 40}


def save(store: CheckpointStore, epoch: int) -> None:
    writers = {
        name: (lambda path, data=data: path.write_bytes(data)) for name, data in contents(epoch).items()
    }
    store.save(Position(epoch), {"epoch": epoch}, writers)
    store.prune()


def test_every_beginning_of_three_saves_in_many_orders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards the order of write, fsync, rename and sentinel: cut anywhere, with what was not fsynced lost or torn."""
    root = tmp_path / "disk"
    root.mkdir()
    with recorded(root, monkeypatch) as recording:
        store = CheckpointStore(root / "run" / "checkpoints", keep_last=2)
        for epoch in (1, 2, 3):
            save(store, epoch)
            recording.mark(str(epoch))
    assert len(recording.operations) > 60
    assert len([o for o in recording.operations if o[0] == "fsync"]) >= 20
    tried = 0
    for count in range(len(recording.operations) + 1):
        promised = max((int(m) for at, m in recording.marks.items() if at <= count), default=0)
        for variant in range(12):
            rng = np.random.default_rng([count, variant]) if variant else None
            after_crash(recording, count, rng, tmp_path / "after")
            found = CheckpointStore(tmp_path / "after" / "run" / "checkpoints").newest()
            tried += 1
            if found is None:
                assert promised == 0, (count, variant)
                continue
            epoch = found.position.epoch
            assert promised <= epoch <= promised + 1, (count, variant)
            assert found.state == {"epoch": epoch}
            left = {p.name: p.read_bytes() for p in found.folder.iterdir() if p.suffix == ".bin"}
            assert left == contents(epoch), (count, variant)
    assert tried > 700


def test_the_imitation_notices_a_missing_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the imitation: a save that never fsyncs must be found out."""
    root = tmp_path / "disk"
    root.mkdir()
    with recorded(root, monkeypatch) as recording:
        (root / "run").mkdir()
        (root / "run" / "file").write_bytes(b"content" * 10)
        recording.mark("1")
    lost = 0
    for variant in range(20):
        after_crash(recording, len(recording.operations), np.random.default_rng(variant), tmp_path / "after")
        lost += tree(tmp_path / "after").get("run/file") != b"content" * 10
    assert lost > 10


def test_a_run_goes_on_after_a_power_loss_in_a_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the whole: replay and progress of the checkpoint survive too, and the run ends in the same bits."""
    configure()
    straight = experiment(tmp_path / "straight", epochs=5, ckpt_interval=1)
    straight.learn()
    root = tmp_path / "disk"
    root.mkdir()
    with recorded(root, monkeypatch) as recording:
        run = experiment(
            root, epochs=3, ckpt_interval=1, on_epoch_end=lambda row: recording.mark(str(row["epoch"] + 1))
        )
        run.learn()
    total = len(recording.operations)
    assert total > 100
    begun_anew = 0
    # The last promise lies behind the last epoch, and the operations before it are the most telling ones.
    chosen = np.random.default_rng(5).choice(np.arange(10, total), size=14, replace=False)
    for number, count in enumerate(sorted(int(c) for c in chosen)):
        promised = max((int(m) for at, m in recording.marks.items() if at <= count), default=0)
        after_crash(recording, count, np.random.default_rng([9, number]), tmp_path / "after")
        resumed = experiment(tmp_path / "after", epochs=5, ckpt_interval=1)
        assert promised <= resumed.epoch <= promised + 1, (count, promised, resumed.epoch)
        begun_anew += resumed.epoch == 0
        resumed.learn()
        assert_same(straight, resumed)
        shutil.rmtree(tmp_path / "after")
    assert begun_anew < 14
