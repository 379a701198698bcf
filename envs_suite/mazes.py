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
    walls = bytearray(_empty(size))
    seeds = rng.integers(last + 1, size=(int(_DENSITY * last**2), 2)) @ (last + 1, 1)
    _grow(rng, seeds.tolist(), last, walls, int(_COMPLEXITY * 10 * size))
    for row in range(size - 5, size - 1):
        walls[row * size + 1 : (row + 1) * size - 1] = bytes(size - 2)
    for row in range(size - 4, size - 1):
        walls[row * size + size // 2 - 1] = walls[row * size + size // 2 + 1] = 1
    return np.frombuffer(walls, dtype=bool).reshape(size, size)


def _grow(rng: np.random.Generator, seeds: list[int], last: int, walls: bytearray, tries: int) -> None:
    """Grow a wall from every pillar of ``seeds`` in turn.

    The generator's words are drawn many at a time, and those that are not used are given back.

    Args:
        walls: 1 where there is wall, row by row; changed.
        tries: of every wall.
    """
    ways, cells, border, open_ways = _lattice(last)
    built, free = bytearray(border), list(open_ways)  # pillars of walls; each one's neighbours that are not
    before, drawn = rng.bit_generator.state, 0
    stock: list[int] = []
    take = stock.pop
    for pillar in seeds:
        walls[cells[pillar]] = 1
        if not built[pillar]:
            built[pillar] = 1
            for other, _ in ways[pillar]:
                free[other] -= 1
        left = tries
        while left and free[pillar]:
            if not stock:
                stock += rng.integers(1 << 32, size=_BLOCK)[::-1].tolist()
                drawn += _BLOCK
            word = take()
            around = ways[pillar]
            count = len(around)
            # As numpy does it (Lemire 2019): only with three neighbours one word in 2^32 is drawn again.
            if word == 0 and count == 3:
                continue
            left -= 1
            to, between = around[word * count >> 32]
            if not built[to]:
                built[to] = 1
                for other, _ in ways[to]:
                    free[other] -= 1
                walls[cells[to]] = walls[between] = 1
                pillar = to
    rng.bit_generator.state = before
    if used := drawn - len(stock):
        rng.integers(1 << 32, size=used)


@functools.cache
def _empty(size: int) -> bytes:
    """Walls around nothing, row by row."""
    walls = np.zeros((size, size), dtype=bool)
    walls[[0, -1], :] = walls[:, [0, -1]] = True
    return walls.tobytes()


@functools.cache
def _lattice(
    last: int,
) -> tuple[tuple[tuple[tuple[int, int], ...], ...], tuple[int, ...], bytes, tuple[int, ...]]:
    """Pillars 0 .. ``last`` both ways, row by row.

    Returns:
        neighbours of each, with the cell between; its own cell; whether it is border; how many neighbours are not.
    """
    side, size = last + 1, 2 * last + 1
    places = [divmod(p, side) for p in range(side * side)]
    ways = tuple(
        tuple(
            (r * side + c, (row + r) * size + column + c)
            for r, c in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1))
            if 0 <= r <= last and 0 <= c <= last
        )
        for row, column in places
    )
    cells = tuple(2 * row * size + 2 * column for row, column in places)
    border = bytes(row in (0, last) or column in (0, last) for row, column in places)
    return ways, cells, border, tuple(sum(not border[q] for q, _ in around) for around in ways)


def sight(walls: np.ndarray) -> np.ndarray:
    """Free cells in a row to the west, north, east and south of every cell of mazes (..., n, n): (..., n, n, 4) int."""
    n = walls.shape[-1]
    # Every way is "to the left" in a maze that is turned; a cell sees as far as the last wall before it.
    turned = np.empty((4, *walls.shape), dtype=bool)
    turned[0], turned[1] = walls, walls.swapaxes(-1, -2)
    turned[2:] = turned[:2, ..., ::-1]
    place = np.arange(n, dtype=np.int16)
    wall = np.maximum.accumulate(np.where(turned, place, np.int16(-1)), axis=-1)
    far = np.zeros(turned.shape, dtype=np.int16)
    np.subtract(place[:-1], wall[..., :-1], out=far[..., 1:])
    seen = np.empty((*walls.shape, 4), dtype=np.int16)
    seen[..., 0], seen[..., 1] = far[0], far[1].swapaxes(-1, -2)
    seen[..., 2], seen[..., 3] = far[2, ..., ::-1], far[3, ..., ::-1].swapaxes(-1, -2)
    return seen
