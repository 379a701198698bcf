"""Timestep encoders: one observation, previous action and previous reward -> one vector.

Shapes: B sequences, L timesteps, A action size, D output size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import gin
import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from amago.errors import ConfigurationError
from amago.nets import cnn
from amago.nets.ff import MLP, Normalization
from amago.nets.utils import InputNorm, activation_switch, symlog
from amago.registry import Registry, nearest

_registry: Registry[type[TstepEncoder]] = Registry("timestep encoder")


def register_tstep_encoder(name: str) -> Callable[[Any], Any]:
    """Class decorator: make a timestep encoder known to ``switch_tstep_encoder`` by ``name``."""
    return _registry.register(name)


def get_tstep_encoder_cls(name: str) -> type[TstepEncoder]:
    """The encoder registered as ``name``; an unknown name is an error with the nearest ones."""
    return _registry.get(name)


def list_registered_tstep_encoders() -> list[str]:
    """Names of all registered timestep encoders, sorted."""
    return _registry.names()


class TstepEncoder(nn.Module, ABC):
    """Base: a subclass defines :meth:`inner_forward` and :attr:`emb_dim`.

    Args:
        obs_space: observations, a ``Dict`` of boxes.
        rl2_space: previous reward and action, a ``Box`` of shape (1 + A,).
        hide_rl2s: replace previous rewards and actions by zeros.
        hide_rewards: replace previous rewards alone by zeros.
    """

    def __init__(
        self,
        obs_space: gym.spaces.Dict,
        rl2_space: gym.spaces.Box,
        hide_rl2s: bool = False,
        hide_rewards: bool = False,
    ) -> None:
        super().__init__()
        self.obs_space = obs_space
        self.rl2_space = rl2_space
        self.hide_rl2s = hide_rl2s
        self.hide_rewards = hide_rewards

    @property
    @abstractmethod
    def emb_dim(self) -> int:
        """Size D of the output vector."""

    @abstractmethod
    def inner_forward(
        self, obs: dict[str, Tensor], rl2s: Tensor, log_dict: dict[str, Any] | None = None
    ) -> Tensor:
        """Encode; arguments as in :meth:`forward`, with ``rl2s`` hidden where that is asked for."""

    # Empty on purpose: a hook that most encoders have no use for.
    def update_statistics(self, obs: dict[str, Tensor], rl2s: Tensor, mask: Tensor) -> None:
        """Take a training batch into running statistics, in place; called before it is encoded.

        Args:
            obs: each (B, L, ...).
            rl2s: (B, L, 1 + A).
            mask: (B, L, 1) bool, True for real timesteps.
        """

    def forward(
        self,
        obs: dict[str, Tensor],
        rl2s: Tensor,
        log_dict: dict[str, Any] | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Embeddings (B, L, D) float.

        Args:
            obs: each (B, L, ...).
            rl2s: (B, L, 1 + A) float.
            log_dict: filled with metrics when given.
            mask: (B, L, 1) bool, True for real timesteps. In training mode the running statistics,
                if there are any, take them in; without a mask nothing but the output is computed.
        """
        if self.hide_rl2s:
            rl2s = torch.zeros_like(rl2s)
        elif self.hide_rewards:
            rl2s = torch.cat([torch.zeros_like(rl2s[..., :1]), rl2s[..., 1:]], dim=-1)
        if self.training and mask is not None:
            self.update_statistics(obs, rl2s, mask)
        return self.inner_forward(obs, rl2s, log_dict=log_dict)


