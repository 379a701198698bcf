"""One process a cell, whoever dies when."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from amago_suite import locks
from amago_suite.locks import Owner, RunLock, read_owner


def test_the_second_gets_the_owner_of_the_first(tmp_path: Path) -> None:
    """While the owner lives, nobody else has the lock."""
    with RunLock(tmp_path / "lock"):
        owner = RunLock(tmp_path / "lock").try_acquire()
        assert owner is not None
        assert owner.pid == os.getpid()
    assert not list(tmp_path.iterdir())


def dead_owner() -> Owner:
    process = subprocess.Popen([sys.executable, "-c", ""])
    owner = Owner.of(process.pid)
    process.wait()
    return owner


def test_a_dead_owners_lock_is_taken_over(tmp_path: Path) -> None:
    """After SIGKILL nobody has to clear anything by hand."""
    path = tmp_path / "lock"
    path.write_text(json.dumps(asdict(dead_owner())))
    with RunLock(path):
        assert read_owner(path).pid == os.getpid()
    assert not list(tmp_path.iterdir())


def test_a_recycled_process_number_is_not_the_owner(tmp_path: Path) -> None:
    """Another process may have the number of the dead one by now."""
    path = tmp_path / "lock"
    this = Owner.this()
    for other in (replace(this, started=1.0, ticks=""), replace(this, ticks="another-boot 1")):
        path.write_text(json.dumps(asdict(other)))
        with RunLock(path):
            assert read_owner(path) != other


def test_half_a_lock_file_is_no_lock(tmp_path: Path) -> None:
    """A full disk may leave an empty file; it must not block the cell for ever."""
    path = tmp_path / "lock"
    path.write_text("")
    assert RunLock(path).try_acquire() is None


def test_an_owner_elsewhere_lives_by_its_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another machine's processes cannot be looked at, but its heartbeat can."""
    path = tmp_path / "lock"
    path.write_text(json.dumps(asdict(replace(Owner.this(), host="elsewhere"))))
    assert RunLock(path).try_acquire() is not None
    old = time.time() - 2 * locks.DEAD_AFTER
    os.utime(path, (old, old))
    lock = RunLock(path)
    assert lock.try_acquire() is not None, "it may beat again: watch it first"
    monkeypatch.setattr(locks, "WATCHED", 0.0)
    assert lock.try_acquire() is None
    lock.release()


def test_the_heart_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long run must not look dead to another machine."""
    monkeypatch.setattr(locks, "HEARTBEAT", 0.02)
    path = tmp_path / "lock"
    with RunLock(path):
        os.utime(path, (1.0, 1.0))
        deadline = time.monotonic() + 5
        while path.stat().st_mtime < 2.0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert path.stat().st_mtime > 2.0


def test_losing_the_lock_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was frozen and taken over must not go on writing."""
    monkeypatch.setattr(locks, "HEARTBEAT", 0.02)
    lost = threading.Event()
    lock = RunLock(tmp_path / "lock", on_lost=lost.set)
    assert lock.try_acquire() is None
    other = json.dumps(asdict(replace(Owner.this(), token="other")))
    (tmp_path / "lock").write_text(other)
    assert lost.wait(5)
    lock.release()
    assert (tmp_path / "lock").read_text() == other


def _count_up(path: Path, counter: Path, rounds: int) -> None:
    for _ in range(rounds):
        lock = RunLock(path)
        lock.acquire(poll=0.001)
        value = int(counter.read_text())
        time.sleep(0.001)
        counter.write_text(str(value + 1))
        lock.release()


def test_processes_take_turns(tmp_path: Path) -> None:
    """Two holders at once would lose a count."""
    counter = tmp_path / "counter"
    counter.write_text("0")
    (tmp_path / "lock").write_text(json.dumps(asdict(dead_owner())))
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_count_up, args=(tmp_path / "lock", counter, 20)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert counter.read_text() == "80"


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_a_child_dies_with_its_parent(tmp_path: Path) -> None:
    """SIGKILL of a launcher leaves no orphan."""
    child = (
        "import os, signal, time; from amago_suite.locks import die_with_parent;"
        "assert die_with_parent(signal.SIGTERM, os.getppid());"
        f"open({str(tmp_path / 'ready')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    )
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    launcher = subprocess.Popen([sys.executable, "-c", parent])
    deadline = time.monotonic() + 20
    while not (tmp_path / "ready").exists() or not (tmp_path / "ready").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    pid = int((tmp_path / "ready").read_text())
    owner = Owner.of(pid)
    assert owner.running
    launcher.send_signal(signal.SIGKILL)
    launcher.wait()
    while owner.running:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_parent_that_is_already_gone_is_noticed() -> None:
    """It may end before the child could ask for the signal."""
    probe = "import signal; from amago_suite.locks import die_with_parent; print(die_with_parent(signal.SIGTERM, 1))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ("False" if sys.platform == "linux" else "True")
