"""Losses that are no numbers, a metrics server that does not answer, two processes on one cell."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from amago.errors import TrainingDiverged
from tests.faults.conftest import Desk
from tests.unit.core.small_run import assert_same, configure, experiment


def test_a_loss_that_is_no_number(tmp_path: Path) -> None:
    """Guards NaN: the error names step, loss and the way out; weights and checkpoint are those before it."""
    configure()
    run = experiment(tmp_path)
    steps = 0
    inner = run.updater._loss

    def poisoned(batch: Any, log_step: bool) -> torch.Tensor:
        nonlocal steps
        steps += 1
        return inner(batch, log_step) * (float("nan") if steps == 11 else 1.0)

    run.updater._loss = poisoned
    with pytest.raises(TrainingDiverged, match=r"not finite at gradient step 11 .*learning_rate"):
        run.learn()
    assert all(torch.isfinite(p).all() for p in run.policy.parameters())
    again = experiment(tmp_path)
    assert again.epoch == 2
    again.learn()


@pytest.mark.slow
def test_a_cell_that_diverges_is_counted_and_flagged(desk: Desk, tmp_path: Path) -> None:
    """Guards honest tables: a diverged run stays in them, with its last policy, and says so."""
    desk.write(
        more="Experiment.learning_rate = 1e30\nExperiment.lr_warmup_steps = 0\nExperiment.grad_clip = 1e30\n"
    )
    cell = desk.cell(tmp_path / "results")
    done = desk.type("train", str(cell))
    assert done.returncode in (0, 1), done.stdout
    assert "not finite" in done.stdout
    if done.returncode == 0:
        assert "not finite" in json.loads((cell / "provenance.json").read_text())["diverged"]


STAND_IN = """
import urllib.request
class Run:
    def log(self, row): urllib.request.urlopen("http://127.0.0.1:%d/", timeout=1)
    def finish(self, quiet=True): raise ConnectionError("still no answer")
def init(**settings):
    if %r == "init": urllib.request.urlopen("http://127.0.0.1:%d/", timeout=1)
    return Run()
"""


@pytest.mark.parametrize("moment", ["init", "log"])
def test_an_unreachable_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """Guards metrics: a server that refuses is reported once, local files go on, the bits are the same."""
    configure()
    whole = experiment(tmp_path / "whole")
    whole.learn()
    with socket.socket() as taken:  # bound and not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        (tmp_path / "lib").mkdir()
        (tmp_path / "lib" / "wandb.py").write_text(STAND_IN % (port, moment, port))
        monkeypatch.syspath_prepend(tmp_path / "lib")
        monkeypatch.delitem(sys.modules, "wandb", raising=False)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            run = experiment(tmp_path / "run", log_to_wandb=True)
            run.learn()
            run.close()
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    about = [str(w.message) for w in said if "wandb" in str(w.message)]
    assert len(about) == 1, about
    assert "local files" in about[0]
    again = experiment(tmp_path / "run")
    assert_same(whole, again)


@pytest.mark.slow
def test_three_processes_on_one_cell(desk: Desk, tmp_path: Path) -> None:
    """Guards the lock with real processes: one trains, the others wait and find it done; nothing is written twice."""
    desk.write(epochs=8)
    cell = desk.cell(tmp_path / "results")
    started = [
        subprocess.Popen(desk.command("train", str(cell)), cwd=desk.folder, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = [process.communicate(timeout=200)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0]
    assert sum("trained for 8 epochs" in text and "already" not in text for text in said) == 1
    assert sum("already trained" in text for text in said) == 2
    rows = (cell / "progress.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == [str(n) for n in range(8)]
    assert len((cell / "state" / "attempts.jsonl").read_text().splitlines()) == 2
