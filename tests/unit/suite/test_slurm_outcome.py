"""What a SLURM job that ended without success means: go on, count it as a failure, or give the cell up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from amago_suite.cell import Cell
from amago_suite.grid import plan
from amago_suite.records import read_failure, write_failure
from amago_suite.slurm.outcome import FRUITLESS, Outcome, after_training

SUITE = """
environments: [tmaze-passive]
architectures: [ff]
seeds: [0]
budget: { epochs: 9 }
"""


@pytest.fixture
def cell(tmp_path: Path) -> Cell:
    """A cell that nobody has trained yet."""
    (tmp_path / "tiny.yaml").write_text(SUITE)
    (only,) = plan(str(tmp_path / "tiny.yaml"), results=tmp_path / "results")
    only.state.mkdir(parents=True)
    return only


def remember(cell: Cell, *attempts: tuple[str | None, int, int | None], job: str = "7") -> None:
    """Attempts, each with its reason, its first epoch and the one it got to."""
    lines = [
        {
            **{"attempt": number, "start": "2026-01-01T00:00:00Z", "host": "n1", "pid": 1, "job": job},
            **{"log": None, "epoch_start": first, "end": None if reason is None else "2026-01-01T00:01:00Z"},
            **{"reason": reason, "epoch_end": last},
        }
        for number, (reason, first, last) in enumerate(attempts, 1)
    ]
    path = cell.state / "attempts.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_job_that_never_trained(cell: Cell) -> None:
    """A broken node or set-up: it counts as a failed job, or it would be submitted for ever."""
    assert after_training(cell, "7") is Outcome.NOTHING
    remember(cell, ("interrupted", 0, 3), job="6")
    assert after_training(cell, "7") is Outcome.NOTHING


def test_an_interruption_uses_no_retry_up(cell: Cell) -> None:
    """However often it happens, as long as epochs are finished between."""
    remember(cell, *(("interrupted", n, n + 1) for n in range(50)))
    assert after_training(cell, "7") is Outcome.RESUMABLE
    remember(cell, *[("interrupted", 2, 2)] * (FRUITLESS - 1))
    assert after_training(cell, "7") is Outcome.RESUMABLE


def test_interruptions_that_lead_nowhere(cell: Cell) -> None:
    """Jobs shorter than an epoch would go on for ever: the cell is given up, with the way out."""
    remember(cell, ("interrupted", 0, 2), *[("interrupted", 2, 2)] * FRUITLESS)
    assert after_training(cell, "7") is Outcome.FAILED
    failure = read_failure(cell)
    assert failure is not None
    assert "resources.train.runtime" in failure["error"]


def test_a_kill(cell: Cell) -> None:
    """Without a word: a failure, unless it had got further, as on a node that was lost after hours."""
    remember(cell, (None, 0, None))
    assert after_training(cell, "7") is Outcome.NOTHING
    cell.progress.write_text("epoch,env_steps\n0,8\n1,16\n")
    assert after_training(cell, "7") is Outcome.RESUMABLE
    remember(cell, (None, 2, None))
    assert after_training(cell, "7") is Outcome.NOTHING


def test_a_failure_for_good(cell: Cell) -> None:
    """What the trainer recorded as final is not tried again; a failed evaluation says nothing of training."""
    remember(cell, ("failed", 0, 0))
    write_failure(cell, "learning rate", "evaluate", None)
    assert after_training(cell, "7") is Outcome.NOTHING
    write_failure(cell, "learning rate", "train", None)
    assert after_training(cell, "7") is Outcome.FAILED
