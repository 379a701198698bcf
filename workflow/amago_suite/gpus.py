"""GPU slots: which cell uses which GPU of this machine, so that none share one by accident.

Who holds what stands in one small table, changed only under a file lock. An entry names its process;
what a dead one left is free again, however it died. A cell may take several GPUs, or a part of one:
small models leave a GPU idle, and three of them side by side finish sooner than one after another.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from amago.errors import AmagoError, ConfigurationError, TrainingInterrupted
from amago_suite.folders.files import read_record, write_json
from amago_suite.locks import Owner

#: GPUs of a cell: 1, 2, 0.5 ...
SHARE_VARIABLE = "AMAGO_GPUS_PER_CELL"
#: Tells a process that whoever started it holds a slot for it: the devices, with commas.
SLOT_VARIABLE = "AMAGO_GPU_SLOT"
#: Folder of the table, where it is not in the system's folder for temporary files.
FOLDER_VARIABLE = "AMAGO_GPU_LOCKS"
_DEVICES = "CUDA_VISIBLE_DEVICES"
_ROUNDING = 1e-6  # three thirds fit

Say = Callable[[str], None]


def _print(line: str) -> None:
    """A line of a job's log that is seen at once."""
    print(line, flush=True)


@dataclass(frozen=True, slots=True)
class Slot:
    """What one cell may use."""

    devices: tuple[str, ...]  #: UUIDs or numbers, as CUDA takes them; none on a machine without GPUs

    @property
    def environment(self) -> dict[str, str]:
        """For the process that uses it, before it starts CUDA."""
        names = ",".join(self.devices)
        return {_DEVICES: names, SLOT_VARIABLE: names} if self.devices else {}


def share(gpus: int = 0) -> float:
    """GPUs that one cell takes: what is set for this run, else what its resources ask for, else one.

    Args:
        gpus: of the cell's resources.

    Raises:
        ConfigurationError: neither a whole number nor a part of one.
    """
    text = os.environ.get(SHARE_VARIABLE, "").strip()
    if not text:
        return float(max(gpus, 1))
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not (0.01 <= value <= 1 or (value.is_integer() and 1 <= value <= 64)):
        raise ConfigurationError(
            f"gpus_per_cell is {text!r}: a whole number of GPUs (1, 2 ...), or a part of one from 0.01 up (0.5, 0.25 ...)"
        )
    return value


def set_share(gpus_per_cell: float | None) -> None:
    """Set what `share` gives for this process and those that it starts; None leaves it as it is.

    Raises:
        ConfigurationError: neither a whole number nor a part of one.
    """
    if gpus_per_cell is not None:
        os.environ[SHARE_VARIABLE] = str(gpus_per_cell)
        share()


def devices() -> list[str]:
    """GPUs that this process may use: those of CUDA_VISIBLE_DEVICES, else all that the driver names."""
    visible = os.environ.get(_DEVICES)
    if visible is None:
        return list(_machine_devices())
    names: list[str] = []
    for name in (part.strip() for part in visible.split(",")):
        if not name or name == "-1":
            break  # as CUDA does: nothing counts after the first that is none
        names.append(name)
    return list(dict.fromkeys(names))


@contextlib.contextmanager
def take(
    label: str,
    gpus: int = 0,
    say: Say = _print,
    poll: float = 1.0,
    folder: Path | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Slot]:
    """Wait for a free slot, and hold it.

    Args:
        label: of the cell, for whoever waits for it.
        gpus: that its resources ask for; `share` says what counts.
        say: told once when there is nothing free.
        poll: seconds between two looks.
        folder: of the table.
        stopped: whether there is no more use in waiting; for who only notes signals.

    Raises:
        ConfigurationError: the machine has fewer GPUs than a cell takes.
        TrainingInterrupted: stopped before it was its turn.
    """
    held = os.environ.get(SLOT_VARIABLE)
    if held is not None:
        yield Slot(tuple(held.split(",")) if held else ())
        return
    amount = share(gpus)
    known = devices()
    if not known:
        yield Slot(())
        return
    if amount > len(known):
        raise ConfigurationError(
            f"{label}: a cell takes {amount:g} GPUs (gpus_per_cell) and there are {len(known)} here ({', '.join(known)})"
        )
    table = _Table(folder or default_folder())
    waited = False
    while (slot := table.try_take(label, known, amount)) is None:
        if not waited:
            waited = True
            say(f"{label}: waiting for a free GPU ({', '.join(table.holders())})")
        if stopped():
            raise TrainingInterrupted("stopped while it waited for a GPU")
        time.sleep(poll)
    try:
        yield slot
    finally:
        table.give_back()


