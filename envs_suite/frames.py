"""Screens made smaller: every pixel of the result is the mean of the area that it covers."""

from __future__ import annotations

import numpy as np


class Shrink:
    """Area averaging from (height, width) to (size, size), in whole numbers: the same on every machine.

    Args:
        height, width: of the screens, pixels; their product must stay below 2^23.
        size: of the result, at most the smaller of the two.
    """

    def __init__(self, height: int, width: int, size: int) -> None:
        self._rows, self._columns = _taps(height, size), _taps(width, size)
        self._whole = height * width

    def __call__(self, screen: np.ndarray) -> np.ndarray:
        """(height, width) or (height, width, C) uint8 -> (size, size, C) uint8, with C = 1 for the former."""
        wide = screen.astype(np.int32)
        if wide.ndim == 2:
            wide = wide[..., None]
        rows = sum(wide[at] * share[:, None, None] for at, share in self._rows)
        sums = sum(rows[:, at] * share[:, None] for at, share in self._columns)
        sums += self._whole // 2
        sums //= self._whole
        return sums.astype(np.uint8)


def _taps(length: int, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """What an area is made of: pixels (size,) and their shares (size,), as often as an area has pixels.

    A share is what of a pixel lies in the area, in parts of 1 / size; an area's shares add up to ``length``.
    """
    first = np.arange(size) * length // size
    taps = []
    for offset in range(length // size + 2):
        pixel = first + offset
        ends = np.minimum((pixel + 1) * size, (np.arange(size) + 1) * length)
        share = ends - np.maximum(pixel * size, np.arange(size) * length)
        share = np.where(pixel < length, np.maximum(share, 0), 0)
        if share.any():
            taps.append((np.minimum(pixel, length - 1), share.astype(np.int32)))
    return taps
