"""Episodes that an instance draws before it needs them, many at once.

One draw of many numbers costs about as much as one draw of one and gives the numbers that many draws would
give, so that nothing but the time shows it. It works where every episode makes the same draws. A generator
that was just seeded is not drawn ahead of: training seeds every episode, and would throw the rest away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np

T = TypeVar("T")


class Ahead(Generic[T]):
    """What the instances of a vectorised environment have drawn and not used.

    Args:
        num_envs: number of instances.
        draw: some (at least one) of the next things that a generator gives, in order.
    """

    def __init__(self, num_envs: int, draw: Callable[[np.random.Generator], list[T]]) -> None:
        self._draw = draw
        self._source: list[np.random.Generator | None] = [None] * num_envs
        self._stock: list[list[T]] = [[] for _ in range(num_envs)]

    def take(self, i: int, rng: np.random.Generator) -> T | None:
        """The next thing of instance ``i``, or None when ``rng`` is new and one must be drawn from it."""
        stock = self._stock[i]
        if rng is not self._source[i]:
            self._source[i] = rng
            stock.clear()
            return None
        if not stock:
            stock.extend(reversed(self._draw(rng)))
        return stock.pop()
