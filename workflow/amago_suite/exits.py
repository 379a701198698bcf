"""Exit codes of every command."""

from __future__ import annotations

DONE = 0
FAILED = 1  #: a run failed
USAGE = 2  #: the user's input is wrong; nothing was started
RESUMABLE = 75  #: interrupted; the same command goes on (EX_TEMPFAIL)
OUT_OF_MEMORY = 79  #: only inside a box: the kernel killed a process of the job for memory
