"""Shrinking screens."""

from __future__ import annotations

import numpy as np
import pytest

from envs_suite.frames import Shrink


@pytest.mark.parametrize(
    ("height", "width", "size", "channels"),
    [(42, 32, 17, 0), (42, 32, 17, 3), (50, 32, 16, 3), (13, 17, 5, 0), (9, 9, 9, 3), (7, 11, 1, 0)],
)
def test_means_of_areas(height: int, width: int, size: int, channels: int) -> None:
    """Guards area averaging: every pixel repeated ``size`` times both ways, then plain means of blocks, rounded."""
    shape = (height, width, channels) if channels else (height, width)
    screen = np.random.default_rng(0).integers(0, 256, size=shape, dtype=np.uint8)
    large = screen.repeat(size, axis=0).repeat(size, axis=1).astype(np.int64)
    sums = large.reshape(size, height, size, width, -1).sum(axis=(1, 3))
    small = Shrink(height, width, size)(screen)
    assert small.dtype == np.uint8
    assert small.shape == (size, size, channels or 1)
    np.testing.assert_array_equal(small, (sums + height * width // 2) // (height * width))


def test_a_white_screen_stays_white() -> None:
    """Guards against sums that overflow."""
    assert (Shrink(250, 160, 84)(np.full((250, 160, 3), 255, dtype=np.uint8)) == 255).all()
