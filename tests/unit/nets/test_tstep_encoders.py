"""Timestep encoders: reference figures, running statistics and their mask, what is read and what is hidden."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gin
import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

import amago
from amago.errors import ConfigurationError
from amago.nets import cnn
from amago.nets import tstep_encoders as te
from tests.unit.nets.encoders import assert_close, load_weights, reference

RL2 = gym.spaces.Box(-np.inf, np.inf, (5,))
VECTORS = gym.spaces.Dict({"b": gym.spaces.Box(-1, 1, (3,)), "a": gym.spaces.Box(-1, 1, (2,))})
IMAGE = gym.spaces.Dict({"observation": gym.spaces.Box(0, 255, (36, 36, 3), np.uint8)})


@pytest.fixture(autouse=True)
def _fresh_gin() -> Iterator[None]:
    gin.clear_config()
    yield
    gin.clear_config()


def _vectors(batch: int = 2, length: int = 4) -> tuple[dict[str, Tensor], Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = {"a": 2, "b": 3}
    obs = {k: torch.randn(batch, length, n, generator=generator) for k, n in sizes.items()}
    return obs, torch.randn(batch, length, 5, generator=generator)


def test_ff_figures() -> None:
    """Alphabetical order of keys, then rl2; names and outputs are the reference's."""
    arrays = reference("ff_tstep")
    space = gym.spaces.Dict({"obs_b": gym.spaces.Box(-1, 1, (3,)), "obs_a": gym.spaces.Box(-1, 1, (2,))})
    encoder = te.FFTstepEncoder(space, RL2, d_hidden=16, d_output=12)
    load_weights(encoder, arrays)
    obs = {k: torch.tensor(arrays[k]) for k in ("obs_a", "obs_b")}
    assert_close(encoder.eval()(obs, torch.tensor(arrays["rl2"])), arrays["out"])
    assert encoder.emb_dim == 12


@pytest.mark.parametrize(("name", "cnn_type"), [("nature", cnn.NatureishCNN), ("impala", cnn.IMPALAishCNN)])
@pytest.mark.parametrize("channels_first", [False, True])
def test_cnn_figures(name: str, cnn_type: type[cnn.CNN], channels_first: bool) -> None:
    """Both CNNs, channels last as in the reference's figures, and first with the same result."""
    arrays = reference(f"cnn_{name}")
    image = torch.tensor(arrays["image"])
    space = IMAGE
    if channels_first:
        image = image.movedim(-1, 2)
        space = gym.spaces.Dict({"observation": gym.spaces.Box(0, 255, (3, 36, 36), np.uint8)})
    encoder = te.CNNTstepEncoder(
        space, RL2, cnn_type=cnn_type, channels_first=channels_first, img_features=16, d_output=12
    )
    load_weights(encoder, arrays)
    assert_close(encoder.eval()({"observation": image}, torch.tensor(arrays["rl2"])), arrays["out"])


def test_input_norm_figures_through_the_encoder() -> None:
    """A training forward with a mask updates the statistics first, then normalises with the updated ones."""
    arrays = reference("input_norm")
    space = gym.spaces.Dict({"x": gym.spaces.Box(-1, 1, (4,))})
    encoder = te.FFTstepEncoder(space, gym.spaces.Box(-1, 1, (1,)), d_hidden=8, d_output=8)
    seen = []
    encoder.base.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    for i in range(5):
        x = torch.tensor(arrays[f"x{i}"])
        # padding after the real timesteps, of any value, must not count
        padded = torch.cat([x, torch.full((4, 2, 5), 1e6)], dim=1)
        mask = torch.arange(8).expand(4, 8)[..., None] < 6
        encoder({"x": padded[..., :4]}, padded[..., 4:], mask=mask)
        assert_close(encoder.in_norm.mu, arrays[f"mu{i}"])
        assert_close(encoder.in_norm.nu, arrays[f"nu{i}"])
        assert_close(seen[-1][:, :6], arrays[f"y{i}"])


def test_statistics_move_only_in_training_with_a_mask() -> None:
    """Neither rollouts (evaluation mode) nor a forward without a mask, nor an empty mask, moves them."""
    encoder = te.FFTstepEncoder(VECTORS, RL2, d_hidden=8, d_output=8)
    obs, rl2s = _vectors()
    before = {k: v.clone() for k, v in encoder.named_buffers()}
    mask = torch.ones(2, 4, 1, dtype=torch.bool)
    encoder(obs, rl2s)
    encoder(obs, rl2s, mask=~mask)
    encoder.eval()(obs, rl2s, mask=mask)
    assert all(torch.equal(v, before[k]) for k, v in encoder.named_buffers())
    encoder.train()(obs, rl2s, mask=mask)
    assert not torch.equal(encoder.in_norm.mu, before["in_norm.mu"])


def test_without_normalisation_statistics_move_and_values_pass() -> None:
    """``normalize_inputs = False`` keeps statistics, and the output does not depend on them."""
    encoder = te.FFTstepEncoder(VECTORS, RL2, d_hidden=8, d_output=8, normalize_inputs=False)
    obs, rl2s = _vectors()
    before = encoder(obs, rl2s)
    assert torch.equal(encoder(obs, rl2s, mask=torch.ones(2, 4, 1, dtype=torch.bool)), before)
    assert encoder.in_norm._t.item() == 2.0


@pytest.mark.parametrize("kind", ["ff", "cnn"])
def test_hide_rl2s(kind: str) -> None:
    """Previous rewards and actions do not reach the output when hidden, and do otherwise."""
    cls = te.get_tstep_encoder_cls(kind)
    obs: dict[str, Tensor] = _vectors()[0]
    if kind == "cnn":
        obs = {"observation": torch.randint(0, 256, (2, 4, 36, 36, 3), dtype=torch.uint8)}
    space = VECTORS if kind == "ff" else IMAGE
    for hide in (True, False):
        encoder: Any = cls(space, RL2, hide_rl2s=hide)  # type: ignore[call-arg]
        rl2s = _vectors()[1]
        assert torch.equal(encoder(obs, rl2s), encoder(obs, 3.0 * rl2s)) == hide


