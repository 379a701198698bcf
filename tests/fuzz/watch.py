"""What no reader may do: run something, hang, or fill the memory."""

from __future__ import annotations

import contextlib
import resource
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from amago.errors import AmagoError

#: A reader of a hostile file has no business with any of these.
FORBIDDEN = (
    *(
        "os.system",
        "os.exec",
        "os.posix_spawn",
        "os.spawn",
        "os.fork",
        "os.forkpty",
        "subprocess.Popen",
        "pty.spawn",
    ),
    *(
        "socket.connect",
        "socket.bind",
        "pickle.find_class",
        "ctypes.dlopen",
        "shutil.rmtree",
        "ftplib.connect",
    ),
    *("urllib.Request", "webbrowser.open", "os.chown", "os.kill", "os.putenv"),
)
SECONDS = 10

_seen: list[str] = []
_watching = False
_hooked = False


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event in FORBIDDEN and event not in _ALLOWED:
        _seen.append(f"{event} {arguments!r}"[:200])


_ALLOWED: set[str] = set()


class Hung(BaseException):
    """A reader took too long."""


_began = 0.0
_alarms = 0


def _too_long(number: int, frame: FrameType | None) -> None:
    global _alarms
    if not _watching:  # it came while the last reader ended
        return
    _alarms += 1
    # A machine that was busy or asleep is no reader that hangs; one that waits for ever is.
    if time.process_time() - _began < SECONDS / 4 and _alarms < 12:
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        return
    raise Hung(f"more than {SECONDS} s")


@contextlib.contextmanager
def watched(allowed: tuple[str, ...] = ()) -> Iterator[None]:
    """Fail when what runs inside executes something, takes too long, or raises another error than ours."""
    global _watching, _hooked, _began, _alarms
    if not _hooked:
        sys.addaudithook(_hook)
        _hooked = True
    _began, _alarms = time.process_time(), 0
    _seen.clear()
    _ALLOWED.clear()
    _ALLOWED.update(allowed)
    previous = signal.signal(signal.SIGALRM, _too_long)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    _watching = True
    try:
        with contextlib.suppress(AmagoError):
            yield
    finally:
        _watching = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert not _seen, f"a file made its reader run something: {_seen}"


@contextlib.contextmanager
def bounded_memory(extra: int = 3 * 2**30) -> Iterator[None]:
    """Address space of this process may not grow by more than ``extra`` bytes."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + extra, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def now() -> float:
    return time.perf_counter()
