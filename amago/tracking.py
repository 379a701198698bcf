"""Metrics: every row goes to local files first, then to wandb where it is wanted.

``progress.csv`` has one row an epoch and is cut back when a run resumes from an earlier epoch, so
that it reads as if nothing had happened. ``metrics.jsonl`` has everything else, by the names that
AMAGO users plot. An absent or broken wandb is reported once and never stops a run.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import warnings
from pathlib import Path
from typing import Any

from amago.files import fsync_folder, write_text

#: Columns that a clock decides: the only ones that may differ between two equal runs.
CLOCK_COLUMNS = ("wall_seconds", "env_steps_per_second", "updates_per_second")

PROGRESS_COLUMNS = (
    "epoch",
    "env_steps",
    "gradient_steps",
    *CLOCK_COLUMNS,
    "loss",
    "actor_loss",
    "critic_loss",
    "grad_norm",
    "learning_rate",
    "trajectories",
    "train_episodes",
    "train_return",
    "train_success",
    "val_episodes",
    "val_return",
    "val_success",
)


_EPOCH = re.compile("[0-9]{1,15}")


def _moment(line: str) -> tuple[float, float] | None:
    """(epoch, gradient steps) of a line of ``metrics.jsonl``, or None where a crash left no whole one."""
    try:
        record = json.loads(line)
        epoch, steps = record.get("Epoch", 0), record.get("gradient_steps", 0)
    except (ValueError, AttributeError, RecursionError):
        return None
    numbers = isinstance(epoch, (int, float)) and isinstance(steps, (int, float))
    return (epoch, steps) if numbers else None


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return repr(value) if isinstance(value, float) else str(value)


class Tracker:
    """Writes metric rows.

    Args:
        folder: where the local files go; ``None`` writes none.
        wandb_settings: keyword arguments of ``wandb.init``; ``None`` leaves wandb alone.
    """

    def __init__(self, folder: Path | None, wandb_settings: dict[str, Any] | None = None) -> None:
        self.folder = folder
        self._wandb: Any = None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        if wandb_settings is not None:
            self._wandb = _start_wandb(wandb_settings)

    @property
    def progress_file(self) -> Path | None:
        return self.folder / "progress.csv" if self.folder is not None else None

    def epoch_row(self, row: dict[str, Any]) -> None:
        """Append one row to ``progress.csv``; columns that are absent stay empty."""
        if self.progress_file is None:
            return
        new = not self.progress_file.exists()
        with open(self.progress_file, "a", newline="") as handle:
            writer = csv.writer(handle, lineterminator="\n")
            if new:
                writer.writerow(PROGRESS_COLUMNS)
            writer.writerow([_cell(row.get(c)) for c in PROGRESS_COLUMNS])

    def cut_back(self, epoch: int, gradient_steps: int) -> None:
        """Forget rows of ``epoch`` and later: they come again, or never happened."""
        if self.folder is None:
            return
        if self.progress_file is not None and self.progress_file.exists():
            text = self.progress_file.read_text(errors="replace").replace("\0", "")
            whole = text[: text.rfind("\n") + 1]  # a killed writer may leave half a row
            try:
                rows = list(csv.reader(io.StringIO(whole)))
            except csv.Error:  # a field without an end
                rows = [line.split(",") for line in whole.splitlines()]
            kept = [r for r in rows[1:] if r and _EPOCH.fullmatch(r[0]) and int(r[0]) < epoch]
            out = io.StringIO()
            csv.writer(out, lineterminator="\n").writerows([list(PROGRESS_COLUMNS), *kept])
            write_text(self.progress_file, out.getvalue())
        log = self.folder / "metrics.jsonl"
        if log.exists():
            lines = []
            for line in log.read_text(errors="replace").split("\n"):
                at = _moment(line)
                if at is not None and (at[0] < epoch or (at[0] == epoch and at[1] <= gradient_steps)):
                    lines.append(line + "\n")
            write_text(log, "".join(lines))

    def make_durable(self) -> None:
        """A checkpoint is about to say that these rows are there: let them survive a power loss."""
        if self.folder is None:
            return
        for path in (self.folder / "progress.csv", self.folder / "metrics.jsonl"):
            if path.exists():
                with open(path, "rb") as handle:
                    os.fsync(handle.fileno())
        fsync_folder(self.folder)

    def log(self, section: str, metrics: dict[str, Any], counters: dict[str, int]) -> None:
        """Append one row of named metrics and send it to wandb.

        Args:
            section: ``train-update``, ``train``, ``val``, ``test`` or ``buffer``.
            metrics: name -> number.
            counters: ``Epoch``, ``gradient_steps`` and ``total_frames`` at this moment.
        """
        numbers = {k: v for k, v in metrics.items() if isinstance(v, (int, float))}
        if self.folder is not None:
            clean = {k: (v if math.isfinite(v) else None) for k, v in numbers.items()}
            with open(self.folder / "metrics.jsonl", "a") as handle:
                handle.write(json.dumps({"section": section, **counters, **clean}) + "\n")
        if self._wandb is not None:
            try:
                self._wandb.log({f"{section}/{k}": v for k, v in numbers.items()} | counters)
            except Exception as error:  # wandb raises many kinds, and none may end a run
                warnings.warn(f"wandb stopped: {error}; metrics go on to local files", stacklevel=2)
                self._wandb = None

    def close(self) -> None:
        """End the wandb run, if there is one."""
        if self._wandb is not None:
            try:
                self._wandb.finish()
            except Exception as error:
                warnings.warn(f"wandb did not finish: {error}", stacklevel=2)
            self._wandb = None


def _start_wandb(settings: dict[str, Any]) -> Any:
    try:
        import wandb

        return wandb.init(**settings)
    except Exception as error:
        warnings.warn(
            f"wandb is not available ({type(error).__name__}: {error}); metrics go to local files only. "
            "Install wandb and set WANDB_API_KEY, or WANDB_MODE=offline",
            stacklevel=2,
        )
        return None
