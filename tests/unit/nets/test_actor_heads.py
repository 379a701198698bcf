"""Actors: shapes, discounts, policy by action space, and what a user may override."""

import gin
import pytest
import torch
from gymnasium import spaces

from amago.errors import ConfigurationError
from amago.nets import policy_dists as pd
from amago.nets.actor_critic import Actor, BaseActorHead, ResidualActor
from tests.unit.nets.nets_figures import figures

B, L, G, D = 2, 4, 3, 6
GAMMAS = torch.tensor([0.9, 0.99, 0.999])
SPACES = {
    "discrete": (spaces.Discrete(5), pd.Discrete, (B, L, G)),
    "bits": (spaces.MultiBinary(5), pd.Multibinary, (B, L, G, 5)),
    "box": (spaces.Box(-1.0, 1.0, (5,)), pd.TanhGaussian, (B, L, G, 5)),
}


@pytest.fixture(autouse=True)
def _fresh():
    torch.manual_seed(0)
    yield
    gin.clear_config()


@pytest.mark.parametrize("actor_type", [Actor, ResidualActor])
@pytest.mark.parametrize("kind", SPACES)
def test_policies_by_space(actor_type, kind):
    """The action space chooses the policy; one sample for every discount."""
    space, policy, shape = SPACES[kind]
    actor = actor_type(D, space, GAMMAS)
    assert type(actor.policy_dist) is policy and actor.num_gammas == G
    assert actor.actions_differentiable == policy(5).actions_differentiable
    log = {}
    dist = actor(torch.randn(B, L, D), log_dict=log)
    assert dist.sample().shape == shape and log
    params = actor.actor_network_forward(torch.randn(B, L, D))
    assert params.shape == (B, L, G, actor.policy_dist.input_dimension)


def test_discounts_are_the_slow_axis():
    """Output rows are ordered (G, P), as in the reference's weights."""
    d = figures("agent_discrete")
    prefix = "weights/actor."
    weights = {k.removeprefix(prefix): v for k, v in d.items() if k.startswith(prefix)}
    actor = Actor(20, spaces.Discrete(3), d["gammas"], d_hidden=16)
    actor.load_state_dict(weights, strict=True)
    x = torch.randn(B, L, 20)
    params = actor.actor_network_forward(x)
    assert torch.equal(params.flatten(-2), actor.base(x))


def test_other_distributions_by_gin():
    """Keywords come from gin alone: the library passes state size, space and discounts."""
    gin.parse_config("Actor.d_hidden = 32\nResidualActor.residual_blocks = 3")
    gin.bind_parameter("Actor.continuous_dist_type", pd.Beta)
    actor = Actor(D, SPACES["box"][0], GAMMAS)
    assert isinstance(actor.policy_dist, pd.Beta)
    assert actor.base.in_layer.out_features == 32
    assert len(ResidualActor(D, SPACES["box"][0], GAMMAS).blocks) == 3


def test_a_users_head_gets_observations():
    """``straight_from_obs`` arrives where a subclass can use it."""

    class Biased(BaseActorHead):
        def __init__(self, state_dim, action_space, gammas):
            super().__init__(state_dim, action_space, gammas, pd.TanhGaussian)

        def actor_network_forward(self, state, log_dict=None, straight_from_obs=None):
            legal = straight_from_obs["legal"]
            return (legal.log()).unsqueeze(2).expand(-1, -1, self.num_gammas, -1)

    legal = torch.tensor([1.0, 0.0, 1.0, 0.0, 0.0]).expand(B, L, 5)
    dist = Biased(D, spaces.Discrete(5), GAMMAS)(torch.randn(B, L, D), straight_from_obs={"legal": legal})
    assert dist.probs[0, 0, 0].argsort(descending=True)[:2].sort().values.tolist() == [0, 2]


def test_unsupported_space():
    """The error names the space and what would do."""
    with pytest.raises(ConfigurationError, match="Discrete, MultiBinary or Box"):
        Actor(D, spaces.Text(3), GAMMAS)
