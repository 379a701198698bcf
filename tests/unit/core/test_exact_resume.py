"""Exact resume: wherever a run is stopped or killed, it ends bit for bit where it would have."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

import amago
from amago import Experiment, TrainingInterrupted
from amago.errors import CheckpointError
from tests.unit.core.small_run import assert_same, configure, experiment


class Killed(Exception):
    """Stands for a process that ends without another word."""


def every_call(run: Experiment, act: Any) -> None:
    """Call ``act(n)`` before the n-th unit of work: a training step of the actors, or an update."""
    count = 0

    def counted(inner: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            act(count)
            count += 1
            return inner(*args, **kwargs)

        return call

    run.train_step = counted(run.train_step)  # type: ignore[method-assign]
    run.collector.train.step = counted(run.collector.train.step)  # type: ignore[method-assign]
    run.collector.val.step = counted(run.collector.val.step)  # type: ignore[method-assign]


def straight(folder: Path, **changes: Any) -> Experiment:
    run = experiment(folder, **changes)
    run.learn()
    return run


def interrupted(folder: Path, every: int, kill: bool, **changes: Any) -> tuple[Experiment, int]:
    """Stop (or kill) the run after every ``every`` units of work until it is done."""
    for attempt in range(200):
        run = experiment(folder, **changes)

        def act(n: int, run: Experiment = run, attempt: int = attempt) -> None:
            if n == every + attempt % 3:
                if kill:
                    raise Killed
                run.request_stop()

        every_call(run, act)
        try:
            run.learn()
        except (Killed, TrainingInterrupted):
            continue
        return run, attempt
    raise AssertionError("no progress in 200 attempts")


@pytest.mark.parametrize("arch", ["ff", "rnn", "transformer"])
def test_stopped_at_any_moment(tmp_path: Path, arch: str) -> None:
    """Guards SIGTERM's contract: stops inside rollouts, validations and learning change nothing."""
    configure()
    whole = straight(tmp_path / "a", arch=arch)
    pieces, attempts = interrupted(tmp_path / "b", 17, kill=False, arch=arch)
    assert attempts >= 3
    assert_same(whole, pieces)


@pytest.mark.parametrize("segment", [1, 2])
def test_stopped_at_every_function(tmp_path: Path, segment: int) -> None:
    """Guards the moments between units of work: a signal as any function of the loop begins."""
    configure()
    settings: dict[str, Any] = {"force_reset_train_envs_every": segment, "epochs": 2 + segment}
    whole = experiment(tmp_path / "whole", **settings)
    moments = _learn_with(whole, lambda moment: None)
    assert len(moments) > 100
    for number, chosen in enumerate(moments[:: 2 * segment]):
        run = experiment(tmp_path / str(number), **settings)

        def act(moment: Moment, run: Experiment = run, chosen: Moment = chosen) -> None:
            if moment == chosen:
                run.request_stop()

        try:
            _learn_with(run, act)
        except TrainingInterrupted:
            run = straight(tmp_path / str(number), **settings)
        try:
            assert_same(whole, run)
        except AssertionError as error:
            raise AssertionError(f"stopped at {chosen}: {error}") from error


#: A function's first call after the first epoch: its file and name.
Moment = tuple[str, str]
#: Folders of functions that every step calls, and that know nothing of stops.
_BELOW_THE_LOOP = ("nets", "agent", "envs")


