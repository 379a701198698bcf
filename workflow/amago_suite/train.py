"""`amago-suite train CELL_FOLDER`: one attempt at a run, from wherever the last one stopped."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from amago.errors import (
    AmagoError,
    ConfigurationError,
    TrainingDiverged,
    TrainingInterrupted,
    is_out_of_memory,
)
from amago.files import fsync_folder, said_of_storage
from amago_suite import gpus, records
from amago_suite.cell import Cell, read_cell
from amago_suite.engines import box
from amago_suite.exits import DONE, FAILED, RESUMABLE
from amago_suite.folders.files import read_record, write_json
from amago_suite.folders.freeing import begin_anew
from amago_suite.locks import RunLock, die_with_parent

if TYPE_CHECKING:
    from amago import Experiment

logger = logging.getLogger("amago_suite.train")

_PROGRESS_EVERY = 10.0  # seconds between two lines of progress in the log


def train(folder: Path, *, parent: int | None = None, log: str | None = None) -> int:
    """Train the cell in ``folder`` to its budget.

    Args:
        folder: with a ``cell.yaml``.
        parent: process to die with; given for a job of a workflow. A job also leaves a cell alone
            that already failed for good, where a person's own call tries it again.
        log: where the output goes, for the record.

    Returns:
        Exit code: 0 done, 1 failed for good, 75 interrupted and resumable.

    Raises:
        ConfigurationError: not a cell, or its state belongs to another configuration.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    # In a box, the parent is outside, and the box's first process watches for it.
    if parent is not None and box.current() is None and not die_with_parent(signal.SIGTERM, parent):
        return RESUMABLE
    cell = read_cell(folder)
    with cell_lock(cell):
        return _Attempt(cell, parent, log).run()


def _interrupt(number: int, frame: FrameType | None) -> None:
    """SIGTERM outside of the training loop, which has its own handler."""
    raise TrainingInterrupted("stopped before training began")


def _lose_lock() -> None:
    """Another process took the cell over (this one was frozen for long): leave at once."""
    logger.error("another process took over this cell; leaving it to that one")
    logging.shutdown()
    os._exit(RESUMABLE)


@contextlib.contextmanager
def cell_lock(cell: Cell) -> Iterator[None]:
    """Wait until no other process works on the cell, and keep others out."""
    lock = RunLock(cell.state / "lock", on_lost=_lose_lock)
    lock.acquire(lambda owner: print(f"waiting for {owner}, which works on this cell", flush=True))
    try:
        yield
    finally:
        lock.release()


class _QuietFileHandler(logging.FileHandler):
    """A log that a full disk cuts off without a page of complaints for every line."""

    def handleError(self, record: logging.LogRecord) -> None:
        return None

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()


