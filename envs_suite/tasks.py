"""Which tasks belong to training and which to evaluation.

The split is a property of the task itself (a stable hash of what it is), so the two sets are
disjoint whatever was drawn, in whichever process. Evaluation task k is drawn from a generator of
its own, so it is the same for every architecture and every run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from amago.errors import ConfigurationError

T = TypeVar("T")

#: One task in this many is kept for evaluation.
EVAL_ONE_IN = 5
#: First word of the seeds of evaluation tasks.
_EVAL_SEED = 20231009
#: A draw that fails this often has hardly any task to find.
_MAX_TRIES = 10_000


def is_eval_task(*parts: bytes) -> bool:
    """Whether the task that ``parts`` describe belongs to the evaluation split."""
    digest = hashlib.blake2b(b"\0".join(parts), digest_size=8).digest()
    return int.from_bytes(digest, "little") % EVAL_ONE_IN == 0


def eval_generator(task_index: int, *words: int) -> np.random.Generator:
    """The generator of evaluation task ``task_index``; ``words`` name the family of tasks."""
    return np.random.default_rng([_EVAL_SEED, *words, task_index])


def draw_until(draw: Callable[[], T], wanted: Callable[[T], bool], what: str) -> T:
    """Draw until ``wanted``.

    Raises:
        ConfigurationError: nothing was found in 10,000 tries.
    """
    for _ in range(_MAX_TRIES):
        candidate = draw()
        if wanted(candidate):
            return candidate
    raise ConfigurationError(f"no {what} was found in {_MAX_TRIES} draws; change its parameters")
