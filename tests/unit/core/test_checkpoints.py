"""Checkpoints: whole or not there, whatever was cut short or flipped."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from amago.checkpoints import CheckpointStore, Position
from amago.errors import CheckpointError
from amago.files import link_or_copy


def save(store: CheckpointStore, epoch: int, content: bytes = b"weights" * 20) -> Path:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return store.save(Position(epoch), {"epoch": epoch}, {"policy.bin": write})


def test_the_newest_whole_one_is_found_and_old_ones_go(tmp_path: Path) -> None:
    """Guards keep_last and order."""
    store = CheckpointStore(tmp_path, keep_last=2)
    for epoch in (3, 10, 20):
        save(store, epoch)
        kept = store.prune()
    assert [s["epoch"] for s in kept] == [20, 10]
    newest = store.newest()
    assert newest is not None and newest.state == {"epoch": 20}
    assert store.positions() == [Position(10), Position(20)]


def test_any_flipped_byte_falls_back_to_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Guards integrity: every byte of every file of the newest checkpoint, flipped one at a time."""
    store = CheckpointStore(tmp_path / "ok")
    save(store, 1)
    folder = save(store, 2, b"w" * 16)
    for path in sorted(folder.iterdir()):
        original = path.read_bytes()
        for i in range(len(original)):
            flipped = bytearray(original)
            flipped[i] ^= 0x10
            path.write_bytes(bytes(flipped))
            found = store.newest()
            # A flip in the sentinel's white space or a harmless place may leave it valid; it must
            # then still describe the right files.
            assert found is not None and found.state["epoch"] in (1, 2)
            if path.name != "COMPLETE":
                assert found.state["epoch"] == 1, (path.name, i)
        path.write_bytes(original)
    assert "damaged" in caplog.text
    newest = store.newest()
    assert newest is not None and newest.state["epoch"] == 2


def test_any_truncation_falls_back_to_the_one_before(tmp_path: Path) -> None:
    """Guards power loss: any file of the newest checkpoint cut at any length, or gone."""
    store = CheckpointStore(tmp_path / "ok")
    save(store, 1)
    folder = save(store, 2, b"w" * 16)
    for path in sorted(folder.iterdir()):
        original = path.read_bytes()
        for length in range(len(original.rstrip())):
            path.write_bytes(original[:length])
            found = store.newest()
            assert found is not None and found.state["epoch"] == 1, (path.name, length)
        path.unlink()
        found = store.newest()
        assert found is not None and found.state["epoch"] == 1, path.name
        path.write_bytes(original)


def test_a_failed_write_leaves_earlier_checkpoints(tmp_path: Path) -> None:
    """Guards a full disk: the error is clear, nothing half-written stays, the older one loads."""
    store = CheckpointStore(tmp_path / "ok")
    save(store, 1)

    def full(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(CheckpointError, match="No space left"):
        store.save(Position(2), {}, {"policy.bin": full})
    found = store.newest()
    assert found is not None and found.position == Position(1)
    assert len(list(store.folder.iterdir())) == 1


def test_a_folder_renamed_before_its_sentinel_is_not_whole(tmp_path: Path) -> None:
    """Guards the order of writes: without the sentinel a complete-looking folder is ignored."""
    store = CheckpointStore(tmp_path / "ok")
    folder = save(store, 1)
    (folder / "COMPLETE").unlink()
    assert store.newest() is None
    with pytest.raises(CheckpointError, match="COMPLETE"):
        store.read(Position(1))


def test_newer_ones_are_discarded_when_an_older_one_is_continued(tmp_path: Path) -> None:
    """Guards the replayed future: after a fallback the damaged newer checkpoint is gone."""
    store = CheckpointStore(tmp_path / "ok")
    save(store, 1)
    save(store, 2)
    store.discard_after(Position(1))
    assert store.positions() == [Position(1)]
    shutil.rmtree(store.folder)
    assert store.newest() is None


def test_a_second_name_never_writes_into_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards checkpoints whose weights are also kept by epoch: linked or copied, again and again, both stay whole."""
    first, second = tmp_path / "checkpoint.bin", tmp_path / "kept" / "epoch.bin"
    first.write_bytes(b"weights")
    # What a killed process of our number left: another name of a checkpoint's file.
    second.parent.mkdir()
    os.link(first, second.parent / f".{second.name}.{os.getpid()}.tmp")
    for _ in range(2):
        link_or_copy(first, second)
        assert (second.read_bytes(), first.stat().st_ino) == (b"weights", second.stat().st_ino)

    def refused(*names: Path) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refused)
    other = tmp_path / "other.bin"
    other.write_bytes(b"other")
    link_or_copy(other, second)
    assert (first.read_bytes(), second.read_bytes()) == (b"weights", b"other")
    assert [p.name for p in second.parent.iterdir()] == ["epoch.bin"]