class _Attempt:
    """What happens while the cell's lock is held."""

    def __init__(self, cell: Cell, parent: int | None, log: str | None) -> None:
        self.cell = cell
        self.parent = records.invocation(parent)
        self.log = log
        self.attempts = records.Attempts(cell)
        self.began = time.monotonic()
        self.last_line = 0.0
        self.experiment: Experiment | None = None

    def run(self) -> int:
        cell = self.cell
        if is_trained(cell):
            print(f"{cell.label}: already trained for {cell.budget_epochs} epochs", flush=True)
            return DONE
        self.check_identity()
        if self.gave_up():
            return FAILED
        if begin_anew(cell):
            print(f"{cell.label}: its checkpoints were freed; training from the start", flush=True)
        with gpus.use(cell.label, cell.resources["train"].gpus):
            return self.attempt()

    def attempt(self) -> int:
        """Train from where the last attempt stopped, and record how it went."""
        cell = self.cell
        epoch = epochs_done(cell)
        for folder in (cell.state, *cell.folder.absolute().parents[:-1][:4], cell.folder):
            fsync_folder(folder)  # new ones: a checkpoint in a folder that a power loss takes is none
        attempt = self.attempts.begin(self.log, epoch, self.parent)
        handler = self.start_log()
        reason, code = "failed", FAILED
        diverged: str | None = None
        try:
            diverged = self.train()
            self.finish(diverged)
            reason, code = "finished", DONE
        except KeyboardInterrupt as error:  # TrainingInterrupted is one
            reason, code = "interrupted", RESUMABLE
            logger.info("%s: %s", cell.label, str(error) or "interrupted; the same command continues it")
        except AmagoError as error:
            self.fail(str(error))
        except Exception as error:
            if is_out_of_memory(error):
                reason = records.OUT_OF_MEMORY
                self.fail(f"{records.OUT_OF_MEMORY}: {records.MORE_MEMORY} ({str(error).strip()[:200]})")
            elif said := said_of_storage(error):
                self.fail(said)
            else:
                logger.exception("%s: unexpected error", cell.label)
                self.fail(f"{type(error).__name__}: {error} (traceback in {cell.state / 'train.log'})")
        finally:
            # On a full disk the record fails too, and what made the run fail must stay to be seen.
            with contextlib.suppress(AmagoError):
                self.attempts.finish(attempt, reason, epoch_end=self.epoch(epoch), **self.measured())
            logging.getLogger().removeHandler(handler)
            handler.close()
        if code == DONE:
            self.write_provenance(diverged)
        return code

    def check_identity(self) -> None:
        """Refuse to continue the state of another configuration, and remember whose state it is."""
        path = self.cell.state / "identity.json"
        known = read_record(path)
        if known is not None and known.get("train_hash") != self.cell.train_hash:
            raise ConfigurationError(
                f"{self.cell.state} belongs to another configuration of this cell; `amago-suite run "
                f"{self.cell.suite}` moves it to results/.superseded/ and trains anew (or move it away yourself)"
            )
        if known is None:
            write_json(path, {"train_hash": self.cell.train_hash})

    def gave_up(self) -> bool:
        """Whether this cell failed for good, also by dying again and again without a word."""
        failure = records.read_failure(self.cell)
        if failure is not None and failure.get("stage") == "train":
            if self.parent is not None:
                print(f"error: {self.cell.label}: failed before: {failure['error']}", file=sys.stderr)
                return True
            records.clear_failure(self.cell)
        if self.parent is not None:
            epoch = epochs_done(self.cell)
            if records.died_silently(self.attempts.read(), epoch, self.parent):
                self.fail(
                    f"killed {records.SILENT_DEATHS} times at epoch {epoch} without a word (out of memory?)"
                )
                return True
        return False

    def start_log(self) -> logging.Handler:
        """Log to state/train.log, which outlives the job's own log, and to the output."""
        handler = _QuietFileHandler(self.cell.state / "train.log")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        root = logging.getLogger()
        root.setLevel(logging.INFO)
        root.addHandler(handler)
        if not any(isinstance(h, logging.StreamHandler) and h.stream is sys.stdout for h in root.handlers):
            output = logging.StreamHandler(sys.stdout)
            output.setFormatter(logging.Formatter("%(message)s"))
            root.addHandler(output)
        return handler

    def train(self) -> str | None:
        """Train to the budget. Returns why the run diverged, if it did."""
        from amago_suite.build import RUN_NAME, apply_gin, build_experiment, provide_data
        from amago_suite.process import prepare_process

        cell = self.cell
        prepare_process(cell)
        apply_gin(cell)
        provide_data(cell, cell.state)
        self.experiment = experiment = build_experiment(
            cell, state=cell.state, log_dir=cell.folder, resume="auto", on_epoch_end=self.say
        )
        experiment.start()
        shutil.copyfile(cell.state / RUN_NAME / "config.txt", cell.config)
        if experiment.epoch > cell.budget_epochs:
            raise ConfigurationError(too_small(cell, experiment.epoch))
        if experiment.epoch:
            logger.info("%s: going on at epoch %d of %d", cell.label, experiment.epoch, cell.budget_epochs)
        try:
            experiment.learn()
        except TrainingDiverged as error:
            latest = cell.state / RUN_NAME / "ckpts" / "latest" / "policy.safetensors"
            if not latest.is_file():
                raise
            logger.warning("%s: diverged; its last policy counts as its result: %s", cell.label, error)
            experiment.load_policy(latest)
            return str(error)
        return None

    def finish(self, diverged: str | None) -> None:
        assert self.experiment is not None
        self.experiment.save_policy(self.cell.policy)
        self.experiment.close()
        logger.info("%s: trained for %d epochs", self.cell.label, self.experiment.epoch)

    def write_provenance(self, diverged: str | None) -> None:
        """The last thing of a finished run: whoever finds it finds a whole policy too."""
        from amago_suite import provenance

        assert self.experiment is not None
        cell, experiment = self.cell, self.experiment
        attempts = self.attempts.read()
        parameters = sum(p.numel() for p in experiment.policy.trainable_params)
        write_json(
            cell.provenance,
            {
                "suite": cell.suite,
                "environment": cell.environment,
                "architecture": cell.architecture,
                "seed": cell.seed,
                "train_hash": cell.train_hash,
                "budget": {"epochs": cell.budget_epochs},
                "epochs": experiment.epoch,
                "env_steps": experiment.env_steps,
                "gradient_steps": experiment.gradient_steps,
                "parameters": parameters,
                "diverged": diverged,
                **({"imports": list(cell.imports)} if cell.imports else {}),
                "policy_sha256": provenance.digest(cell.policy),
                "progress_sha256": provenance.digest(cell.progress),
                "metrics_sha256": provenance.digest(cell.metrics),
                "config_sha256": provenance.digest(cell.config),
                **provenance.software(),
                "hardware": provenance.hardware(),
                "image_ids": sorted({attempt.image_id for attempt in attempts if attempt.image_id}),
                "hosts": sorted({attempt.host for attempt in attempts}),
                "attempts": len(attempts),
                "wall_seconds": round(sum(attempt.seconds or 0.0 for attempt in attempts), 3),
                "gpu_seconds": round(sum(attempt.gpu_seconds or 0.0 for attempt in attempts), 3),
                "cpu_seconds": round(sum(attempt.cpu_seconds or 0.0 for attempt in attempts), 3),
                "peak_memory_mb": _largest(attempt.peak_memory_mb for attempt in attempts),
                "peak_gpu_memory_mb": _largest(attempt.peak_gpu_memory_mb for attempt in attempts),
                "finished": records.utc_now(),
            },
        )

    def fail(self, error: str) -> None:
        """Record a failure for good and say so in one line."""
        logger.error("error: %s: %s", self.cell.label, records.one_line(error))
        with contextlib.suppress(AmagoError):
            records.write_failure(self.cell, error, "train", self.cell.state / "train.log")

    def epoch(self, otherwise: int) -> int:
        return self.experiment.epoch if self.experiment is not None else otherwise

    def measured(self) -> dict[str, float | None]:
        """What this attempt cost."""
        from amago_suite import provenance

        seconds = round(time.monotonic() - self.began, 3)
        gpu_memory = provenance.peak_gpu_memory_mb() if "torch" in sys.modules else None
        return {
            "seconds": seconds,
            "gpu_seconds": seconds if gpu_memory is not None else 0.0,
            "cpu_seconds": provenance.cpu_seconds(),
            "peak_memory_mb": provenance.peak_memory_mb(),
            "peak_gpu_memory_mb": gpu_memory,
        }

    def say(self, row: dict[str, Any]) -> None:
        """A line of progress, not too often."""
        now = time.monotonic()
        done = row["epoch"] + 1
        if now - self.last_line < _PROGRESS_EVERY and done < self.cell.budget_epochs:
            return
        self.last_line = now
        value = row.get("train_return")
        shown = f", return {value:.3g}" if value is not None else ""
        speed = row["env_steps_per_second"]
        logger.info(
            "%s: epoch %d of %d%s, %s steps/s", self.cell.label, done, self.cell.budget_epochs, shown, speed
        )


def is_trained(cell: Cell) -> bool:
    """Whether the final policy of this very configuration and budget is there."""
    record = read_record(cell.provenance)
    return (
        record is not None
        and cell.policy.is_file()
        and record.get("train_hash") == cell.train_hash
        and record.get("budget") == {"epochs": cell.budget_epochs}
    )


def epochs_done(cell: Cell) -> int:
    """Epochs in progress.csv (some may be done again after a crash)."""
    from amago_suite.folders.progress import last_row

    row = last_row(cell.progress)
    return int(row["epoch"]) + 1 if row else 0


def too_small(cell: Cell, epochs: int) -> str:
    """What to say when a budget shrank below what is already trained."""
    return (
        f"{cell.label} is already trained for {epochs} epochs, and its budget is now {cell.budget_epochs}; "
        f"a budget can only grow: set budget.epochs to {epochs} or more, or move {cell.folder} away"
    )


def _largest(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return max(known) if known else None
