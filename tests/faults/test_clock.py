"""Clocks that jump: no lock is taken from who works, none is kept by who is gone, no number changes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest

from amago_suite import locks
from amago_suite.locks import Owner, RunLock
from tests.unit.core.small_run import assert_same, configure, experiment


@pytest.mark.parametrize("jump", [-(10**8), -3600, 3600, 10**8])
def test_a_living_owner_here_keeps_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: int
) -> None:
    """Guards process identities: after the clock was set, a process seems to have begun at another time."""
    with RunLock(tmp_path / "lock"):
        real = psutil.Process.create_time
        monkeypatch.setattr(psutil.Process, "create_time", lambda self: real(self) + jump)
        assert RunLock(tmp_path / "lock").try_acquire() is not None


class Sky:
    """Monotonic time that the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(locks.time, "monotonic", lambda: self.now)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Callable[[float], Path]:
    """A lock of another machine whose last heartbeat seems ``age`` seconds old."""

    def make(age: float) -> Path:
        path = tmp_path / "lock"
        path.write_text(json.dumps(asdict(replace(Owner.this(), host="elsewhere"))))
        then = time.time() - age
        os.utime(path, (then, then))
        return path

    return make


def test_forwards_a_beating_heart_is_alive(
    elsewhere: Callable[[float], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards takeovers: a heartbeat that looks a day old but moves belongs to who works."""
    sky = Sky(monkeypatch)
    path = elsewhere(86_400.0)
    lock = RunLock(path)
    for beat in range(20):
        assert lock.try_acquire() is not None
        sky.now += locks.HEARTBEAT
        os.utime(path, (beat, beat))


def test_backwards_a_still_heart_is_dead(
    elsewhere: Callable[[float], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards waiting: a heartbeat from the future that never moves blocks a cell for two minutes, not for years."""
    sky = Sky(monkeypatch)
    lock = RunLock(elsewhere(-1e8))
    assert lock.try_acquire() is not None
    sky.now += locks.DEAD_AFTER - 1
    assert lock.try_acquire() is not None
    sky.now += 1
    assert lock.try_acquire() is None
    lock.release()


def test_training_reads_no_time_of_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards results and durations: with a clock that runs backwards the same bits, and no negative seconds."""
    configure()
    whole = experiment(tmp_path / "a")
    whole.learn()
    calls = 0

    def backwards() -> float:
        nonlocal calls
        calls += 1
        return 1e9 - 1000.0 * calls

    monkeypatch.setattr(time, "time", backwards)
    monkeypatch.setattr(time, "time_ns", lambda: int(backwards() * 1e9))
    run = experiment(tmp_path / "b", ckpt_interval_minutes=0.0)
    run.learn()
    monkeypatch.undo()
    assert run.wall_seconds > 0
    assert_same(whole, run)
