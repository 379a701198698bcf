"""Convolutional networks over images, and DrQ-v2's image augmentation.

Shapes: B sequences, L timesteps, images of C channels, height H, width W.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import gin
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amago.errors import ConfigurationError, is_out_of_memory
from amago.nets.utils import activation_switch


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel_size=kernel, stride=stride, padding=padding)


class CNN(nn.Module, ABC):
    """Base: a subclass defines :meth:`conv_forward`.

    Args:
        img_shape: of one image, (C, H, W) or (H, W, C).
        channels_first: which of the two.
        activation: name of the activation, kept as ``self.activation``.
    """

    def __init__(self, img_shape: Sequence[int], channels_first: bool, activation: str) -> None:
        super().__init__()
        if len(img_shape) != 3:
            raise ConfigurationError(f"a CNN reads images of three dimensions, not shape {tuple(img_shape)}")
        self.img_shape = tuple(int(n) for n in img_shape)
        self.channels_first = channels_first
        self.activation = activation_switch(activation)

    @property
    def in_channels(self) -> int:
        """C."""
        return self.img_shape[0] if self.channels_first else self.img_shape[-1]

    @property
    def blank_img(self) -> Tensor:
        """One black image (1, 1, *img_shape), uint8: shows which shapes come out."""
        return torch.zeros((1, 1, *self.img_shape), dtype=torch.uint8, device=next(self.parameters()).device)

    def flat_dim(self) -> int:
        """Length of the output for one image.

        Raises:
            ConfigurationError: the image is too small for the kernels and strides.
        """
        try:
            with torch.no_grad():
                return self(self.blank_img).shape[-1]
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            raise ConfigurationError(
                f"{type(self).__name__} cannot read images of shape {self.img_shape}"
                f"{'' if self.channels_first else ' (channels last)'}: {str(error).splitlines()[0]}; "
                "use larger images, smaller kernels, or another CNN"
            ) from error

    @abstractmethod
    def conv_forward(self, imgs: Tensor) -> Tensor:
        """(N, C, H, W) float in [-1, 1) -> (N, C', H', W')."""

    def forward(self, imgs: Tensor, flatten: bool = True) -> Tensor:
        """Encode images.

        Args:
            imgs: (B, L, *img_shape), values 0 to 255, any dtype.
            flatten: give one vector an image.

        Returns:
            (B, L, C' H' W') in this order of memory, or (B, L, C', H', W').
        """
        lead = imgs.shape[:2]
        x = imgs.flatten(0, 1)
        if not self.channels_first:
            x = x.permute(0, 3, 1, 2)
        weight = next(self.parameters())
        out = self.conv_forward(x.to(weight.dtype) / 128.0 - 1.0)
        out = out.unflatten(0, lead)
        return out.flatten(2) if flatten else out


class DrQv2Aug(nn.Module):
    """Random shift: pad with the border's pixels, then crop at a random place (arXiv 2107.09645).

    All images of a sequence move together, so that motion stays what it was. Shifts are whole pixels.

    Args:
        pad: largest shift in pixels, in either direction.
        channels_first: images are (C, H, W) rather than (H, W, C).
    """

    def __init__(self, pad: int, channels_first: bool) -> None:
        super().__init__()
        if pad < 1:
            raise ConfigurationError(f"DrQv2Aug's pad is {pad}; use at least 1 pixel")
        self.pad = pad
        self.channels_first = channels_first

    def forward(self, imgs: Tensor) -> Tensor:
        """(B, L, *img_shape) of any dtype -> the same shape, float. Draws from torch's default generator."""
        x = imgs if self.channels_first else imgs.movedim(-1, 2)
        b, length, c, h, w = x.shape
        x = F.pad(x.reshape(b * length, c, h, w).float(), [self.pad] * 4, mode="replicate")
        x = x.view(b, length, c, h + 2 * self.pad, w + 2 * self.pad)
        top, left = torch.randint(0, 2 * self.pad + 1, (2, b, 1), device=x.device)
        rows = (top + torch.arange(h, device=x.device))[:, :, None]
        cols = (left + torch.arange(w, device=x.device))[:, None, :]
        seq = torch.arange(b, device=x.device)[:, None, None]
        # indexing takes (B, H, W) to the front: (B, H, W, L, C)
        out = x.permute(0, 3, 4, 1, 2)[seq, rows, cols]
        out = out.permute(0, 3, 4, 1, 2)
        return out if self.channels_first else out.movedim(2, -1)


class DrQCNN(CNN):
    """Four 3x3 convolutions of 32 channels, the first with stride 2 (DrQ-v2's encoder).

    Args:
        img_shape: see :class:`CNN`.
        channels_first: see :class:`CNN`.
        activation: after each convolution.
    """

    def __init__(self, img_shape: Sequence[int], channels_first: bool, activation: str) -> None:
        super().__init__(img_shape, channels_first, activation)
        self.conv1 = _conv(self.in_channels, 32, 3, stride=2)
        self.conv2 = _conv(32, 32, 3)
        self.conv3 = _conv(32, 32, 3)
        self.conv4 = _conv(32, 32, 3)

    def conv_forward(self, imgs: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 32, H', W')."""
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            imgs = self.activation(conv(imgs))
        return imgs


class _ThreeConvs(CNN):
    """Three unpadded convolutions, each followed by the activation."""

    def __init__(
        self,
        img_shape: Sequence[int],
        channels_first: bool,
        activation: str,
        channels: Sequence[int],
        kernels: Sequence[int],
        strides: Sequence[int],
    ) -> None:
        super().__init__(img_shape, channels_first, activation)
        for name, values in (("channels", channels), ("kernels", kernels), ("strides", strides)):
            if len(values) != 3 or min(values) < 1:
                raise ConfigurationError(
                    f"{type(self).__name__}.{name} is {list(values)}; give three positive numbers, one a layer"
                )
        widths = [self.in_channels, *channels]
        self.conv1, self.conv2, self.conv3 = (
            _conv(widths[i], widths[i + 1], kernels[i], strides[i]) for i in range(3)
        )

    def conv_forward(self, imgs: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, channels[-1], H', W')."""
        for conv in (self.conv1, self.conv2, self.conv3):
            imgs = self.activation(conv(imgs))
        return imgs


@gin.configurable
class GridworldCNN(_ThreeConvs):
    """Small kernels for small grids of tiles.

    Args:
        img_shape: see :class:`CNN`.
        channels_first: see :class:`CNN`.
        activation: after each convolution.
        channels: output channels of the three layers.
        kernels: their kernel sizes.
        strides: their strides.
    """

    def __init__(
        self,
        img_shape: Sequence[int],
        channels_first: bool,
        activation: str,
        channels: Sequence[int] = [16, 32, 48],
        kernels: Sequence[int] = [2, 2, 2],
        strides: Sequence[int] = [1, 1, 1],
    ) -> None:
        super().__init__(img_shape, channels_first, activation, channels, kernels, strides)


@gin.configurable
class NatureishCNN(_ThreeConvs):
    """The three convolutions of DQN (Mnih et al., Nature 518, 2015).

    Args:
        img_shape: see :class:`CNN`.
        channels_first: see :class:`CNN`.
        activation: after each convolution.
        channels: output channels of the three layers.
        kernels: their kernel sizes.
        strides: their strides.
    """

    def __init__(
        self,
        img_shape: Sequence[int],
        channels_first: bool,
        activation: str,
        channels: Sequence[int] = [32, 64, 64],
        kernels: Sequence[int] = [8, 4, 3],
        strides: Sequence[int] = [4, 2, 1],
    ) -> None:
        super().__init__(img_shape, channels_first, activation, channels, kernels, strides)


class _Residual(nn.Module):
    """``GroupNorm(x + conv2(act(conv1(act(x)))))``."""

    def __init__(self, channels: int, activation: str, norm: bool) -> None:
        super().__init__()
        self.conv1 = _conv(channels, channels, 3, padding=1)
        self.conv2 = _conv(channels, channels, 3, padding=1)
        self.norm = nn.GroupNorm(4, channels) if norm else nn.Identity()
        self.activation = activation_switch(activation)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W), same shape out."""
        return self.norm(x + self.conv2(self.activation(self.conv1(self.activation(x)))))


class _Stage(nn.Module):
    """Convolution, max-pool that halves the image, two residual blocks."""

    def __init__(self, inputs: int, outputs: int, activation: str, norm: bool) -> None:
        super().__init__()
        self.conv = _conv(inputs, outputs, 3, padding=1)
        self.residual1 = _Residual(outputs, activation, norm)
        self.residual2 = _Residual(outputs, activation, norm)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', (H - 1) // 2, (W - 1) // 2)."""
        return self.residual2(self.residual1(F.max_pool2d(self.conv(x), kernel_size=3, stride=2)))


