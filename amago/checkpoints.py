"""Checkpoints that are whole or not there.

A checkpoint is a folder. It is written beside its place, every file fsynced, renamed, and its
sentinel, which holds the checksum of every file, is written last. A folder without a matching
sentinel is never loaded; the newest whole one is.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amago.errors import CheckpointError, StorageError
from amago.files import fsync_folder, make_folder, sha256, write_json

logger = logging.getLogger(__name__)

SENTINEL = "COMPLETE"
STATE = "state.json"
_NAME = re.compile(r"^epoch_(\d{8})_batch_(\d{8})$")


@dataclass(frozen=True, order=True)
class Position:
    """A moment of training: before batch ``batch`` of the learning phase of ``epoch``.

    ``batch`` 0 stands for the epoch's very beginning, before it collects.
    """

    epoch: int
    batch: int = 0

    @property
    def folder_name(self) -> str:
        return f"epoch_{self.epoch:08d}_batch_{self.batch:08d}"


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint on disk and its JSON state."""

    position: Position
    folder: Path
    state: dict[str, Any]


class CheckpointStore:
    """The checkpoints of one run.

    Args:
        folder: holds one folder for each checkpoint.
        keep_last: number of newest whole checkpoints that stay; ``None`` keeps all.
    """

    def __init__(self, folder: Path, keep_last: int | None = 2) -> None:
        self.folder = folder
        self.keep_last = keep_last

    def positions(self) -> list[Position]:
        """Positions that have a folder, whole or torn, oldest first."""
        if not self.folder.is_dir():
            return []
        found = [m for p in self.folder.iterdir() if (m := _NAME.match(p.name))]
        return sorted(Position(int(m[1]), int(m[2])) for m in found)

    def save(
        self, position: Position, state: dict[str, Any], writers: dict[str, Callable[[Path], None]]
    ) -> Path:
        """Write a checkpoint and prune old ones.

        Args:
            position: its moment.
            state: JSON values.
            writers: file name -> function that writes that file.

        Raises:
            CheckpointError: the disk is full or cannot be written; older checkpoints are intact.
        """
        target = self.folder / position.folder_name
        temporary = self.folder / f".{position.folder_name}.{os.getpid()}.tmp"
        try:
            make_folder(self.folder)
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            write_json(temporary / STATE, state, durable=False)
            for name, write in writers.items():
                write(temporary / name)
            sums = {}
            for path in sorted(temporary.iterdir()):
                sums[path.name] = sha256(path)
                with open(path, "rb") as handle:
                    os.fsync(handle.fileno())
            fsync_folder(temporary)
            shutil.rmtree(target, ignore_errors=True)  # only a torn one can be here
            os.rename(temporary, target)
            fsync_folder(self.folder)
            write_json(target / SENTINEL, {"files": sums})
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise CheckpointError(
                f"could not write checkpoint {target}: {error.strerror or error}; "
                "free some space or mend permissions and start again: earlier checkpoints are intact"
            ) from error
        return target

    def read(self, position: Position) -> Checkpoint:
        """One checkpoint, verified against its sentinel.

        Raises:
            CheckpointError: absent, torn or damaged; the message says which file.
            StorageError: it cannot be read, which says nothing about it.
        """
        folder = self.folder / position.folder_name
        try:
            sums = json.loads((folder / SENTINEL).read_text())["files"]
            if STATE not in sums:
                raise CheckpointError(f"{folder / SENTINEL}: damaged (it does not name {STATE})")
            for name, expected in sums.items():
                if Path(name).name != name or sha256(folder / name) != expected:
                    raise CheckpointError(f"{folder / name}: damaged (its checksum differs)")
            state = json.loads((folder / STATE).read_text())
            if not isinstance(state, dict):
                raise CheckpointError(f"{folder / STATE}: damaged (not a mapping)")
        except FileNotFoundError as error:
            raise CheckpointError(
                f"{folder}: not a whole checkpoint ({error.filename} is missing)"
            ) from error
        except OSError as error:
            if isinstance(error, (NotADirectoryError, IsADirectoryError)):
                raise CheckpointError(f"{folder}: damaged checkpoint ({error})") from error
            # It may be whole: what cannot be read for now must not be passed over, and removed.
            raise StorageError(
                f"{error.filename or folder}: {error.strerror or error}; mend that, or delete {folder} to go on from "
                "the checkpoint before it"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CheckpointError(f"{folder}: damaged checkpoint ({error})") from error
        return Checkpoint(position, folder, state)

    def newest(self, check: Callable[[Checkpoint], None] | None = None) -> Checkpoint | None:
        """The newest whole checkpoint; damaged ones are named in the log and passed over.

        Args:
            check: raises CheckpointError where what a checkpoint refers to is damaged.

        Raises:
            StorageError: one cannot be read.
        """
        for position in reversed(self.positions()):
            try:
                found = self.read(position)
                if check is not None:
                    check(found)
                return found
            except CheckpointError as error:
                logger.warning("%s; using the checkpoint before it", error)
        return None

    def prune(self) -> list[dict[str, Any]]:
        """Remove old and torn checkpoints; returns the states of those that stay."""
        kept: list[dict[str, Any]] = []
        for position in reversed(self.positions()):
            folder = self.folder / position.folder_name
            if (folder / SENTINEL).exists() and (self.keep_last is None or len(kept) < self.keep_last):
                try:
                    kept.append(json.loads((folder / STATE).read_text()))
                except (OSError, ValueError):
                    continue  # damaged by now; it names nothing that could be kept for it
            else:
                # The sentinel goes first: a half-removed folder must not look whole.
                (folder / SENTINEL).unlink(missing_ok=True)
                shutil.rmtree(folder, ignore_errors=True)
        for torn in self.folder.glob(".*.tmp"):
            shutil.rmtree(torn, ignore_errors=True)
        return kept

    def discard_after(self, position: Position) -> None:
        """Remove checkpoints newer than ``position``: damaged, or of a future that did not happen."""
        for later in self.positions():
            if later > position:
                folder = self.folder / later.folder_name
                (folder / SENTINEL).unlink(missing_ok=True)
                shutil.rmtree(folder, ignore_errors=True)
