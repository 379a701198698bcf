"""The parts of the training loop that a run's end depends on: stopping, metrics, updates, evaluation."""

from __future__ import annotations

import csv
import json
import math
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

from amago.errors import CheckpointError, ConfigurationError, TrainingDiverged
from amago.evaluation import episode_rows, histories, summarise
from amago.rollout import Episode
from amago.seeding import SeedTree
from amago.tracking import PROGRESS_COLUMNS, Tracker
from tests.unit.core.small_run import configure, experiment


def test_streams_are_found_by_name_alone() -> None:
    """Guards named streams: equal names equal numbers, any other name (also 1 and "1") other numbers."""
    tree = SeedTree(5)
    assert tree.integer("a", 1) == SeedTree(5).integer("a", 1)
    names: list[tuple[Any, ...]] = [("a", 1), ("a", "1"), ("a", 2), ("b", 1), ("a",), (1, "a"), ("a", 1, 0)]
    assert len({tree.integer(*n) for n in names}) == len(names)
    assert SeedTree(6).integer("a", 1) != tree.integer("a", 1)
    assert all(0 <= s < 2**31 for s in tree.integers(100, "x"))


def test_a_hanging_loop_ends_within_the_grace_time(tmp_path: Path) -> None:
    """Guards grace_seconds: a process that never looks at the request exits 75 by itself."""
    script = textwrap.dedent(
        """
        import sys, time
        from amago.interrupts import StopRequest
        with StopRequest(grace_seconds=0.5):
            print("ready", flush=True)
            while True:
                time.sleep(0.05)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 75


@pytest.mark.parametrize(("moment", "code"), [("before", 75), ("after", 0)])
def test_the_grace_time_runs_only_while_there_is_a_loop_to_stop(moment: str, code: int) -> None:
    """A request that comes as training ends must not end the process later, in the middle of what follows."""
    script = textwrap.dedent(
        f"""
        import time
        from amago.interrupts import StopRequest
        stop = StopRequest(grace_seconds=0.1)
        if {moment!r} == "before":
            stop.ask()
        with stop:
            assert stop.wanted == ({moment!r} == "before")
            time.sleep(0.5 if stop.wanted else 0.0)
        stop.ask()
        time.sleep(0.5)
        """
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == code


def test_progress_is_cut_back_to_the_checkpoint(tmp_path: Path) -> None:
    """Guards progress.csv: rows of epochs that come again, and a torn last row, are gone."""
    tracker = Tracker(tmp_path)
    for epoch in range(5):
        tracker.epoch_row({"epoch": epoch, "loss": 0.1 + epoch, "val_return": math.nan})
        tracker.log("train", {"x": float(epoch)}, {"Epoch": epoch, "gradient_steps": 10 * epoch})
    assert tracker.progress_file is not None
    with open(tracker.progress_file, "a") as handle:
        handle.write("5,12")
    tracker.cut_back(3, 25)
    rows = list(csv.DictReader(tracker.progress_file.open()))
    assert [r["epoch"] for r in rows] == ["0", "1", "2"]
    assert (
        rows[2]["loss"] == repr(2.1) and rows[2]["val_return"] == "" and set(rows[0]) == set(PROGRESS_COLUMNS)
    )
    kept = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [r["Epoch"] for r in kept] == [0, 1, 2]


def test_a_broken_wandb_never_stops_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards tracking: wandb that cannot start is one warning; the local files go on."""
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.warns(UserWarning, match="local files"):
        tracker = Tracker(tmp_path, {"project": "x"})
    tracker.log("train", {"x": 1.0}, {"Epoch": 0})
    assert (tmp_path / "metrics.jsonl").exists()


def test_nan_in_the_loss_stops_with_the_weights_untouched(tmp_path: Path) -> None:
    """Guards divergence: the error is clear, and neither weights nor checkpoints are touched."""
    configure()
    run = experiment(tmp_path, epochs=4, ckpt_interval=1)
    inner = run.train_step
    before: dict[str, torch.Tensor] = {}

    def poisoned(batch: Any, log_step: bool) -> Any:
        if run.gradient_steps == 9:
            before.update({k: v.clone() for k, v in run.policy.named_parameters()})
            batch.rews[0, 0] = math.nan
        return inner(batch, log_step)

    run.train_step = poisoned  # type: ignore[method-assign]
    with pytest.raises(TrainingDiverged, match="gradient step 10"):
        run.learn()
    assert before and all(torch.equal(before[k], v) for k, v in run.policy.named_parameters())
    newest = run.store.newest()
    assert newest is not None and newest.position.epoch == 2


def test_learning_rate_warms_up_linearly(tmp_path: Path) -> None:
    """Guards the schedule: (step + 1) / warmup of the rate, then constant; batches, not steps, are counted in."""
    configure()
    run = experiment(tmp_path, lr_warmup_steps=4, learning_rate=0.1)
    (rate,) = run.updater.rates
    assert [round(rate * run.updater.warmth(i), 3) for i in range(6)] == [0.025, 0.05, 0.075, 0.1, 0.1, 0.1]


def test_targets_move_after_the_optimiser(tmp_path: Path) -> None:
    """Guards Polyak's order: the target moves towards the weights that this very step produced."""
    configure(**{"Agent.tau": 0.25})
    run = experiment(tmp_path, epochs=1, train_batches_per_epoch=1)
    name = "net.output_layer.weight"
    old = dict(run.policy.target_critics.named_parameters())[name].clone()
    run.learn()
    new = dict(run.policy.critics.named_parameters())[name]
    target = dict(run.policy.target_critics.named_parameters())[name]
    assert not torch.equal(old, new)
    torch.testing.assert_close(target, old + 0.25 * (new - old))


def test_metrics_have_the_names_that_users_plot() -> None:
    """Guards the contract's metric names and what they average over."""
    episodes = [
        Episode(0, 0, "maze", 1.0, 5, {"success": 1.0}),
        Episode(1, 0, "maze", 3.0, 5, {"success": 0.0}),
        Episode(2, 0, "lake", 10.0, 5),
    ]
    found = summarise(*histories(episodes))
    assert found["Average Total Return in maze"] == 2.0
    assert found["Average Total Return (Across All Env Names)"] == 6.0
    assert found["Bottom Quintile Total Return in maze"] == pytest.approx(1.4)
    assert found["Average success in maze"] == 0.5
    assert "Average success in lake" not in found
    rows = episode_rows(episodes)
    assert rows[0] == {"actor": 0, "episode": 0, "task": "maze", "return": 1.0, "length": 5, "success": 1.0}
    assert math.isnan(rows[2]["success"])


def test_evaluation_counts_the_same_number_of_episodes_of_every_actor(tmp_path: Path) -> None:
    """Guards evaluate_test: whole episodes, fixed and balanced tasks, the same twice, whatever was done between."""
    configure()
    run = experiment(tmp_path, epochs=1)
    first = run.evaluate_test(run.make_val_env, episodes_per_actor=3, seed=1, greedy=True).episodes
    assert [(r["actor"], r["episode"]) for r in first] == [(a, e) for a in range(4) for e in range(3)]
    run.evaluate_test(run.make_val_env, timesteps=9, seed=2)
    again = run.evaluate_test(run.make_val_env, episodes_per_actor=3, seed=1, greedy=True).episodes
    assert repr(first) == repr(again)
    assert len(run.evaluate_test(run.make_val_env, episodes=6, seed=1).episodes) == 8


def test_policy_files_round_trip_and_foreign_ones_are_refused(tmp_path: Path) -> None:
    """Guards policy.safetensors: the same actions come back; pickles and other architectures are refused."""
    configure()
    run = experiment(tmp_path / "a", epochs=1)
    run.learn()
    run.save_policy(tmp_path / "policy.safetensors")
    other = experiment(tmp_path / "b", seed=99)
    other.load_policy(tmp_path / "policy.safetensors")
    for key, value in run.policy.state_dict().items():
        assert torch.equal(value, other.policy.state_dict()[key])
    (tmp_path / "bad.pt").write_bytes(b"\x80\x04cos\nsystem\nX\x04\x00\x00\x00echo\x85R.")
    for name in ("bad.pt", "absent.safetensors"):
        with pytest.raises(CheckpointError, match=name):
            other.load_policy(tmp_path / name)
    wider = experiment(tmp_path / "c", arch="ff")
    with pytest.raises(CheckpointError, match="architecture"):
        wider.load_policy(tmp_path / "policy.safetensors")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("batch_size", 0),
        ("epochs", -1),
        ("learning_rate", 0.0),
        ("env_mode", "parallel"),
        ("padded_sampling", "middle"),
        ("resume", "yes"),
        ("mixed_precision", "fp16"),
        ("traj_save_len", 3),
        ("save_trajs_as", "traj"),
        ("seed", -1),
        ("batches_per_update", 3),
        ("force_reset_train_envs_every", 0),
        ("batch_size", 4.0),
        ("epochs", None),
        ("learning_rate", "1e-3"),
        ("agent_type", "agent"),
        ("dataset", None),
        ("make_train_env", 3),
        ("compile", "wrong"),
        ("async_env_mp_context", "spoon"),
    ],
)
def test_impossible_settings_are_named_before_anything_starts(
    tmp_path: Path, setting: str, value: Any
) -> None:
    """Guards bad input: one line with the setting's name; no run folder is made."""
    configure()
    with pytest.raises(ConfigurationError, match=setting):
        experiment(tmp_path, **{setting: value})
    assert not (tmp_path / "run").exists()
