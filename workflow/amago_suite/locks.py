"""Who works on a cell or a suite: owners, locks with a heartbeat, and dying with one's launcher.

A lock is a file that appears whole (a hard link of a finished file) and names its owner. It holds
on shared file systems too, because nothing relies on ``flock``: an owner on this machine is dead
when its process is gone, one elsewhere (in a container, too) when its heartbeat has stopped for
long, or for a little while and SLURM says that its job is over.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from amago.errors import AmagoError
from amago_suite.engines.box import here

#: Seconds between two heartbeats, and without one after which an owner elsewhere counts as dead.
HEARTBEAT = 10.0
DEAD_AFTER = 120.0
#: Seconds for which such a lock is watched before it is taken: a clock that jumped makes it look old.
WATCHED = 25.0

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Owner:
    """A process, so that it cannot be mistaken for a later one with the same number."""

    host: str  #: the machine, or the box (see `engines.box`), whose process numbers mean nothing outside
    pid: int
    started: float  #: seconds since the epoch; 0 where the system does not say
    job: str | None = None  #: the scheduler's job id
    token: str = ""  #: tells two locks of one process apart
    ticks: str = ""  #: boot and clock ticks since it: unlike ``started``, no clock change moves it

    @classmethod
    def this(cls, token: str = "") -> Owner:
        """This process."""
        return cls.of(os.getpid(), token)

    @classmethod
    def of(cls, pid: int, token: str = "") -> Owner:
        """A process of this machine."""
        job = os.environ.get("SLURM_JOB_ID")
        return cls(here(), pid, _started(pid) or 0.0, job, token, _ticks(pid))

    @property
    def here(self) -> bool:
        """Whether it is on this machine, or in this box."""
        return self.host == here()

    @property
    def running(self) -> bool:
        """Whether that very process lives; only meaningful `here`."""
        started = _started(self.pid)
        if started is None:
            return False
        if self.ticks:
            return _ticks(self.pid) == self.ticks
        return not self.started or abs(started - self.started) < 1.0

    def __str__(self) -> str:
        job = f", job {self.job}" if self.job else ""
        return f"process {self.pid} on {self.host}{job}"


def _started(pid: int) -> float | None:
    """When a process of this machine began, or None where it is gone (or only waits to be reaped)."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.NoSuchProcess:
        return None
    except psutil.AccessDenied:
        return 0.0


def _ticks(pid: int) -> str:
    """Which boot and when in it a process began; empty where the system (other than Linux) does not say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return f"{boot} {fields[19]}"
    except (OSError, IndexError):
        return ""


def read_owner(path: Path) -> Owner | None:
    """The owner that a lock or owner file names, or None."""
    try:
        owner = Owner(**json.loads(path.read_text()))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError, TypeError, RecursionError):
        return None
    texts = all(isinstance(text, str) for text in (owner.host, owner.token, owner.ticks))
    numbers = type(owner.pid) is int and 0 < owner.pid < 2**31 and type(owner.started) in (int, float)
    return owner if texts and numbers and isinstance(owner.job, (str, type(None))) else None


def is_alive(path: Path, owner: Owner) -> bool:
    """Whether the owner of the lock ``path`` still works."""
    if owner.here:
        return owner.running
    try:
        # Both times come from the file system's clock, so machines whose clocks differ agree.
        probe = path.with_name(f".{path.name}.{secrets.token_hex(4)}.clock")
        probe.touch()
        now = probe.stat().st_mtime
        probe.unlink()
        return now - path.stat().st_mtime < DEAD_AFTER
    except FileNotFoundError:
        return False


def remove_dead(path: Path, dead: Owner | None) -> None:
    """Move the lock of a dead owner away, and put it back if it was someone else's by then."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}.dead")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return
    if aside.is_dir():
        raise AmagoError(f"{path} was a folder, and is {aside} now; nothing of ours made it")
    found = read_owner(aside)
    if found != dead and found is not None:
        with contextlib.suppress(FileExistsError):
            os.link(aside, path)
    aside.unlink(missing_ok=True)