class _Own(te.TstepEncoder):
    """A user's encoder: the rl2s that it sees are its output."""

    emb_dim = 5  # type: ignore[assignment]

    def inner_forward(self, obs: Any, rl2s: Tensor, log_dict: Any = None) -> Tensor:
        return rl2s


def test_users_own_encoder_and_hidden_rewards() -> None:
    """The base class hides rewards alone, or all, and leaves its argument as it was."""
    obs, rl2s = _vectors()
    kept = rl2s.clone()
    mask = torch.ones(2, 4, 1, dtype=torch.bool)
    assert torch.equal(_Own(VECTORS, RL2)(obs, rl2s, mask=mask), rl2s)
    no_rewards = _Own(VECTORS, RL2, hide_rewards=True)(obs, rl2s)
    assert (no_rewards[..., 0] == 0).all() and torch.equal(no_rewards[..., 1:], rl2s[..., 1:])
    assert (_Own(VECTORS, RL2, hide_rl2s=True)(obs, rl2s) == 0).all()
    assert torch.equal(rl2s, kept)


def test_specify_obs_keys() -> None:
    """Only the named observations are read; unknown ones get a suggestion."""
    encoder = te.FFTstepEncoder(VECTORS, RL2, d_hidden=8, d_output=8, specify_obs_keys=["b"])
    obs, rl2s = _vectors()
    out = encoder(obs, rl2s)
    assert torch.equal(encoder({**obs, "a": obs["a"] + 1}, rl2s), out)
    assert not torch.equal(encoder({**obs, "b": obs["b"] + 1}, rl2s), out)


def test_auto_scale() -> None:
    """Bounded observations are brought to [-1, 1]; unbounded ones and rl2s pass."""
    space = gym.spaces.Dict(
        {
            "a": gym.spaces.Box(np.array([0.0, -np.inf], np.float32), np.array([255.0, np.inf], np.float32)),
            "b": gym.spaces.Box(0, 10, (1, 1), np.int64),
        }
    )
    encoder = te.FFTstepEncoder(space, RL2, auto_scale=True, normalize_inputs=False)
    seen = []
    encoder.base.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    rl2s = _vectors(1, 2)[1]
    encoder({"a": torch.tensor([[[0.0, 7.0], [255.0, -7.0]]]), "b": torch.tensor([[[[5]], [[10]]]])}, rl2s)
    assert torch.allclose(seen[0][0, :, :3], torch.tensor([[-1.0, 7.0, 0.0], [1.0, -7.0, 1.0]]), atol=1e-6)
    assert torch.equal(seen[0][..., 3:], rl2s)
    assert "_scale" not in encoder.state_dict()


def test_augmentation_is_for_training() -> None:
    """The named share of a training batch is shifted; evaluation never is."""
    torch.manual_seed(0)
    encoder = te.CNNTstepEncoder(IMAGE, RL2, drqv2_aug=True, aug_pct_of_batch=0.5)
    obs = {"observation": torch.randint(0, 256, (4, 2, 36, 36, 3), dtype=torch.uint8)}
    rl2s = torch.zeros(4, 2, 5)
    plain = encoder.eval()(obs, rl2s)
    assert torch.equal(encoder(obs, rl2s), plain)
    shifted = (encoder.train()(obs, rl2s) - plain).abs().amax(dim=(1, 2))
    assert (shifted[:2] > 1e-3).any() and (shifted[2:] < 1e-6).all()


def test_registry_and_gin() -> None:
    """Short names, and a CNN chosen and configured by gin as in the manual."""
    assert set(te.list_registered_tstep_encoders()) >= {"ff", "cnn"}
    assert amago.CNNTstepEncoder is te.CNNTstepEncoder
    with pytest.raises(ConfigurationError, match="unknown timestep encoder 'cn'"):
        te.get_tstep_encoder_cls("cn")
    gin.bind_parameter("amago.nets.tstep_encoders.CNNTstepEncoder.cnn_type", cnn.IMPALAishCNN)
    gin.bind_parameter("IMPALAishCNN.cnn_block_depths", [8, 4])
    encoder = te.CNNTstepEncoder(IMAGE, RL2)
    assert isinstance(encoder.cnn, cnn.IMPALAishCNN)
    assert [block.conv.out_channels for block in encoder.cnn.blocks] == [8, 4]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: te.FFTstepEncoder(VECTORS, RL2, specify_obs_keys=["c"]), "does not observe; known: a, b"),
        (lambda: te.FFTstepEncoder(VECTORS, RL2, specify_obs_keys=[]), "is empty"),
        (lambda: te.FFTstepEncoder(gym.spaces.Dict({"d": gym.spaces.Discrete(3)}), RL2), "is a Discrete"),
        (lambda: te.CNNTstepEncoder(IMAGE, RL2, obs_key="observatio"), "did you mean observation"),
        (lambda: te.CNNTstepEncoder(VECTORS, RL2, obs_key="a"), "three dimensions"),
        (lambda: te.CNNTstepEncoder(IMAGE, RL2, aug_pct_of_batch=75.0), "from 0 to 1"),
        (lambda: te.CNNTstepEncoder(IMAGE, RL2, channels_first=True), "cannot read images of shape"),
    ],
)
def test_impossible_settings(build: Callable[[], Any], message: str) -> None:
    """One line says what is wrong and where."""
    with pytest.raises(ConfigurationError, match=message):
        build()