@contextlib.contextmanager
def use(label: str, gpus: int = 0, say: Say = _print) -> Iterator[Slot]:
    """`take`, for this very process: call it before CUDA starts."""
    with take(label, gpus, say) as slot:
        before = {name: os.environ.get(name) for name in slot.environment}
        os.environ.update(slot.environment)
        try:
            yield slot
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def default_folder() -> Path:
    """Where the table is: one for a user and machine, or for a scheduler's job, whose GPUs are its own."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named)
    job = os.environ.get("SLURM_JOB_ID")
    return Path(tempfile.gettempdir(), f"amago-suite-{os.getuid()}", f"gpus-{job}" if job else "gpus")


class _Table:
    """The entries ``{devices, amount, label, owner}`` of all processes that hold something."""

    def __init__(self, folder: Path) -> None:
        from filelock import FileLock

        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.lock = FileLock(folder / "lock")
            with self.lock:
                pass
        except OSError as error:
            raise AmagoError(
                f"cannot use {folder} for GPU slots: {error.strerror or error} ({FOLDER_VARIABLE} names another folder)"
            ) from error
        self.path = folder / "slots.json"
        self.owner = Owner.this(os.urandom(8).hex())

    def try_take(self, label: str, known: list[str], amount: float) -> Slot | None:
        """A slot on the devices with the most room, or None where there is not enough."""
        with self.lock:
            entries = self._entries()
            used = {name: 0.0 for name in known}
            for entry in entries:
                for name in entry["devices"]:
                    if name in used:
                        used[name] += entry["amount"]
            each = min(amount, 1.0)
            free = [name for name in known if used[name] + each <= 1.0 + _ROUNDING]
            count = max(round(amount), 1)
            if len(free) < count:
                return None
            chosen = sorted(free, key=lambda name: (used[name], known.index(name)))[:count]
            mine = {"devices": chosen, "amount": each, "label": label, "owner": asdict(self.owner)}
            self._write([*entries, mine])
            return Slot(tuple(chosen))

    def give_back(self) -> None:
        """Remove this process's entry."""
        with self.lock:
            self._write([entry for entry in self._entries() if Owner(**entry["owner"]) != self.owner])

    def holders(self) -> list[str]:
        """Who holds which device, for a message."""
        with self.lock:
            return [f"{'+'.join(e['devices'])}: {e['label']}" for e in self._entries()]

    def _entries(self) -> list[dict[str, Any]]:
        """Entries of living processes; a damaged table is an empty one."""
        found = (read_record(self.path) or {}).get("slots")
        return [entry for entry in found if _holds(entry)] if isinstance(found, list) else []

    def _write(self, entries: list[dict[str, Any]]) -> None:
        write_json(self.path, {"slots": entries}, durable=False)


def _holds(entry: Any) -> bool:
    """Whether an entry is whole and its process lives."""
    try:
        owner = Owner(**entry["owner"])
        whole = isinstance(entry["label"], str) and all(isinstance(name, str) for name in entry["devices"])
        return whole and isinstance(entry["amount"], float) and owner.here and owner.running
    except (KeyError, TypeError, ValueError):
        return False


@cache
def _machine_devices() -> tuple[str, ...]:
    """UUIDs of the machine's GPUs, from the driver's own tool."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    try:
        done = subprocess.run([program, "-L"], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(parse_list(done.stdout)) if done.returncode == 0 else ()


def parse_list(text: str) -> list[str]:
    """UUIDs in the output of ``nvidia-smi -L``; of a partitioned GPU, those of its parts."""
    names: list[str] = []
    whole: str | None = None
    for line in text.splitlines():
        match = re.search(r"\(UUID: ([\w/-]+)\)", line)
        if match is None:
            continue
        if line.startswith("GPU"):
            whole = match[1]
        elif whole is not None and names and names[-1] == whole:
            names.pop()
        names.append(match[1])
    return names


__all__ = ["Slot", "default_folder", "devices", "parse_list", "share", "take", "use"]
