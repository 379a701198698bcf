"""Errors that a person is meant to read: one line, what is wrong and the way out."""

from __future__ import annotations

import errno


class AmagoError(Exception):
    """Base of every error that is the user's to mend. Its message is one clear line."""


class ConfigurationError(AmagoError):
    """A setting is unknown, missing or impossible; the message names it."""


class DataError(AmagoError):
    """A replay folder, trajectory or batch is not what it should be."""


class CheckpointError(AmagoError):
    """A checkpoint or policy file is missing, damaged or of another architecture."""


class StorageError(AmagoError):
    """A file cannot be written: the disk is full, or it may not be written to."""


class EnvironmentFailure(AmagoError):
    """An environment died, hung, or returned something outside its contract: NaN or infinity, say."""


class TrainingDiverged(AmagoError):
    """NaN or infinity in the loss or its gradient."""


class TrainingInterrupted(KeyboardInterrupt):
    """Training stopped on request (SIGTERM, SIGINT) and can be resumed.

    A ``KeyboardInterrupt``, so that code which does not know it still stops.
    """


_MEMORY_WORDS = ("can't allocate memory", "not enough memory", "out of memory", "cannot allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, the system or torch (which has no class for it on a CPU) had no memory left."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _MEMORY_WORDS)
