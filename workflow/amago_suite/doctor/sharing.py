"""Can processes and machines work in one folder: see each other's files, lock, and replace whole files?"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amago import TRAINING_VERSION
from amago.errors import AmagoError
from amago.files import write_atomic
from amago_suite.doctor.findings import Finding, note, ok, problem
from amago_suite.doctor.machine import LARGE_SKEW
from amago_suite.doctor.partner import PATIENCE, SIZE, wait_for
from amago_suite.locks import RunLock

#: Munge refuses what a machine signed whose clock is five minutes off.
LARGEST_SKEW = 240.0
#: Seconds for which the other reads a file that is being replaced.
LOOKED_AT = 0.5


@dataclass
class Meeting:
    """A folder in which this process meets others, one at a time."""

    folder: Path
    token: str = field(default_factory=lambda: secrets.token_hex(8))

    def command(self, name: str) -> list[str]:
        """What starts the other process."""
        return [sys.executable, "-m", "amago_suite.doctor.partner", str(self.folder), name]

    def examine(
        self, name: str, where: str, patience: float = PATIENCE
    ) -> tuple[list[Finding], dict[str, Any] | None]:
        """Meet the process that was started as ``name``.

        Args:
            name: of its files.
            where: it runs, for the findings.
            patience: seconds to wait for its first word.

        Returns:
            What was found, and what it said of itself (None where it was never seen).
        """
        began = time.monotonic()
        content = wait_for(self.folder / f"{name}.json", patience)
        if content is None:
            return [
                problem(
                    "sharing",
                    f"{where}: nothing that it writes to {self.folder.parent} is seen here",
                    "results must lie on a file system that all machines share, at the same path",
                )
            ], None
        said = json.loads(content)
        skew = said["time"] - time.time() + self._lag(name)
        found = []
        if said["token"] != self.token:
            found.append(
                problem(
                    "sharing",
                    f"{where} does not see what this machine writes to {self.folder.parent}",
                    "results must lie on a file system that all machines share, at the same path",
                )
            )
        with self._replacing():
            refused, lived = self._lock_is_kept(name)
            time.sleep(LOOKED_AT)
            write_atomic(self.folder / f"{name}.let-go", _write("now"), durable=False)
            done = wait_for(self.folder / f"{name}.done", PATIENCE)
        seconds = time.monotonic() - began
        torn = json.loads(done)["torn"] if done else None
        found += list(self._of_lock(where, refused, lived, done is not None))
        found += list(self._of_renames(where, torn))
        if not found:
            reads = torn["whole"] if torn else 0
            found.append(
                ok(
                    "sharing",
                    f"{where}: files are seen both ways, a lock is kept, {reads} reads of a file being replaced "
                    f"were whole ({seconds:.1f} s)",
                )
            )
        return [*found, *clocks(where, skew)], said

    def _lag(self, name: str) -> float:
        """Seconds since the other's word was written, by the file system's own clock."""
        probe = self.folder / f"{name}.clock"
        probe.touch()
        try:
            return probe.stat().st_mtime - (self.folder / f"{name}.json").stat().st_mtime
        except OSError:
            return 0.0

    def _lock_is_kept(self, name: str) -> tuple[str | None, bool]:
        """(why the other could not lock, whether its lock keeps us out)."""
        content = wait_for(self.folder / f"{name}.holds", PATIENCE)
        if content is None:
            return "it never answered", False
        refused = json.loads(content)["refused"]
        if refused is not None:
            return refused, False
        lock = RunLock(self.folder / "lock")
        try:
            owner = lock.try_acquire()
        except AmagoError as error:
            return str(error), False
        lock.release()
        return None, owner is not None

    def _of_lock(self, where: str, refused: str | None, lived: bool, answered: bool) -> Iterator[Finding]:
        way_out = "put the results on a file system with hard links: NFS, Lustre, ext4, xfs (not FAT, nor every FUSE)"
        if refused is not None:
            yield problem(
                "sharing", f"{where}: a lock cannot be taken in {self.folder.parent}: {refused}", way_out
            )
        elif not lived:
            yield problem("sharing", f"{where}: a lock held there does not keep others out", way_out)
        elif not answered:
            yield problem(
                "sharing",
                f"{where} saw nothing more after {PATIENCE:.0f} s",
                "look at the file system's caching settings",
            )
        elif (owner := self._try()) is not None:
            yield problem("sharing", f"{where}: a lock that was given back is still held by {owner}", way_out)

    def _try(self) -> str | None:
        lock = RunLock(self.folder / "lock")
        try:
            owner = lock.try_acquire()
        except AmagoError as error:
            return str(error)
        lock.release()
        return str(owner) if owner is not None else None

    def _of_renames(self, where: str, torn: dict[str, int] | None) -> Iterator[Finding]:
        if torn is not None and (torn["torn"] or torn["absent"]):
            yield problem(
                "sharing",
                f"{where}: a file that is replaced by renaming was absent {torn['absent']} and torn {torn['torn']} times "
                f"in {sum(torn.values())} reads",
                "renaming is not atomic on this file system: put the results on another",
            )

    @contextmanager
    def _replacing(self) -> Iterator[None]:
        """Replace a file as fast as the disk lets us, while the other reads it."""
        stop = threading.Event()
        changing = self.folder / "changing"

        def replace() -> None:
            number = 0
            while not stop.is_set():
                draft = changing.with_name("changing.new")
                draft.write_bytes(bytes([97 + number % 26]) * SIZE)
                draft.rename(changing)
                number += 1
                stop.wait(0.001)

        thread = threading.Thread(target=replace, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


@contextmanager
def meeting(results: Path) -> Iterator[Meeting]:
    """A meeting in a hidden folder of the results, removed at the end.

    Raises:
        OSError: the folder cannot be written.
    """
    parent = results
    made = not parent.is_dir()
    parent.mkdir(parents=True, exist_ok=True)
    folder = parent / f".doctor-{secrets.token_hex(4)}"
    folder.mkdir()
    try:
        met = Meeting(folder.absolute())
        (folder / "changing").write_bytes(b"a" * SIZE)
        write_atomic(folder / "token", _write(met.token), durable=False)
        yield met
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if made and not os.listdir(parent):
            parent.rmdir()


def _write(text: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_text(text)

    return write


def sharing_here(met: Meeting) -> list[Finding]:
    """Meet a second process of this machine."""
    log = met.folder / "here.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            met.command("here"), stdout=output, stderr=output, stdin=subprocess.DEVNULL
        )
    try:
        found, said = met.examine("here", "another process here")
        process.wait(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return [problem("sharing", "the second process does not end", "look at the file system")]
    finally:
        process.kill()
        process.wait()
    if said is None:
        lines = log.read_text(errors="replace").strip().splitlines()
        if lines:
            return [problem("sharing", f"the second process fails: {lines[-1]}", "`make .venv/run.stamp`")]
    return found


def clocks(where: str, skew: float) -> Iterator[Finding]:
    """How far another machine's clock is from this one's, seconds."""
    if abs(skew) <= LARGE_SKEW:
        return
    said = f"{where}: its clock is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}"
    if abs(skew) > LARGEST_SKEW:
        yield problem(
            "time", said, "synchronise the clocks (NTP): SLURM's own messages are refused from 300 s on"
        )
    else:
        yield note(
            "time",
            said,
            "synchronise the clocks (NTP); locks do not rely on them, but times in records mislead",
        )


def same_software(where: str, said: dict[str, Any]) -> Iterator[Finding]:
    """Whether jobs there run what was planned here."""
    from importlib import metadata

    python = sys.version.split()[0]
    here = {name: metadata.version(name) for name in said["packages"]}
    differing = [
        f"{name} {version} (here: {here[name]})"
        for name, version in said["packages"].items()
        if version != here[name]
    ]
    if said["python"] != python:
        differing.insert(0, f"Python {said['python']} (here: {python})")
    if said["training_version"] != TRAINING_VERSION:
        differing.insert(0, f"training version {said['training_version']} (here: {TRAINING_VERSION})")
    if differing:
        yield problem(
            "versions", f"{where}: {', '.join(differing)}", "use one installation on a shared file system"
        )
    if said["not_executable"] is not None:
        yield note(
            "disk",
            f"{where}: programs cannot be run from {said['temporary']}: {said['not_executable']}",
            "set TMPDIR to a folder that is not mounted noexec (Apptainer and compilers need it)",
        )


__all__ = ["Meeting", "clocks", "meeting", "same_software", "sharing_here"]
