"""What became of a training whose job ended without success, from what the cell's folder remembers."""

from __future__ import annotations

import enum

from amago_suite.cell import Cell
from amago_suite.records import Attempts, read_failure, write_failure
from amago_suite.train import epochs_done

#: Interruptions in a row after which a run that finishes no epoch between them is given up.
FRUITLESS = 10


class Outcome(enum.Enum):
    """What a further job could do."""

    FAILED = "failed for good"
    RESUMABLE = "interrupted, or killed after it had got further"
    NOTHING = "nothing was trained"


def after_training(cell: Cell, job: str) -> Outcome:
    """How the training of ``cell`` by the SLURM job ``job`` ended.

    A run that is interrupted again and again before it finishes an epoch is marked as failed here:
    its jobs are too short, and no number of them would help.
    """
    failure = read_failure(cell)
    if failure is not None and failure.get("stage") == "train":
        return Outcome.FAILED
    attempts = Attempts(cell).read()
    if not attempts or attempts[-1].job != job:
        return Outcome.NOTHING
    last = attempts[-1]
    if last.reason != "interrupted":
        further = last.epoch_start is not None and epochs_done(cell) > last.epoch_start
        return Outcome.RESUMABLE if further else Outcome.NOTHING
    recent = attempts[-FRUITLESS:]
    if len(recent) == FRUITLESS and all(
        a.reason == "interrupted" and a.epoch_start == a.epoch_end == last.epoch_end for a in recent
    ):
        write_failure(
            cell,
            f"interrupted {FRUITLESS} times in a row before it finished epoch {last.epoch_end}: "
            "give its jobs more time (resources.train.runtime) or make the epochs shorter",
            "train",
            cell.state / "train.log",
        )
        return Outcome.FAILED
    return Outcome.RESUMABLE
