"""Stopping on SIGTERM and SIGINT at a moment of our choosing."""

from __future__ import annotations

import logging
import os
import signal
import threading
from types import FrameType
from typing import Any

logger = logging.getLogger(__name__)

#: EX_TEMPFAIL: interrupted, and the same command continues.
EXIT_RESUMABLE = 75


class StopRequest:
    """A context in which SIGTERM and SIGINT only ask for a stop.

    The loop inside looks at :attr:`wanted` and stops where it can be resumed. A second SIGINT
    raises ``KeyboardInterrupt`` at once. If the loop has not stopped after ``grace_seconds`` (an
    environment hangs, say), the process exits with 75: what is on disk is whole.

    Outside the main thread no handler can be set; then only :meth:`ask` works.
    """

    def __init__(self, grace_seconds: float) -> None:
        self.grace_seconds = grace_seconds
        self.wanted = False
        self._inside = False
        self._timer: threading.Timer | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        self._inside = True
        if self.wanted:
            self._limit_the_time()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        self._inside = False
        if self._timer is not None:
            self._timer.cancel()
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def ask(self) -> None:
        """Ask for a stop, as a signal would; outside the context, for when it is entered."""
        if self.wanted:
            return
        self.wanted = True
        if self._inside:
            self._limit_the_time()

    def _limit_the_time(self) -> None:
        self._timer = threading.Timer(self.grace_seconds, self._give_up)
        self._timer.daemon = True
        self._timer.start()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.wanted and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.ask()

    def _give_up(self) -> None:
        if not self._inside:  # it stopped at this very moment
            return
        logger.error(
            "did not stop within %.0f s of the signal; exiting, the last checkpoint is intact",
            self.grace_seconds,
        )
        logging.shutdown()
        os._exit(EXIT_RESUMABLE)
