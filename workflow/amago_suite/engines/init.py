"""The first process in a box: starts the job, hands signals on, and ends the box with its launcher.

    python -m amago_suite.engines.init HOST/ENGINE-NAME 75 amago-suite train FOLDER

The launcher holds the other end of this process's standard input. When it is gone, however it went,
that input ends, and the job gets SIGTERM and after the grace time SIGKILL. So no box outlives its
launcher for long, without any engine being asked. (Podman's service keeps that end open itself; there
the next launcher sweeps.)
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from types import FrameType

from amago_suite.exits import OUT_OF_MEMORY

_BY_SIGNAL = 128  # what a shell adds to the number of a signal that ended a command
_AGAIN = 1.0  # seconds between two requests to stop
_LOOK = 0.5  # seconds for the launcher to see from outside what cannot be seen from here


def main(arguments: list[str]) -> int:
    """Run a command to its end.

    Args:
        arguments: the box's name (so that it can be found among processes), the grace time in
            seconds, the command.

    Returns:
        Its exit code; 128 and the signal's number where a signal ended it; 79 where it failed and the
        kernel had killed a process of this box for memory.
    """
    _, grace, *command = arguments
    init = _Init(float(grace))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, init.stop)
    threading.Thread(target=init.watch_launcher, daemon=True).start()
    code = init.run(command)
    if code:
        kills = _oom_kills()
        if kills:
            return OUT_OF_MEMORY
        if kills is None and code == _BY_SIGNAL + signal.SIGKILL:
            time.sleep(_LOOK)
    return code


class _Init:
    def __init__(self, grace: float) -> None:
        self.grace = grace
        self.child: subprocess.Popen[bytes] | None = None
        self.asked = False

    def run(self, command: list[str]) -> int:
        # A group of its own, to be killed as a whole.
        self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        if self.asked:
            self.child.terminate()
        code = self.child.wait()
        return _BY_SIGNAL - code if code < 0 else code

    def stop(self, number: int, frame: FrameType | None = None) -> None:
        """Ask the child to stop, once: launchers repeat themselves, because early signals can be lost."""
        if not self.asked:
            self.asked = True
            if self.child is not None:
                self.child.terminate()

    def watch_launcher(self) -> None:
        """Wait for the end of the standard input, then end the job."""
        with contextlib.suppress(OSError):
            while os.read(0, 1024):
                pass
        with contextlib.suppress(OSError):
            print("the launcher let go of this job: stopping", flush=True)
        self.asked = True
        end = time.monotonic() + self.grace
        # Sent from here and more than once: the main thread waits in the kernel for the child, and a
        # signal to this process may wake another thread than that.
        while time.monotonic() < end:
            if self.child is not None:
                self.child.terminate()
            time.sleep(_AGAIN)
        self.kill()

    def kill(self) -> None:
        if self.child is not None:
            with contextlib.suppress(OSError):
                os.killpg(self.child.pid, signal.SIGKILL)


def _oom_kills() -> int | None:
    from amago_suite.records import oom_kills

    return oom_kills()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
