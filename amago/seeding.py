"""Every random stream is a named child of one seed.

A stream is found by its name, not by how many draws came before it. So resuming, adding
an actor, or reading more metrics never shifts another stream, and a checkpoint need not
store generator states: the same name gives the same numbers.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch

Name = str | int

#: Several environments (ALE, procgen) take a C ``int`` as their seed.
_SEED_BITS = 31


def _word(name: Name) -> int:
    """A 32-bit word for one part of a stream's name; ints and strings never meet."""
    text = f"s{name}" if isinstance(name, str) else f"i{int(name)}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little")


class SeedTree:
    """The run's seed and the streams that grow from it.

    Args:
        seed: the run's seed, a non-negative integer.

    Example:
        >>> tree = SeedTree(3)
        >>> tree.integer("reset", 0, 7) == SeedTree(3).integer("reset", 0, 7)
        True
    """

    def __init__(self, seed: int) -> None:
        if seed < 0:
            raise ValueError(f"seed must be >= 0, got {seed}")
        self.seed = int(seed)

    def child(self, *names: Name) -> np.random.SeedSequence:
        """The ``SeedSequence`` called ``names`` (path-like: ``"reset", segment, actor``)."""
        return np.random.SeedSequence(self.seed, spawn_key=tuple(_word(n) for n in names))

    def generator(self, *names: Name) -> np.random.Generator:
        """A fresh generator at the start of the stream called ``names``."""
        return np.random.default_rng(self.child(*names))

    def integer(self, *names: Name) -> int:
        """One 31-bit seed, for libraries that take an integer."""
        return int(self.child(*names).generate_state(1, np.uint32)[0]) & ((1 << _SEED_BITS) - 1)

    def integers(self, count: int, *names: Name) -> list[int]:
        """``count`` 31-bit seeds: one for each index appended to ``names``."""
        return [self.integer(*names, i) for i in range(count)]

    def seed_torch(self, *names: Name) -> None:
        """Put torch's default generators (CPU and devices) at the start of a stream.

        torch's dropout and distributions draw only from the default generator, so it is
        placed anew before every update and every collection.
        """
        state = self.child(*names).generate_state(2, np.uint32)
        torch.manual_seed((int(state[0]) << 31) ^ int(state[1]))