class RunLock:
    """At most one process works on a cell.

    Args:
        path: the lock file.
        on_lost: called from the heartbeat's thread when another process took the lock over.

    Example::

        with RunLock(cell.state / "lock"):
            ...
    """

    def __init__(self, path: Path, on_lost: Callable[[], None] | None = None) -> None:
        self.path = path
        self._on_lost = on_lost
        self._owner = Owner.this(secrets.token_hex(8))
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._answer: tuple[float, bool] | None = None  # when SLURM was asked, and whether the job is over
        self._seen: tuple[int, float] | None = None  # a heartbeat elsewhere, and when we first saw it

    def try_acquire(self) -> Owner | None:
        """Take the lock if it is free or its owner is dead. Returns the owner who lives, else None."""
        for _ in range(100):
            if self._create():
                self._thread = threading.Thread(target=self._beat, daemon=True, name="lock heartbeat")
                self._thread.start()
                return None
            owner = read_owner(self.path)
            if owner is not None and self._lives(owner):
                return owner
            remove_dead(self.path, owner)
        raise AmagoError(f"cannot take the lock {self.path}; if nothing works on this cell, delete it")

    def _lives(self, owner: Owner) -> bool:
        """`is_alive`, but an owner elsewhere is only dead when we ourselves saw its heart stand still.

        Its heartbeat is a time of day, and clocks jump: forwards, it looks dead while it works;
        backwards, alive when it is long gone.
        """
        if owner.here:
            return is_alive(self.path, owner)
        try:
            beat = self.path.stat().st_mtime_ns
        except FileNotFoundError:
            return False
        now = time.monotonic()
        if self._seen is None or self._seen[0] != beat:
            self._seen = (beat, now)
        silent = now - self._seen[1]
        if silent >= DEAD_AFTER or (silent >= WATCHED and self._job_over(owner)):
            return False
        return silent < WATCHED or is_alive(self.path, owner)

    def _job_over(self, owner: Owner) -> bool:
        """Whether SLURM says that the owner's job ended, or was put back into the queue.

        Its word alone would not do: a node that SLURM lost may still work, and a job of another
        cluster can have the same number. So it is only asked about an owner who is silent already.
        """
        from amago_suite.slurm.queue import state_of

        if owner.job is None:
            return False
        if owner.job == os.environ.get("SLURM_JOB_ID"):
            return True  # this very job, before it was requeued
        now = time.monotonic()
        if self._answer is None or now - self._answer[0] > HEARTBEAT:
            state = state_of(owner.job)
            over = state is not None and state not in ("RUNNING", "COMPLETING", "SUSPENDED", "NODE_FAIL")
            self._answer = (now, over)
        return self._answer[1]

    def acquire(self, waiting: Callable[[Owner], None] | None = None, poll: float = 1.0) -> None:
        """Wait until the lock is ours. ``waiting`` is called once, with the owner waited for."""
        owner = self.try_acquire()
        if owner is not None and waiting is not None:
            waiting(owner)
        while owner is not None:
            time.sleep(poll)
            owner = self.try_acquire()

    def release(self) -> None:
        """Give the lock back; harmless when it is not ours."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if read_owner(self.path) == self._owner:
            self.path.unlink(missing_ok=True)

    def __enter__(self) -> RunLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _create(self) -> bool:
        """Put a finished lock file in place; False where one is already there."""
        draft = self.path.with_name(f".{self.path.name}.{self._owner.token}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps(asdict(self._owner)))
            os.link(draft, self.path)
        except FileExistsError:
            return False
        except OSError as error:
            raise AmagoError(f"cannot write {self.path}: {error.strerror}") from error
        finally:
            with contextlib.suppress(OSError):
                draft.unlink()
        return True

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT):
            try:
                if read_owner(self.path) != self._owner:
                    if self._on_lost is not None:
                        self._on_lost()
                    return
                os.utime(self.path)
            except OSError:
                continue  # a file system that is away for a moment


def die_with_parent(number: signal.Signals, parent: int) -> bool:
    """Ask the kernel for signal ``number`` when the process that started this one ends.

    Args:
        number: the signal to get.
        parent: id of that process.

    Returns:
        False when it had already ended. Where the kernel cannot do this (other than Linux), True:
        the lock lets a later run wait for this process instead.
    """
    if sys.platform != "linux":
        return True
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    # It may have ended between our start and that call, and then no signal comes.
    return os.getppid() == parent
