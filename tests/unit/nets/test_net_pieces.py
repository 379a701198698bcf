"""Squashing, activations, Adam-Rel, feed-forward pieces and goal embedders."""

import math

import gin
import numpy as np
import pytest
import torch
from torch import nn

from amago.errors import ConfigurationError
from amago.nets import ff
from amago.nets.goal_embedders import FFGoalEmb, TokenGoalEmb
from amago.nets.utils import (
    AdamWRel,
    SlowAdaptiveRational,
    activation_switch,
    add_activation_log,
    symexp,
    symlog,
)
from tests.unit.nets.nets_figures import assert_close, figures


@pytest.fixture(autouse=True)
def _fresh():
    torch.manual_seed(0)
    yield
    gin.clear_config()


def test_symlog_reference():
    """symlog, and the way back."""
    d = figures("labels")
    assert_close(symlog(d["x"]), d["symlog"])
    assert_close(symexp(symlog(d["x"])), d["symexp"])
    assert torch.equal(symlog(torch.zeros(2)), torch.zeros(2))
    assert symlog(-3.0) == pytest.approx(-math.log(4)) and symexp(symlog(-3.0)) == pytest.approx(-3.0)


def test_activations_are_logged_for_networks_that_ask():
    """Four numbers of a layer's output, without its gradient; nothing where nobody listens."""
    x = torch.tensor([[1.0, -2.0], [4.0, 1.0]], requires_grad=True)
    log = {}
    add_activation_log("mine", x, log)
    assert {k: float(v) for k, v in log.items()} == pytest.approx(
        {
            "activation-mine-max": 4.0,
            "activation-mine-min": -2.0,
            "activation-mine-mean": 1.0,
            "activation-mine-std": math.sqrt(4.5),
        }
    )
    assert not any(v.requires_grad for v in log.values())
    add_activation_log("mine", x)


def test_activations_by_name():
    """Every name works elementwise; a wrong one is answered with the nearest."""
    x = torch.randn(4, 5)
    for name in ("leaky_relu", "relu", "gelu", "tanh", "silu", "swish", "elu", "selu", "softplus", "sigmoid"):
        assert activation_switch(name)(x).shape == x.shape
    assert activation_switch("leaky_relu")(torch.tensor(-1.0)).item() == pytest.approx(-0.01)
    assert torch.equal(activation_switch(torch.sin)(x), torch.sin(x))
    with pytest.raises(ConfigurationError, match="leaky_relu"):
        activation_switch("leakyrelu")


def test_adaptive_activation():
    """Starts near the leaky ReLU, has no poles, learns slowly, and is part of the network it is in."""
    x = torch.linspace(-3, 3, 1001)
    act = SlowAdaptiveRational()
    assert (act(x) - nn.functional.leaky_relu(x)).abs().max() < 0.04
    assert torch.isfinite(act(torch.linspace(-1e3, 1e3, 1001))).all()
    network = ff.MLP(3, 8, 2, 1, activation="adaptive")
    assert {"activation.p_offset", "activation.q_offset"} <= dict(network.named_parameters()).keys()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    # at 0 the quotient is its first coefficient
    before = network.activation(torch.zeros(1)).item()
    network(torch.randn(16, 3)).square().mean().backward()
    optimizer.step()
    moved = abs(network.activation(torch.zeros(1)).item() - before)
    assert moved == pytest.approx(1e-3, rel=1e-2)  # a tenth of what a weight moves by
    gin.parse_config("SlowAdaptiveRational.trainable = False")
    assert not any(p.requires_grad for p in activation_switch("adaptive").parameters())


def _steps(optimizer, parameter, gradients):
    for g in gradients:
        parameter.grad = torch.full_like(parameter, g)
        optimizer.step()


def test_adam_rel_is_adamw_until_reset():
    """Then the next step is corrected as a first one, with the moments that there were."""
    a, b = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    rel = AdamWRel([a], lr=0.1, weight_decay=0.01)
    plain = torch.optim.AdamW([b], lr=0.1, weight_decay=0.01)
    gradients = [1.0, -0.5, 2.0]
    _steps(rel, a, gradients)
    _steps(plain, b, gradients)
    assert torch.equal(a, b)
    rel.reset_timesteps()
    m, v, before = rel.state[a]["exp_avg"][0].item(), rel.state[a]["exp_avg_sq"][0].item(), a[0].item()
    _steps(rel, a, [5.0])
    m, v = 0.9 * m + 0.1 * 5.0, 0.999 * v + 0.001 * 25.0
    step = (m / 0.1) / ((v / 0.001) ** 0.5 + 1e-8)
    assert a[0].item() == pytest.approx(before * (1 - 0.1 * 0.01) - 0.1 * step, rel=1e-5)


def test_adam_rel_resets_by_itself_and_resumes():
    """``reset_every`` counts in the saved state: a resumed optimiser goes on as if never stopped."""
    gradients = [1.0, -0.5, 2.0, 1.5, 0.3, -2.0, 0.7]
    a, b = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    whole = AdamWRel([a], lr=0.1, reset_every=3)
    _steps(whole, a, gradients)
    by_hand = AdamWRel([b], lr=0.1)
    for start in range(0, 7, 3):
        by_hand.reset_timesteps()
        _steps(by_hand, b, gradients[start : start + 3])
    assert torch.equal(a, b)
    c = nn.Parameter(torch.ones(3))
    first = AdamWRel([c], lr=0.1, reset_every=3)
    _steps(first, c, gradients[:4])
    second = AdamWRel([c], lr=0.1, reset_every=3)
    second.load_state_dict(first.state_dict())
    _steps(second, c, gradients[4:])
    assert torch.equal(a, c)
    with pytest.raises(ConfigurationError):
        AdamWRel([c], reset_every=0)


