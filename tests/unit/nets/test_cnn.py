"""CNNs: shapes, order of layers, errors; the random shift."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from amago.errors import ConfigurationError
from amago.nets import cnn


@pytest.mark.parametrize(
    ("cls", "size", "shape"),
    [
        (cnn.DrQCNN, 21, (32, 4, 4)),
        (cnn.GridworldCNN, 5, (48, 2, 2)),
        (cnn.NatureishCNN, 44, (64, 2, 2)),
        (cnn.IMPALAishCNN, 36, (32, 3, 3)),
    ],
)
@pytest.mark.parametrize("channels_first", [False, True])
def test_shapes(cls: type[cnn.CNN], size: int, shape: tuple[int, ...], channels_first: bool) -> None:
    """Output shapes, flat in the order C, H, W, and what ``flat_dim`` and ``blank_img`` promise."""
    img_shape = (3, size, size) if channels_first else (size, size, 3)
    net = cls(img_shape, channels_first=channels_first, activation="leaky_relu")
    assert net.blank_img.shape == (1, 1, *img_shape)
    imgs = torch.randint(0, 256, (2, 3, *img_shape), dtype=torch.uint8)
    out = net(imgs, flatten=False)
    assert out.shape == (2, 3, *shape)
    flat = net(imgs)
    assert torch.equal(flat, out.flatten(2)) and flat.shape[-1] == net.flat_dim()


def test_values_are_centred() -> None:
    """Bytes become x / 128 - 1, whatever their dtype."""

    class Keep(cnn.CNN):
        def __init__(self) -> None:
            super().__init__((2, 2, 1), channels_first=False, activation="relu")
            self.one = torch.nn.Parameter(torch.ones(1))

        def conv_forward(self, imgs: Tensor) -> Tensor:
            return imgs * self.one

    imgs = torch.tensor([0, 64, 128, 255]).view(1, 1, 2, 2, 1)
    for dtype in (torch.uint8, torch.float32):
        assert Keep()(imgs.to(dtype)).flatten().tolist() == [-1.0, -0.5, 0.0, 255 / 128 - 1]


def test_drq_by_hand() -> None:
    """Four convolutions, the first with stride 2, an activation after each."""
    net = cnn.DrQCNN((3, 21, 21), channels_first=True, activation="relu")
    x = torch.rand(1, 3, 21, 21)
    expected = F.relu(F.conv2d(x, net.conv1.weight, net.conv1.bias, stride=2))
    for conv in (net.conv2, net.conv3, net.conv4):
        expected = F.relu(F.conv2d(expected, conv.weight, conv.bias))
    assert torch.allclose(net.conv_forward(x), expected, atol=1e-6)


def test_group_norm_can_be_left_out() -> None:
    """``post_group_norm = False`` has no norm parameters and takes any number of channels."""
    net = cnn.IMPALAishCNN((16, 16, 3), False, "relu", cnn_block_depths=[5], post_group_norm=False)
    assert not any("norm" in name for name, _ in net.named_parameters())
    assert net(net.blank_img).shape == (1, 1, 5 * 7 * 7)


@pytest.mark.parametrize("channels_first", [False, True])
def test_random_shift(channels_first: bool) -> None:
    """Every sequence is a crop of its image padded by repeated borders, one place for all its timesteps."""
    torch.manual_seed(0)
    pad, size = 2, 6
    imgs = torch.randint(0, 256, (40, 3, size, size, 2), dtype=torch.uint8)
    given = imgs.movedim(-1, 2) if channels_first else imgs
    out = cnn.DrQv2Aug(pad, channels_first=channels_first)(given)
    assert out.shape == given.shape and out.dtype == torch.float32
    if channels_first:
        out = out.movedim(2, -1)
    places = set()
    index = torch.arange(size)
    for i in range(len(imgs)):
        found = [
            (dy, dx)
            for dy in range(-pad, pad + 1)
            for dx in range(-pad, pad + 1)
            if torch.equal(
                imgs[i][:, (index + dy).clamp(0, size - 1)][:, :, (index + dx).clamp(0, size - 1)].float(),
                out[i],
            )
        ]
        assert found, i
        places.update(found)
    assert len(places) > 12
    torch.manual_seed(5)
    first = cnn.DrQv2Aug(pad, channels_first)(given)
    torch.manual_seed(5)
    assert torch.equal(cnn.DrQv2Aug(pad, channels_first)(given), first)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: cnn.NatureishCNN((8, 8), False, "relu"), "three dimensions"),
        (lambda: cnn.NatureishCNN((20, 20, 3), False, "relu").flat_dim(), "NatureishCNN cannot read images"),
        (lambda: cnn.NatureishCNN((44, 44, 3), False, "relu", channels=[1, 2]), "NatureishCNN.channels"),
        (lambda: cnn.GridworldCNN((5, 5, 3), False, "relu", strides=[1, 0, 1]), "GridworldCNN.strides"),
        (lambda: cnn.IMPALAishCNN((36, 36, 3), False, "relu", cnn_block_depths=[6]), "multiples of 4"),
        (lambda: cnn.IMPALAishCNN((36, 36, 3), False, "relu", cnn_block_depths=[]), "one or more"),
        (lambda: cnn.DrQv2Aug(0, False), "at least 1"),
    ],
)
def test_impossible_settings(build: Callable[[], Any], message: str) -> None:
    """One line says what is wrong."""
    with pytest.raises(ConfigurationError, match=message):
        build()