def _learn_with(run: Experiment, act: Any) -> list[Moment]:
    """Train, calling ``act`` at each moment; returns the moments."""
    root = Path(amago.__file__).parent
    seen: dict[Moment, None] = {}
    ours: dict[CodeType, str | None] = {}

    def profile(frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or run.epoch < 1:
            return
        code = frame.f_code
        if code not in ours:
            path = Path(code.co_filename)
            inside = path.is_relative_to(root) and path.relative_to(root).parts[0] not in _BELOW_THE_LOOP
            ours[code] = path.name if inside else None
        name = ours[code]
        if name is not None and (moment := (name, code.co_qualname)) not in seen:
            seen[moment] = None
            act(moment)

    sys.setprofile(profile)
    try:
        run.learn()
    finally:
        sys.setprofile(None)
    return list(seen)


@pytest.mark.parametrize("arch", ["ff", "rnn", "transformer"])
def test_killed_at_any_moment(tmp_path: Path, arch: str) -> None:
    """Guards SIGKILL's contract: only work since the last checkpoint is done again, to the same numbers."""
    configure()
    whole = straight(tmp_path / "a", arch=arch)
    pieces, attempts = interrupted(tmp_path / "b", 44, kill=True, arch=arch)
    assert attempts >= 2
    assert_same(whole, pieces)


@pytest.mark.parametrize("kill", [True, False])
def test_segments_of_several_epochs(tmp_path: Path, kill: bool) -> None:
    """Guards long episodes: a segment of three epochs goes back to its start, weights included."""
    configure()
    settings = {"force_reset_train_envs_every": 3, "epochs": 9, "train_timesteps_per_epoch": 5}
    whole = straight(tmp_path / "a", **settings)
    pieces, attempts = interrupted(tmp_path / "b", 60, kill=kill, **settings)
    assert attempts >= 1
    assert_same(whole, pieces)


def test_when_checkpoints_are_written_changes_nothing(tmp_path: Path) -> None:
    """Guards ckpt_interval, in epochs and minutes."""
    configure()
    whole = straight(tmp_path / "a", ckpt_interval=None)
    often = straight(tmp_path / "b", ckpt_interval=1, ckpt_interval_minutes=0.0)
    assert_same(whole, often)


def test_loader_processes_change_nothing(tmp_path: Path) -> None:
    """Guards dloader_workers: batches have their own streams, whoever prepares them."""
    configure()
    assert_same(straight(tmp_path / "a", epochs=2), straight(tmp_path / "b", epochs=2, dloader_workers=2))


def test_a_larger_budget_continues(tmp_path: Path) -> None:
    """Guards budgets: an extended run equals a fresh one at the larger budget."""
    configure()
    straight(tmp_path / "a", epochs=3)
    assert_same(straight(tmp_path / "b", epochs=6), straight(tmp_path / "a", epochs=6))


@pytest.mark.parametrize("keep", [2, 1])
@pytest.mark.parametrize("budget", [2, 4, 5])
def test_a_larger_budget_continues_from_within_a_segment(tmp_path: Path, budget: int, keep: int) -> None:
    """Guards budgets that are no whole number of segments: the environments were not at a reset."""
    configure()
    settings = {
        "force_reset_train_envs_every": 3,
        "train_timesteps_per_epoch": 5,
        "keep_last_checkpoints": keep,
    }
    first = straight(tmp_path / "a", epochs=budget, **settings)
    assert_same(first, straight(tmp_path / "a", epochs=budget, **settings))
    assert_same(
        straight(tmp_path / "b", epochs=8, **settings), straight(tmp_path / "a", epochs=8, **settings)
    )


def test_gradient_accumulation_is_stopped_between_updates(tmp_path: Path) -> None:
    """Guards batches_per_update: a half-accumulated gradient is never checkpointed away."""
    configure()
    whole = straight(tmp_path / "a", batches_per_update=2)
    pieces, _ = interrupted(tmp_path / "b", 16, kill=False, batches_per_update=2)
    assert_same(whole, pieces)


def test_same_seed_twice_and_another_seed(tmp_path: Path) -> None:
    """Guards seeding: same seed, same bits; another seed, other weights."""
    configure()
    a, b = straight(tmp_path / "a", epochs=2), straight(tmp_path / "b", epochs=2)
    assert_same(a, b)
    c = straight(tmp_path / "c", epochs=2, seed=8)
    with pytest.raises(AssertionError):
        assert_same(a, c)


def test_a_damaged_newest_checkpoint_costs_only_work(tmp_path: Path) -> None:
    """Guards integrity: with the newest checkpoint flipped the run continues from the one before."""
    configure()
    whole = straight(tmp_path / "a")
    straight(tmp_path / "b", epochs=5)
    newest = sorted((tmp_path / "b/run/ckpts/training_states").iterdir())[-1]
    weights = newest / "policy.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[len(raw) // 2] ^= 4
    weights.write_bytes(bytes(raw))
    assert_same(whole, straight(tmp_path / "b"))


def test_damaged_checkpoints_alone_cost_only_work(tmp_path: Path) -> None:
    """Guards a start from nothing: damaged checkpoints of later epochs do not push out its own."""
    configure()
    whole = straight(tmp_path / "a")
    straight(tmp_path / "b", epochs=5)
    for damaged in (tmp_path / "b/run/ckpts/training_states").iterdir():
        (damaged / "policy.safetensors").write_bytes(b"")
    assert_same(whole, straight(tmp_path / "b"))


def test_a_real_signal_stops_and_a_resumed_run_agrees(tmp_path: Path) -> None:
    """Guards the handlers: SIGTERM to this process ends ``learn`` with TrainingInterrupted."""
    configure()
    whole = straight(tmp_path / "a")
    run = experiment(tmp_path / "b")
    every_call(run, lambda n: os.kill(os.getpid(), signal.SIGTERM) if n == 20 else None)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(TrainingInterrupted):
        run.learn()
    assert signal.getsignal(signal.SIGTERM) == before, "handlers must be put back"
    assert_same(whole, straight(tmp_path / "b"))


def test_only_needed_replay_and_checkpoints_stay(tmp_path: Path) -> None:
    """Guards the disk: old checkpoints and trajectories that none of the kept ones sees are gone."""
    configure()
    run = straight(tmp_path / "a", epochs=12, keep_last_checkpoints=2)
    assert len(run.store.positions()) == 2
    needed = {
        entry["file"]
        for position in run.store.positions()
        for entry in run.store.read(position).state["dataset"]["fifo"]
    }
    assert {p.name for p in (tmp_path / "a/replay/buffer/fifo").iterdir()} == needed


def test_another_seed_or_architecture_cannot_continue(tmp_path: Path) -> None:
    """Guards mixing: a checkpoint of another run is refused with the reason."""
    configure()
    straight(tmp_path / "a", epochs=2)
    with pytest.raises(CheckpointError, match="seed"):
        experiment(tmp_path / "a", seed=8)
    configure(**{"GRUTrajEncoder.d_hidden": 24})
    with pytest.raises(CheckpointError, match="architecture"):
        experiment(tmp_path / "a")


def test_starting_anew_beside_old_checkpoints_is_refused(tmp_path: Path) -> None:
    """Guards loss: resume='never' does not write over an earlier run."""
    configure()
    straight(tmp_path / "a", epochs=2)
    run = experiment(tmp_path / "a", resume="never")
    with pytest.raises(CheckpointError, match="resume='auto'"):
        run.learn()
