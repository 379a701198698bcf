"""Critic ensembles: the reference's values, labels over bins, and weights held fixed."""

import copy

import gin
import pytest
import torch
from gymnasium import spaces

from amago.errors import ConfigurationError
from amago.nets.actor_critic import BaseCriticHead, EnsembleMLP, NCritics, NCriticsTwoHot
from amago.nets.ff import MLP
from tests.unit.nets.nets_figures import assert_close, figures, load_weights

B, L, C, G, A, D, K = 3, 5, 4, 2, 3, 8, 2
GAMMAS = torch.tensor([0.9, 0.99])
BOX = spaces.Box(-1.0, 1.0, (A,))
DISCRETE = spaces.Discrete(A)


@pytest.fixture(autouse=True)
def _fresh():
    torch.manual_seed(0)
    yield
    gin.clear_config()


def _two_hot(**settings):
    return NCriticsTwoHot(
        D, BOX, GAMMAS, 3, d_hidden=16, min_return=-1000, max_return=1000, output_bins=32, **settings
    )


def test_discrete_reference():
    """Values of probability-weighted actions; the reference's parameter names load as they are."""
    d = figures("critics_discrete")
    critics = NCritics(D, DISCRETE, d["gammas"], 3, d_hidden=16)
    load_weights(critics, d)
    assert_close(critics(d["state"], d["action"]), d["out"])
    values = critics.all_action_values(d["state"])
    assert_close((values * d["action"][0].unsqueeze(2)).sum(-1, keepdim=True), d["out"][0])


def test_two_hot_reference():
    """Bins, probabilities over them, and values, for two sampled actions."""
    d = figures("critics_twohot")
    critics = _two_hot()
    load_weights(critics, d)
    assert_close(critics.bin_vals, d["bins"])
    bins = critics(d["state"], d["action"])
    assert_close(bins.probs, d["probs"])
    assert_close(critics.bin_dist_to_raw_vals(bins), d["value"])