def test_normalization_by_name():
    """Each is what it says, its parameter is at ``norm.weight``, and a wrong name is refused."""
    x = 3.0 * torch.randn(4, 5, 16) + 1.0
    layer = ff.Normalization("layer", 16)(x)
    torch.testing.assert_close(layer.mean(-1), torch.zeros(4, 5), atol=1e-5, rtol=0.0)
    torch.testing.assert_close(layer.var(-1, correction=0), torch.ones(4, 5), atol=1e-3, rtol=0.0)
    rms = ff.Normalization("rmsnorm", 16)(x)
    torch.testing.assert_close(rms, x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt())
    groups = ff.Normalization("simnorm", 16)(x).unflatten(-1, (2, 8))
    torch.testing.assert_close(groups.sum(-1), torch.ones(4, 5, 2))
    batch = ff.Normalization("batch", 16)(x)
    torch.testing.assert_close(batch.mean((0, 1)), torch.zeros(16), atol=1e-5, rtol=0.0)
    for name in ("none", None):
        assert torch.equal(ff.Normalization(name, 16)(x), x)
    for name in ("layer", "rmsnorm"):
        assert "norm.weight" in ff.Normalization(name, 16).state_dict()
    with pytest.raises(ConfigurationError, match="rmsnorm"):
        ff.Normalization("rms", 16)
    gin.parse_config("SimNorm.dim = 4")
    assert ff.SimNorm()(x).unflatten(-1, (4, 4)).sum(-1).allclose(torch.ones(4, 5, 4))
    with pytest.raises(ConfigurationError, match="multiple"):
        ff.Normalization("simnorm", 18)


def test_ff_block_order():
    """x + act(norm2(ff2(act(norm1(ff1 x)))))."""
    block = ff.FFBlock(6, 12, norm="layer", activation="gelu")
    x = torch.randn(3, 6)
    h = nn.functional.gelu(block.norm1(block.ff1(x)))
    torch.testing.assert_close(block(x), x + nn.functional.gelu(block.norm2(block.ff2(h))))


def test_mlp_reference_names_and_order():
    """The reference's names load; hidden layers are linear, norm, activation; the output is bare."""
    d = figures("agent_discrete")
    prefix = "weights/tstep_encoder.base."
    mlp = ff.MLP(8, 16, 2, 12)
    mlp.load_state_dict({k.removeprefix(prefix): v for k, v in d.items() if k.startswith(prefix)})
    mlp = ff.MLP(8, 16, 2, 12, normalization="layer", activation="tanh")
    x = torch.randn(3, 8)
    h = torch.tanh(mlp.norms[0](mlp.in_layer(x)))
    h = torch.tanh(mlp.norms[1](mlp.layers[0](h)))
    torch.testing.assert_close(mlp(x), mlp.out_layer(h))
    with pytest.raises(ConfigurationError, match="n_layers"):
        ff.MLP(8, 16, 0, 12)


@pytest.mark.parametrize(
    "dropout_of", [lambda p: ff.MLP(8, 64, 2, 8, dropout_p=p), lambda p: ff.FFBlock(8, 64, p)]
)
def test_dropout_only_in_training(dropout_of):
    """And a custom layer type is used throughout."""
    network, x = dropout_of(0.5), torch.randn(3, 8)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))
    made = []
    ff.MLP(8, 16, 3, 4, layer_type=lambda i, o: made.append((i, o)) or nn.Linear(i, o))
    assert made == [(8, 16), (16, 16), (16, 16), (16, 4)]


@pytest.mark.parametrize("embedder_type", [FFGoalEmb, TokenGoalEmb])
def test_goal_embedders(embedder_type):
    """Shapes, dependence on every goal, gradients, and the switch that hides goals."""
    goals = torch.randint(-5, 6, (2, 4, 3, 2))
    embedder = embedder_type(3, 2, goal_emb_dim=7)
    out = embedder(goals)
    assert out.shape == (2, 4, 7)
    for i in range(3):
        other = goals.clone()
        other[:, :, i] += 1
        assert not torch.allclose(embedder(other), out)
    out.sum().backward()
    assert all(p.grad is not None for p in embedder.parameters())
    hidden = embedder_type(3, 2, zero_embedding=True)(goals)
    assert torch.equal(hidden, torch.zeros(2, 4, 32))


def test_token_order_and_range():
    """Goals are a sequence, not a set; tokens beyond the range count as its ends."""
    embedder = TokenGoalEmb(2, 1, min_token=np.float32(-2), max_token=np.int64(2))  # as spaces have them
    ab, ba = torch.tensor([[[[1], [2]]]]), torch.tensor([[[[2], [1]]]])
    assert not torch.allclose(embedder(ab), embedder(ba))
    assert torch.equal(embedder(torch.full((1, 1, 2, 1), 99)), embedder(torch.full((1, 1, 2, 1), 2)))
    with pytest.raises(ConfigurationError):
        TokenGoalEmb(2, 1, min_token=3, max_token=2)
