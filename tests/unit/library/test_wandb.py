"""Tracking with the real wandb, offline: what it wrote is read back."""

from __future__ import annotations

import contextlib
import json
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gin
import pytest

pytest.importorskip("wandb")
from google.protobuf.message import DecodeError

from tests.unit.core.small_run import configure, experiment


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")


def records(path: Path) -> Iterator[Any]:
    """Records of a .wandb file: blocks of 32 KiB; each piece has a checksum, a length and a kind (7 bytes)."""
    from wandb.proto import wandb_internal_pb2

    data, at, piece = path.read_bytes(), 7, b""
    while at < len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        piece += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last piece of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(piece)
            piece = b""
            yield record


def finished(path: Path) -> list[Any]:
    """All records; wandb's own process writes the last of them when a run has ended already."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with contextlib.suppress(IndexError, DecodeError):
            found = list(records(path))
            if any(r.WhichOneof("record_type") == "exit" for r in found):
                return found
        time.sleep(0.1)
    raise AssertionError(f"{path} has no end")


def key(item: Any) -> str:
    return item.key or "/".join(item.nested_key)


def test_one_call_sends_settings_and_metrics(tmp_path: Path) -> None:
    """`log_to_wandb=True`: project, entity, group, the gin configuration under Config, the contract's names."""
    configure(**{"Agent.gamma": 0.97})
    run = experiment(
        tmp_path,
        epochs=2,
        val_interval=1,
        log_to_wandb=True,
        wandb_project="my-project",
        wandb_entity="my-team",
        wandb_group_name="my-group",
    )
    run.learn()
    run.close()
    (file,) = (tmp_path / "run/wandb_logs").rglob("*.wandb")
    config: dict[str, Any] = {}
    history: list[dict[str, Any]] = []
    for record in finished(file):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            assert (record.run.project, record.run.entity) == ("my-project", "my-team")
            assert (record.run.run_group, record.run.display_name) == ("my-group", "run")
            config |= {key(u): json.loads(u.value_json) for u in record.run.config.update}
        elif kind == "history":
            history.append({key(i): json.loads(i.value_json) for i in record.history.item})
    assert config["Agent.gamma"] == 0.97 and config["GRUTrajEncoder.d_hidden"] == 16
    assert config["seed"] == 7 and "Agent.gamma = 0.97" in config["gin"]
    validations = [row for row in history if "val/Average Total Return (Across All Env Names)" in row]
    assert [row["Epoch"] for row in validations] == [0, 1]
    for name in ("Average Total Return in ", "Bottom Quintile Total Return in ", "Average success in "):
        assert any(k.startswith(f"val/{name}") for k in validations[0]), name
    updates = [row for row in history if "train-update/Critic Loss" in row]
    assert updates and all({"total_frames", "gradient_steps", "Epoch"} <= row.keys() for row in history)
    assert updates[-1]["total_frames"] == 2 * 8 * 4


@pytest.mark.parametrize("where", ["init", "log", "finish"])
def test_a_wandb_that_breaks_never_stops_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """No network, a full disk, a server's error: one warning, and the run ends with all its local files."""

    class Broken(Exception):
        pass

    def breaks(*_: Any, **__: Any) -> None:
        raise Broken("no network")

    def works(*_: Any, **__: Any) -> None:
        return None

    broken = types.SimpleNamespace(
        log=breaks if where == "log" else works, finish=breaks if where == "finish" else works
    )
    module = types.ModuleType("wandb")
    module.init = breaks if where == "init" else lambda **_: broken  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    configure()
    with pytest.warns(UserWarning, match="no network") as warned:
        run = experiment(tmp_path, epochs=1, log_to_wandb=True)
        run.learn()
        run.close()
    assert len([w for w in warned if "wandb" in str(w.message)]) == 1
    assert run.gradient_steps == 4
    assert (tmp_path / "run/progress.csv").exists() and (tmp_path / "run/metrics.jsonl").exists()
    gin.clear_config()