def _scale_to_unit(spaces: Sequence[gym.spaces.Box], rl2_dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Per input feature the factor and offset that take a bounded observation to [-1, 1]."""
    low = np.concatenate([np.ravel(s.low).astype(np.float64) for s in spaces])
    high = np.concatenate([np.ravel(s.high).astype(np.float64) for s in spaces])
    with np.errstate(over="ignore", invalid="ignore"):
        span = high - low
    # an "infinite" bound is often written as the largest float
    bounded = np.isfinite(span) & (span > 0) & (span < 1e30)
    scale = np.where(bounded, 2.0 / np.where(bounded, span, 1.0), 1.0)
    offset = np.where(bounded, -1.0 - np.where(bounded, low, 0.0) * scale, 0.0)
    return np.append(scale, np.ones(rl2_dim)), np.append(offset, np.zeros(rl2_dim))


@register_tstep_encoder("ff")
@gin.configurable
class FFTstepEncoder(TstepEncoder):
    """An MLP over all observations, flattened in alphabetical order of key, then reward and action.

    Args:
        obs_space: a ``Dict`` of boxes of any shape.
        rl2_space: as in :class:`TstepEncoder`.
        n_layers: hidden layers.
        d_hidden: their width.
        d_output: D.
        norm: normalisation inside the MLP.
        out_norm: normalisation of the output.
        activation: name of the MLP's activation; there is none after the output.
        hide_rl2s: replace previous rewards and actions by zeros.
        normalize_inputs: standardise every input feature with running statistics. Without it the
            statistics move all the same, but values pass unchanged.
        specify_obs_keys: use only these observations; ``None`` is all.
        auto_scale: first bring observations whose space has finite bounds to [-1, 1].

    Raises:
        ConfigurationError: an unknown or empty list of keys.
    """

    def __init__(
        self,
        obs_space: gym.spaces.Dict,
        rl2_space: gym.spaces.Box,
        n_layers: int = 2,
        d_hidden: int = 512,
        d_output: int = 256,
        norm: str | None = None,
        out_norm: str | None = "layer",
        activation: str = "leaky_relu",
        hide_rl2s: bool = False,
        normalize_inputs: bool = True,
        specify_obs_keys: Sequence[str] | None = None,
        auto_scale: bool = False,
    ) -> None:
        super().__init__(obs_space, rl2_space, hide_rl2s=hide_rl2s)
        known = sorted(obs_space.spaces)
        self.obs_keys = known if specify_obs_keys is None else sorted(set(specify_obs_keys))
        for key in self.obs_keys:
            if key not in known:
                raise ConfigurationError(
                    f"FFTstepEncoder.specify_obs_keys has {key!r}, which the environment does not observe; "
                    f"{nearest(key, known)}"
                )
        if not self.obs_keys:
            raise ConfigurationError(
                "FFTstepEncoder.specify_obs_keys is empty; name an observation, or use None"
            )
        spaces: list[gym.spaces.Box] = []
        for key in self.obs_keys:
            space = obs_space[key]
            if not isinstance(space, gym.spaces.Box):
                raise ConfigurationError(
                    f"observation {key!r} is a {type(space).__name__}; FFTstepEncoder reads boxes"
                )
            spaces.append(space)
        rl2_dim = gym.spaces.flatdim(rl2_space)
        d_inp = sum(gym.spaces.flatdim(space) for space in spaces) + rl2_dim
        self.auto_scale = auto_scale
        if auto_scale:
            scale, offset = _scale_to_unit(spaces, rl2_dim)
            self.register_buffer("_scale", torch.from_numpy(scale).float(), persistent=False)
            self.register_buffer("_offset", torch.from_numpy(offset).float(), persistent=False)
        self.in_norm = InputNorm(d_inp, skip=not normalize_inputs)
        self.base = MLP(
            d_inp=d_inp,
            d_hidden=d_hidden,
            n_layers=n_layers,
            d_output=d_output,
            activation=activation,
            normalization=norm,
        )
        self.out_norm = Normalization(out_norm, d_output)
        self._emb_dim = d_output

    _scale: Tensor
    _offset: Tensor

    @property
    def emb_dim(self) -> int:
        """Size D of the output vector."""
        return self._emb_dim

    def _features(self, obs: dict[str, Tensor], rl2s: Tensor) -> Tensor:
        """All inputs side by side: (B, L, sum of sizes) in the dtype of ``rl2s``."""
        lead = rl2s.shape[:-1]
        parts = [obs[key].reshape(*lead, -1).to(rl2s.dtype) for key in self.obs_keys]
        x = torch.cat([*parts, rl2s], dim=-1)
        return torch.addcmul(self._offset, x, self._scale) if self.auto_scale else x

    def update_statistics(self, obs: dict[str, Tensor], rl2s: Tensor, mask: Tensor) -> None:
        """Moves the input statistics by the real timesteps of a batch."""
        self.in_norm.update_stats(self._features(obs, rl2s), mask)

    def inner_forward(
        self, obs: dict[str, Tensor], rl2s: Tensor, log_dict: dict[str, Any] | None = None
    ) -> Tensor:
        """(B, L, D); see :meth:`TstepEncoder.forward`."""
        return self.out_norm(self.base(self.in_norm(self._features(obs, rl2s))))


@register_tstep_encoder("cnn")
@gin.configurable
class CNNTstepEncoder(TstepEncoder):
    """A CNN over one image, merged with the previous reward and action.

    ``LayerNorm(merge(act([img_features(flat), rl2_features(symlog(rl2))])))``.

    Args:
        obs_space: a ``Dict`` that has the image (three-dimensional, values 0 to 255) under ``obs_key``.
        rl2_space: as in :class:`TstepEncoder`.
        cnn_type: which :class:`amago.nets.cnn.CNN`; built with image shape, ``channels_first``, activation.
        channels_first: images are (C, H, W) rather than (H, W, C).
        img_features: size of the image part before merging.
        rl2_features: size of the reward and action part before merging.
        d_output: D.
        out_norm: normalisation of the output.
        activation: name of the activation, also inside the CNN.
        hide_rl2s: replace previous rewards and actions by zeros.
        drqv2_aug: shift training images at random by up to 4 pixels (DrQ-v2, arXiv 2107.09645).
        aug_pct_of_batch: share of a batch's sequences that are shifted, 0 to 1.
        obs_key: the image's key; other observations are not read.

    Raises:
        ConfigurationError: no such key, not an image, an image too small for the CNN, or a share outside 0 to 1.
    """

    def __init__(
        self,
        obs_space: gym.spaces.Dict,
        rl2_space: gym.spaces.Box,
        cnn_type: type[cnn.CNN] = cnn.NatureishCNN,
        channels_first: bool = False,
        img_features: int = 256,
        rl2_features: int = 12,
        d_output: int = 256,
        out_norm: str | None = "layer",
        activation: str = "leaky_relu",
        hide_rl2s: bool = False,
        drqv2_aug: bool = False,
        aug_pct_of_batch: float = 0.75,
        obs_key: str = "observation",
    ) -> None:
        super().__init__(obs_space, rl2_space, hide_rl2s=hide_rl2s)
        if obs_key not in obs_space.spaces:
            raise ConfigurationError(
                f"CNNTstepEncoder.obs_key is {obs_key!r}, which the environment does not observe; "
                f"{nearest(obs_key, sorted(obs_space.spaces))}"
            )
        shape = obs_space[obs_key].shape
        if shape is None or len(shape) != 3:
            raise ConfigurationError(
                f"CNNTstepEncoder reads images of three dimensions, but {obs_key!r} has shape {shape}; "
                "choose another obs_key or the FFTstepEncoder"
            )
        if not 0.0 <= aug_pct_of_batch <= 1.0:
            raise ConfigurationError(
                f"CNNTstepEncoder.aug_pct_of_batch is {aug_pct_of_batch}; use a share from 0 to 1"
            )
        self.obs_key = obs_key
        self.drqv2_aug = drqv2_aug
        self.aug_pct_of_batch = aug_pct_of_batch
        self.aug = cnn.DrQv2Aug(4, channels_first=channels_first)
        self.cnn = cnn_type(shape, channels_first=channels_first, activation=activation)
        self.img_features = nn.Linear(self.cnn.flat_dim(), img_features)
        self.rl2_features = nn.Linear(gym.spaces.flatdim(rl2_space), rl2_features)
        self.merge = nn.Linear(img_features + rl2_features, d_output)
        self.out_norm = Normalization(out_norm, d_output)
        self.activation = activation_switch(activation)
        self._emb_dim = d_output

    @property
    def emb_dim(self) -> int:
        """Size D of the output vector."""
        return self._emb_dim

    def inner_forward(
        self, obs: dict[str, Tensor], rl2s: Tensor, log_dict: dict[str, Any] | None = None
    ) -> Tensor:
        """(B, L, D); see :meth:`TstepEncoder.forward`."""
        img = obs[self.obs_key]
        split = int(img.shape[0] * self.aug_pct_of_batch)
        # the order of a batch is random already, so its first sequences are a random choice
        if self.training and self.drqv2_aug and split:
            img = torch.cat([self.aug(img[:split]), img[split:].float()], dim=0)
        img_rep = self.img_features(self.cnn(img))
        rl2_rep = self.rl2_features(symlog(rl2s))
        merged = self.merge(self.activation(torch.cat([img_rep, rl2_rep], dim=-1)))
        return self.out_norm(merged)
