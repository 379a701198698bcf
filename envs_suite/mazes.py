"""Mazes of MazeRunner: how they are drawn, and how far one sees in them.

Walls run between pillars, the cells with even coordinates. From ``density`` (m / 2)^2 random pillars in turn, a
wall grows by trying ``complexity`` * 10 n random neighbours and joining those that are free, so that no
wall ever closes a room; m = n - 1 and both factors are 0.75. The bottom five rows are then cleared and the
start's pocket is walled in.
"""

from __future__ import annotations

import functools

import numpy as np

_DENSITY = _COMPLEXITY = 0.75
#: Numbers that are drawn at once; a maze of side 15 uses 87 on average.
_BLOCK = 128


def draw_walls(rng: np.random.Generator, size: int) -> np.ndarray:
    """A maze of odd side ``size``: (n, n) bool, True where there is wall; free cells are connected.

    Every try is one draw of ``rng.integers(number of neighbours)``.
    """
    last = size // 2  # pillars have coordinates 0 .. last, cells twice that
    near, built, free = _lattice(last)
    seeds = rng.integers(last + 1, size=(int(_DENSITY * last**2), 2)) @ (last + 1, 1)
    joints = _grow(
        _Words(rng), seeds.tolist(), near, bytearray(built), list(free), int(_COMPLEXITY * 10 * size)
    )
    walls = np.zeros((size, size), dtype=bool)
    walls[[0, -1], :] = walls[:, [0, -1]] = True
    row, column = np.divmod(seeds, last + 1)
    walls[2 * row, 2 * column] = True
    if joints:
        ends = np.array(joints)
        row, column = np.divmod(ends, last + 1)
        walls[2 * row[:, 1], 2 * column[:, 1]] = True
        walls[row.sum(axis=1), column.sum(axis=1)] = True
    walls[size - 5 : size - 1, 1:-1] = False
    for side in (-1, 1):
        walls[size - 4 : size - 1, size // 2 + side] = True
    return walls


def _grow(
    words: _Words,
    seeds: list[int],
    near: tuple[tuple[int, ...], ...],
    built: bytearray,
    free: list[int],
    tries: int,
) -> list[tuple[int, int]]:
    """Grow a wall from every pillar of ``seeds`` in turn; the joints as (from, to).

    Args:
        near: the neighbours of every pillar.
        built: whether a pillar is part of a wall; changed.
        free: how many neighbours of a pillar are not; changed.
        tries: of every wall.
    """
    joints: list[tuple[int, int]] = []
    following = words.next
    for pillar in seeds:
        if not built[pillar]:
            built[pillar] = 1
            for other in near[pillar]:
                free[other] -= 1
        left = tries
        while left and free[pillar]:
            around = near[pillar]
            count = len(around)
            word = following()
            # As numpy does it (Lemire 2019): only with three neighbours one word in 2^32 is drawn again.
            while word == 0 and count == 3:
                word = following()
            left -= 1
            to = around[word * count >> 32]
            if not built[to]:
                built[to] = 1
                for other in near[to]:
                    free[other] -= 1
                joints.append((pillar, to))
                pillar = to
    words.give_back()
    return joints


@functools.cache
def _lattice(last: int) -> tuple[tuple[tuple[int, ...], ...], bytes, tuple[int, ...]]:
    """Pillars 0 .. ``last`` both ways: neighbours of each, which ones are border, and how many others are near."""
    side = last + 1
    places = [divmod(p, side) for p in range(side * side)]
    near = tuple(
        tuple(
            r * side + c
            for r, c in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1))
            if 0 <= r <= last and 0 <= c <= last
        )
        for row, column in places
    )
    border = bytes(row in (0, last) or column in (0, last) for row, column in places)
    return near, border, tuple(sum(not border[q] for q in around) for around in near)


class _Words:
    """The 32-bit words of a generator one by one, drawn many at a time; those not used are given back."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self._before = rng.bit_generator.state
        self._used = 0
        self._words: list[int] = []

    def next(self) -> int:
        if not self._words:
            self._words = self.rng.integers(1 << 32, size=_BLOCK)[::-1].tolist()
            self._used += _BLOCK
        return self._words.pop()

    def give_back(self) -> None:
        """Leave the generator where it would be had only the words that were used been drawn."""
        self.rng.bit_generator.state = self._before
        used = self._used - len(self._words)
        if used:
            self.rng.integers(1 << 32, size=used)
        self._words, self._used, self._before = [], 0, self.rng.bit_generator.state


def sight(walls: np.ndarray) -> np.ndarray:
    """Free cells in a row to the west, north, east and south of every cell: (n, n, 4) int."""
    n = len(walls)
    # Every way is "to the left" in a maze that is turned; a cell sees as far as the last wall before it.
    turned = np.empty((4, n, n), dtype=bool)
    turned[0], turned[1] = walls, walls.T
    turned[2:] = turned[:2, :, ::-1]
    place = np.arange(n)
    wall = np.maximum.accumulate(np.where(turned, place, -1), axis=2)
    far = np.empty((4, n, n), dtype=np.int64)
    far[:, :, 0] = 0
    np.subtract(place[:-1], wall[:, :, :-1], out=far[:, :, 1:])
    seen = np.empty((n, n, 4), dtype=np.int64)
    seen[..., 0], seen[..., 1] = far[0], far[1].T
    seen[..., 2], seen[..., 3] = far[2, :, ::-1], far[3, :, ::-1].T
    return seen