@gin.configurable
class IMPALAishCNN(CNN):
    """Residual stages after IMPALA's large network (arXiv 1802.01561, figure 3).

    Args:
        img_shape: see :class:`CNN`.
        channels_first: see :class:`CNN`.
        activation: inside the residual blocks.
        cnn_block_depths: channels of each stage, multiples of 4 when normalised.
        post_group_norm: GroupNorm with 4 groups after each residual sum.
    """

    def __init__(
        self,
        img_shape: Sequence[int],
        channels_first: bool,
        activation: str,
        cnn_block_depths: Sequence[int] = [16, 32, 32],
        post_group_norm: bool = True,
    ) -> None:
        super().__init__(img_shape, channels_first, activation)
        depths = list(cnn_block_depths)
        if not depths or min(depths) < 1:
            raise ConfigurationError(
                f"IMPALAishCNN.cnn_block_depths is {depths}; give one or more channel counts"
            )
        if post_group_norm and any(math.gcd(depth, 4) != 4 for depth in depths):
            raise ConfigurationError(
                f"IMPALAishCNN.cnn_block_depths is {depths}: use multiples of 4, or post_group_norm = False"
            )
        widths = [self.in_channels, *depths]
        self.blocks = nn.ModuleList(
            [_Stage(widths[i], widths[i + 1], activation, post_group_norm) for i in range(len(depths))]
        )

    def conv_forward(self, imgs: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, cnn_block_depths[-1], H', W')."""
        for block in self.blocks:
            imgs = block(imgs)
        return imgs