def test_label_reference():
    """Two-hot and HL-Gauss labels."""
    d = figures("labels")
    assert_close(_two_hot().bin_vals, d["bins"])
    assert_close(_two_hot().raw_vals_to_labels(d["y"].unsqueeze(-1)), d["twohot"])
    gauss = _two_hot(label_type="hlgauss", sigma=0.75).raw_vals_to_labels(d["y"].unsqueeze(-1))
    torch.testing.assert_close(gauss, d["hlgauss"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("use_symlog", [True, False])
@pytest.mark.parametrize("label_type", ["twohot", "hlgauss"])
def test_labels_round_trip(use_symlog, label_type):
    """A label is a distribution, and its mean is the value that it stands for."""
    critics = _two_hot(use_symlog=use_symlog, label_type=label_type)
    # HL-Gauss loses a little at the ends, where its bell is cut
    y = torch.linspace(-600.0, 600.0, 997).unsqueeze(-1)
    labels = critics.raw_vals_to_labels(y)
    torch.testing.assert_close(labels.sum(-1), torch.ones(997))
    assert labels.min() >= 0.0
    values = critics.bin_dist_to_raw_vals(torch.distributions.Categorical(probs=labels))
    if label_type == "twohot":
        assert (labels > 0).sum(-1).max() <= 2
        torch.testing.assert_close(values, y, rtol=1e-4, atol=1e-3)
    else:
        torch.testing.assert_close(values, y, rtol=0.02, atol=0.05 if use_symlog else 4.0)


def test_labels_at_and_beyond_the_ends():
    """Every bin centre is its own label; all mass is on the end bin beyond the ends."""
    critics = _two_hot(use_symlog=False)
    eye = torch.eye(32)
    torch.testing.assert_close(critics.raw_vals_to_labels(critics.bin_vals.unsqueeze(-1)), eye)
    beyond = critics.raw_vals_to_labels(torch.tensor([[-1e9], [-1000.0], [1000.0], [1e9]]))
    assert torch.equal(beyond, eye[[0, 0, 31, 31]])
    gauss = _two_hot(label_type="hlgauss").raw_vals_to_labels(torch.tensor([[-1e9], [1e9]]))
    torch.testing.assert_close(gauss.sum(-1), torch.ones(2))
    assert gauss.argmax(-1).tolist() == [0, 31]


def test_cross_entropy_is_least_at_the_label():
    """Against torch's, with labels shared by all critics."""
    critics = _two_hot()
    bins = critics(torch.randn(B, L, D), torch.rand(K, B, L, G, A))
    labels = critics.raw_vals_to_labels(100.0 * torch.randn(B, L, 1, G, 1))
    ours = critics.cross_entropy(bins, labels)
    assert ours.shape == (K, B, L, 3, G, 1)
    theirs = torch.nn.functional.cross_entropy(
        bins.logits.flatten(0, -2), labels.expand_as(bins.logits).flatten(0, -2), reduction="none"
    )
    torch.testing.assert_close(ours.flatten(), theirs)


def test_initial_value():
    """``init_value`` starts every critic near that return; the output bias is a bell four bins wide."""
    critics = NCriticsTwoHot(
        D, BOX, GAMMAS, C, min_return=-1000, max_return=1000, output_bins=129, init_value=10.0
    )
    with torch.no_grad():
        critics.net.output_layer.weight.zero_()
    bins = critics(torch.randn(B, L, D), torch.rand(K, B, L, G, A))
    values = critics.bin_dist_to_raw_vals(bins)
    torch.testing.assert_close(values, torch.full_like(values, 10.0), rtol=0.02, atol=0.0)
    z = torch.log1p(torch.tensor(10.0))
    spread = (bins.probs * (critics.bin_vals - z).square()).sum(-1).sqrt() / critics.bin_width
    torch.testing.assert_close(spread, torch.full_like(spread, 4.0), rtol=0.02, atol=0.0)


def test_members_are_separate_networks():
    """An ensemble is C perceptrons: member c's values are those of an ordinary MLP with its weights."""
    net = EnsembleMLP(C, D, 16, 3, 7, activation="gelu")
    x = torch.randn(B, L, D)
    out = net(x)
    assert out.shape == (B, L, C, 7)
    for c in range(C):
        single = MLP(D, 16, 3, 7, activation="gelu")
        pairs = [
            (single.in_layer, net.inp_layer),
            *zip(single.layers, net.core_layers, strict=True),
            (single.out_layer, net.output_layer),
        ]
        with torch.no_grad():
            for ours, theirs in pairs:
                ours.weight.copy_(theirs.weight[c].T)
                ours.bias.copy_(theirs.bias[0, 0, c])
        torch.testing.assert_close(out[:, :, c], single(x))


@pytest.mark.parametrize("space", [BOX, spaces.MultiBinary(A)])
def test_continuous_input_order(space):
    """[state, symlog(1 / (1 - gamma)), clamped action], although the state is only multiplied once."""
    critics = NCritics(D, space, GAMMAS, C, d_hidden=16)
    state, action = torch.randn(B, L, D), 2.0 * torch.rand(K, B, L, G, A) - 1.0
    action[0, 0] = 1.0
    gamma = torch.log1p(1.0 / (1.0 - GAMMAS)).view(G, 1)
    plain = torch.cat(
        [
            state[None, :, :, None].expand(K, -1, -1, G, -1),
            gamma.expand(K, B, L, -1, -1),
            action.clamp(-0.999, 0.999),
        ],
        dim=-1,
    )
    expected = critics.net(plain).movedim(-2, -3)  # (K, B, L, C, G, 1)
    out = critics(state, action)
    assert out.shape == (K, B, L, C, G, 1)
    torch.testing.assert_close(out, expected)


def _critics(kind):
    if kind == "discrete":
        return NCritics(D, DISCRETE, GAMMAS, C, d_hidden=16)
    if kind == "continuous":
        return NCritics(D, BOX, GAMMAS, C, d_hidden=16)
    return _two_hot()


def _scalar(critics, out):
    value = out if isinstance(out, torch.Tensor) else critics.bin_dist_to_raw_vals(out)
    return value.square().sum()


@pytest.mark.parametrize("kind", ["discrete", "continuous", "twohot"])
def test_frozen_weights(kind):
    """Held fixed: the same value and the same gradient of state and action, none of weights."""
    critics = _critics(kind)
    state = torch.randn(B, L, D, requires_grad=True)
    action = (0.9 * torch.rand(K, B, L, G, A)).requires_grad_()
    free, held = critics(state, action), critics(state, action, frozen=True)
    expected = torch.autograd.grad(_scalar(critics, free), [state, action])
    before = copy.deepcopy(critics.state_dict())
    _scalar(critics, held).backward()
    assert_close(_scalar(critics, held).detach(), _scalar(critics, free).detach(), tolerance=1e-7)
    torch.testing.assert_close([state.grad, action.grad], list(expected))
    assert all(p.grad is None and p.requires_grad for p in critics.parameters())
    assert all(torch.equal(before[k], v) for k, v in critics.state_dict().items())
    _scalar(critics, critics(state, action)).backward()
    assert all(p.grad is not None for p in critics.parameters())


def test_frozen_all_action_values():
    """The one-pass form, frozen, as the online term of discrete actions may use it."""
    critics = _critics("discrete")
    state = torch.randn(B, L, D, requires_grad=True)
    free = critics.all_action_values(state)
    assert free.shape == (B, L, C, G, A)
    (expected,) = torch.autograd.grad(free.square().sum(), state)
    held = critics.all_action_values(state, frozen=True)
    held.square().sum().backward()
    assert torch.equal(held, free)
    torch.testing.assert_close(state.grad, expected)
    assert all(p.grad is None for p in critics.parameters())


def test_a_users_critic_can_be_frozen():
    """A subclass only writes ``critic_network_forward``; freezing works without its help."""

    class Mine(BaseCriticHead):
        def __init__(self, state_dim, action_space, gammas, num_critics):
            super().__init__(state_dim, action_space, gammas, num_critics)
            self.layer = torch.nn.Linear(state_dim + self.action_dim, num_critics)

        def critic_network_forward(self, state, action, log_dict=None):
            x = state[None, :, :, None].expand(*action.shape[:-1], -1)
            return self.layer(torch.cat([x, action], -1)).movedim(-1, -2).unsqueeze(-1)

    critics = Mine(D, BOX, GAMMAS, C)
    state = torch.randn(B, L, D, requires_grad=True)
    out = critics(state, torch.rand(K, B, L, G, A), frozen=True)
    assert out.shape == (K, B, L, C, G, 1)
    out.sum().backward()
    assert critics.layer.weight.grad is None and state.grad is not None


def test_dropout_only_in_training():
    """``dropout_p`` follows every hidden layer of the ensemble, and evaluation has none."""
    deep, calls = EnsembleMLP(C, D, 16, 3, 7, dropout_p=0.5), []
    deep.dropout.register_forward_hook(lambda *call: calls.append(call))
    deep(torch.randn(B, L, D))
    assert len(calls) == 3
    critics = NCritics(D, DISCRETE, GAMMAS, C, dropout_p=0.5)
    x = torch.randn(B, L, D)
    assert not torch.equal(critics.all_action_values(x), critics.all_action_values(x))
    critics.eval()
    assert torch.equal(critics.all_action_values(x), critics.all_action_values(x))


def test_policy_files_hold_no_settings():
    """Bins and discounts come from settings: a policy file has the network's parameters alone."""
    for kind in ("discrete", "continuous", "twohot"):
        assert all(k.startswith("net.") for k in _critics(kind).state_dict())


def test_gin_and_impossible_settings():
    """Both classes are built by position and take keywords from gin; nonsense is refused by name."""
    gin.parse_config(
        """
        amago.nets.actor_critic.NCritics.d_hidden = 12
        NCriticsTwoHot.output_bins = 9
        NCriticsTwoHot.use_symlog = False
        """
    )
    assert NCritics(D, BOX, GAMMAS, C).net.inp_layer.weight.shape == (C, D + 1 + A, 12)
    two_hot = NCriticsTwoHot(D, DISCRETE, GAMMAS, C)
    assert two_hot.net.inp_layer.weight.shape[1] == D + 1 + A
    torch.testing.assert_close(two_hot.bin_vals, torch.linspace(-1e5, 1e5, 9))
    for settings in ({"label_type": "one"}, {"min_return": 3, "max_return": 3}, {"n_layers": 0}):
        with pytest.raises(ConfigurationError):
            NCriticsTwoHot(D, BOX, GAMMAS, C, **settings)
    with pytest.raises(ConfigurationError, match="num_critics"):
        NCritics(D, BOX, GAMMAS, 0)


@pytest.mark.parametrize("use_symlog", [True, False])
def test_values_of_bins_are_whole_under_half_precision(use_symlog: bool) -> None:
    """A sum over bins in bfloat16 would be wrong by percents; only the networks compute in it."""
    critics = NCriticsTwoHot(D, DISCRETE, GAMMAS, C, use_symlog=use_symlog)
    bins = torch.distributions.Categorical(logits=4.0 * torch.randn(K, B, L, C, G, 128))
    whole = critics.bin_dist_to_raw_vals(bins)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(critics.bin_dist_to_raw_vals(bins), whole)
