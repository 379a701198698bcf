"""Action distributions: the reference's numbers, torch's own distributions, and integrals."""

import math

import gin
import pytest
import torch
from torch import distributions as pyd

from amago.nets import policy_dists as pd
from tests.unit.nets.nets_figures import assert_close, figures

B, L, G, A = 2, 3, 2, 3


@pytest.fixture(autouse=True)
def _fresh():
    torch.manual_seed(0)
    yield
    gin.clear_config()


def _policies():
    return [
        pd.Discrete(A),
        pd.TanhGaussian(A),
        pd.GMM(A, gmm_modes=2),
        pd.Beta(A),
        pd.Multibinary(A),
    ]


def _dist(policy, requires_grad=False):
    vec = torch.randn(B, L, G, policy.input_dimension, requires_grad=requires_grad)
    return vec, policy(vec)


def test_continuous_reference():
    """Log-probabilities and means of TanhGaussian, Beta and GMM."""
    d = figures("distributions")
    gaussian = pd.TanhGaussian(A)(d["tanh_gaussian_params"])
    assert_close(gaussian.log_prob(d["action"]), d["tanh_gaussian_log_prob"])
    assert_close(gaussian.mean, d["tanh_gaussian_mean"])
    beta = pd.Beta(A)(d["beta_params"])
    assert_close(beta.log_prob(d["action"]), d["beta_log_prob"])
    assert_close(beta.mean, d["beta_mean"])
    mixture = pd.GMM(A, gmm_modes=int(d["gmm_modes"]))(d["gmm_params"])
    assert_close(mixture.log_prob(d["action"]), d["gmm_log_prob"])


def test_discrete_reference():
    """Probabilities, entropies and log-probabilities of Discrete and Multibinary."""
    d = figures("distributions")
    discrete = pd.Discrete(4)(d["discrete_logits"])
    assert_close(discrete.probs, d["discrete_probs"])
    assert_close(discrete.entropy(), d["discrete_entropy"])
    assert_close(discrete.log_prob(d["discrete_action"]), d["discrete_log_prob"])
    bits = pd.Multibinary(A)(d["multibinary_params"])
    assert_close(bits.probs, d["multibinary_probs"])
    assert_close(bits.log_prob(d["multibinary_action"]), d["multibinary_log_prob"])


def test_reference_at_the_edges():
    """Actions up to ±1, probabilities beyond the clip, and one-hot actions as critics see them."""
    d = figures("distributions_edges")
    assert_close(pd.TanhGaussian(A)(d["params"]).log_prob(d["action"]), d["tanh_gaussian_log_prob"])
    assert_close(pd.Beta(A)(d["params"]).log_prob(d["action"]), d["beta_log_prob"])
    assert_close(pd.GMM(A, gmm_modes=2)(d["gmm_params"]).log_prob(d["action"]), d["gmm_log_prob"])
    policy = pd.Discrete(4)
    dist = policy(d["discrete_logits"])
    assert_close(dist.probs, d["discrete_probs"])
    assert_close(dist.entropy(), d["discrete_entropy"])
    assert_close(policy.action_from_buffer(d["stored_onehot"]), d["stored_onehot_for_critic"])


def test_discrete_is_torchs_categorical():
    """Log-probabilities, entropy and mode, at logits far beyond the clip too."""
    dist = pd.Discrete(5)(20.0 * torch.randn(B, L, G, 5))
    theirs = pyd.Categorical(probs=dist.probs)
    action = torch.randint(5, (7, B, L, G))
    torch.testing.assert_close(dist.log_prob(action), theirs.log_prob(action))
    torch.testing.assert_close(dist.entropy(), theirs.entropy())
    assert torch.equal(dist.greedy, theirs.mode)
    assert isinstance(dist, pyd.Categorical)


def test_continuous_log_probs_against_torch():
    """Inside the clamp, ours are torch's transformed distributions."""
    action = torch.rand(B, L, G, A) * 1.9 - 0.95
    vec, dist = _dist(pd.TanhGaussian(A))
    loc, std = vec.chunk(2, -1)
    std = pd.tanh_bounded_positive(std, math.exp(-5), math.exp(2))
    theirs = pyd.TransformedDistribution(pyd.Normal(loc, std), pyd.TanhTransform())
    torch.testing.assert_close(dist.log_prob(action), theirs.log_prob(action), rtol=1e-4, atol=1e-4)

    vec, dist = _dist(pd.Beta(A))
    alpha, beta = (pd.softplus_bounded_positive(v, 1.0001) for v in vec.chunk(2, -1))
    theirs = pyd.TransformedDistribution(pyd.Beta(alpha, beta), pyd.AffineTransform(-1.0, 2.0))
    torch.testing.assert_close(dist.log_prob(action), theirs.log_prob(action), rtol=1e-4, atol=1e-4)

    vec, dist = _dist(pd.Multibinary(A))
    bits = torch.randint(2, (B, L, G, A)).float()
    torch.testing.assert_close(dist.log_prob(bits), pyd.Bernoulli(logits=vec).log_prob(bits))


@pytest.mark.parametrize("policy", [pd.TanhGaussian(1), pd.Beta(1), pd.GMM(1, gmm_modes=3)])
def test_densities_integrate_to_one(policy):
    """A density over [-1, 1] whose Jacobian is wrong does not."""
    vec = torch.randn(1, 1, 4, policy.input_dimension)
    n = 200_001
    x = torch.linspace(-0.99, 0.99, n)
    # narrow policies centred well inside, so that no mass lies outside the grid
    vec[..., 0] *= 0.2
    if isinstance(policy, pd.TanhGaussian):
        vec[..., 1] = -0.4
    if isinstance(policy, pd.Beta):
        vec += 8.0
    if isinstance(policy, pd.GMM):
        vec[..., :3] *= 0.2
        vec[..., 3:6] = -2.0
    density = policy(vec).log_prob(x.view(n, 1, 1, 1, 1)).exp()
    integral = torch.trapezoid(density.view(n, -1), x, dim=0)
    torch.testing.assert_close(integral, torch.ones(4), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("policy", _policies(), ids=lambda p: type(p).__name__)
def test_shapes_and_range(policy):
    """Samples, greedy actions and stored log-probabilities have the shapes that agents rely on."""
    _, dist = _dist(policy)
    index = isinstance(policy, pd.Discrete)
    sample, many, greedy = dist.sample(), dist.sample((5,)), pd.greedy_action(dist)
    assert sample.shape == greedy.shape == ((B, L, G) if index else (B, L, G, A))
    assert many.shape == (5, *sample.shape)
    assert sample.dtype == greedy.dtype == (torch.int64 if index else torch.float32)
    assert not sample.requires_grad
    low, high = (0, A - 1) if index else (0, 1) if policy.is_discrete else (-1, 1)
    assert many.min() >= low and many.max() <= high
    stored = torch.nn.functional.one_hot(sample, A).float() if index else sample
    assert pd.stored_log_prob(dist, stored).shape == (B, L, G, 1)
    # one stored action serves all discounts
    assert pd.stored_log_prob(dist, stored[:, :, :1]).shape == (B, L, G, 1)
    assert policy.action_from_buffer(stored).shape == stored.shape


def test_stored_log_prob_over_dimensions():
    """Sum for continuous actions, mean for bits, the category's for discrete; same for torch's own."""
    action = torch.rand(B, L, G, A) * 1.8 - 0.9
    for policy in (pd.TanhGaussian(A), pd.Beta(A)):
        _, dist = _dist(policy)
        torch.testing.assert_close(
            pd.stored_log_prob(dist, action), dist.log_prob(action).sum(-1, keepdim=True)
        )
    _, dist = _dist(pd.Multibinary(A))
    bits = (action > 0).float()
    torch.testing.assert_close(pd.stored_log_prob(dist, bits), dist.log_prob(bits).mean(-1, keepdim=True))
    _, dist = _dist(pd.Discrete(A))
    index = torch.randint(A, (B, L, G))
    one_hot = torch.nn.functional.one_hot(index, A).float()
    for form in (dist, pyd.Categorical(probs=dist.probs), pd.DiscreteLikeContinuous(dist)):
        torch.testing.assert_close(
            pd.stored_log_prob(form, one_hot)[..., 0], dist.log_prob(index), rtol=1e-6, atol=1e-6
        )
    normal = pyd.Normal(torch.zeros(B, L, G, A), 1.0)
    assert pd.stored_log_prob(normal, action).shape == (B, L, G, 1)
    joint = pyd.Independent(normal, 1)
    torch.testing.assert_close(pd.stored_log_prob(joint, action), pd.stored_log_prob(normal, action))
    assert torch.equal(pd.greedy_action(normal), torch.zeros(B, L, G, A))


def test_greedy_actions():
    """tanh of the mean, Beta's mean, the best category, the likelier bit, the likeliest mode."""
    vec, dist = _dist(pd.TanhGaussian(A))
    assert torch.equal(dist.greedy, torch.tanh(vec[..., :A]))
    _, dist = _dist(pd.Beta(A))
    assert torch.equal(dist.greedy, dist.mean)
    vec, dist = _dist(pd.Discrete(A))
    assert torch.equal(dist.greedy, vec.argmax(-1))
    vec, dist = _dist(pd.Multibinary(A))
    assert torch.equal(dist.greedy, (vec > 0).float())
    means = torch.tensor([[-2.0, -1.0, 0.5], [1.0, 2.0, -0.5]])
    vec = torch.cat([means.flatten(), torch.zeros(6), torch.tensor([0.0, 1.0])]).view(1, 1, 1, -1)
    assert torch.equal(pd.GMM(A, gmm_modes=2)(vec).greedy[0, 0, 0], torch.tanh(means[1]))


@pytest.mark.parametrize("policy", _policies(), ids=lambda p: type(p).__name__)
def test_samples_follow_the_distribution(policy):
    """The mean of many samples is the distribution's own, within five standard errors."""
    n = 20_000
    vec = torch.randn(1, 1, 1, policy.input_dimension)
    dist = policy(vec)
    x = dist.sample((n,))
    if isinstance(policy, pd.Discrete):
        x, expected = torch.nn.functional.one_hot(x, A).float(), dist.probs
    elif policy.is_discrete:
        expected = dist.probs
    else:  # by integration; dimensions of a mixture are looked at one at a time
        grid = torch.linspace(-0.98999, 0.98999, 20_001)
        if isinstance(policy, pd.GMM):
            one = pd.GMM(1, gmm_modes=2)
            columns = [torch.cat([vec[..., i:12:3], vec[..., 12:]], -1) for i in range(A)]
            density = torch.cat([one(c).log_prob(grid.view(-1, 1, 1, 1, 1)) for c in columns], -1).exp()
        else:
            density = dist.log_prob(grid.view(-1, 1, 1, 1, 1).expand(-1, 1, 1, 1, A)).exp()
        g = grid.view(-1, 1, 1, 1, 1)
        expected = torch.trapezoid(density * g, grid, dim=0) / torch.trapezoid(density, grid, dim=0)
        inside = (x.abs() < 0.99).float()
        x = (x * inside).sum(0, keepdim=True) / inside.sum(0, keepdim=True)
    torch.testing.assert_close(x.mean(0), expected, rtol=0.0, atol=5.0 / math.sqrt(n))


def test_gradients_through_actions():
    """rsample exists and reaches the actor's output exactly where the policy says so."""
    for policy in _policies():
        if isinstance(policy, pd.Discrete):
            continue
        vec, dist = _dist(policy, requires_grad=True)
        assert dist.has_rsample == policy.actions_differentiable
        if policy.actions_differentiable:
            dist.rsample((4,)).square().sum().backward()
            assert vec.grad is not None and torch.isfinite(vec.grad).all() and vec.grad.abs().sum() > 0
        else:
            with pytest.raises(NotImplementedError):
                dist.rsample()


def test_gradients_of_log_probs_are_finite():
    """At the bounds too, where replayed actions often are."""
    for policy in (pd.TanhGaussian(A), pd.Beta(A), pd.GMM(A, gmm_modes=2)):
        for bound in (-1.0, 1.0):
            vec, dist = _dist(policy, requires_grad=True)
            pd.stored_log_prob(dist, torch.full((B, L, 1, A), bound)).sum().backward()
            assert torch.isfinite(vec.grad).all()


def test_one_hot_samples_with_gradient():
    """Straight-through: exactly one-hot forward, the soft sample's gradient backward."""
    policy = pd.Discrete(A)
    vec, dist = _dist(policy, requires_grad=True)
    like = pd.DiscreteLikeContinuous(dist)
    for x in (like.sample((50,)), like.rsample((50,)).detach(), like.greedy[None]):
        assert x.shape[1:] == (B, L, G, A)
        assert torch.equal(x.sum(-1), torch.ones(x.shape[:-1]))
        assert set(x.unique().tolist()) == {0.0, 1.0}
    weights = torch.randn(A)
    (like.rsample((50,)) * weights).sum().backward(retain_graph=True)
    assert vec.grad.abs().sum() > 0
    frequencies = like.sample((20_000,)).mean(0)
    torch.testing.assert_close(frequencies, dist.probs.detach(), rtol=0.0, atol=0.02)
    torch.manual_seed(1)
    soft = like.rsample((3,))
    torch.manual_seed(1)
    theirs = torch.nn.functional.gumbel_softmax(
        like.logits.expand(3, -1, -1, -1, -1), tau=like.temperature, hard=True
    )
    assert torch.equal(soft.detach(), theirs.detach().round())
    (ours,) = torch.autograd.grad((soft * weights).sum(), vec, retain_graph=True)
    (expected,) = torch.autograd.grad((theirs * weights).sum(), vec)
    torch.testing.assert_close(ours, expected)


def test_log_probs_keep_their_gradient_after_a_look_without():
    """Cached log-probabilities that were first asked for under no_grad must still have a graph."""
    vec, dist = _dist(pd.Discrete(A), requires_grad=True)
    with torch.no_grad():
        dist.log_prob(torch.zeros(B, L, G, dtype=torch.int64))
    dist.log_prob(torch.zeros(B, L, G, dtype=torch.int64)).sum().backward()
    assert vec.grad.abs().sum() > 0


def test_std_activations():
    """Bounds hold at both ends, and the middle of the tanh form is the geometric mean."""
    x = torch.tensor([-100.0, 0.0, 100.0])
    torch.testing.assert_close(pd.tanh_bounded_positive(x, 0.01, 4.0), torch.tensor([0.01, 0.2, 4.0]))
    y = pd.softplus_bounded_positive(x, 0.5, 3.0)
    torch.testing.assert_close(y, torch.tensor([0.5, 0.5 + math.log(2.0), 3.0]))
    assert pd.softplus_bounded_positive(x, 0.5)[2] == 100.5


def test_gin_sets_every_class():
    """Each configurable class takes its keywords from gin and is built with the action size alone."""
    gin.parse_config(
        """
        Discrete.clip_prob_low = 0.1
        Discrete.clip_prob_high = 0.5
        TanhGaussian.std_low = 0.3
        amago.nets.policy_dists.TanhGaussian.clip_actions_on_log_prob = (-0.5, 0.5)
        GMM.gmm_modes = 7
        Beta.alpha_high = 2.0
        DiscreteLikeContinuous.gumbel_softmax_temperature = 0.9
        """
    )
    dist = pd.Discrete(4)(torch.tensor([9.0, 0.0, 0.0, 0.0]))
    torch.testing.assert_close(dist.probs, torch.tensor([0.5, 0.1, 0.1, 0.1]) / 0.8)
    gaussian = pd.TanhGaussian(1)
    assert (gaussian.std_low, gaussian.clip_actions_on_log_prob) == (0.3, (-0.5, 0.5))
    assert pd.GMM(A).input_dimension == 7 * (2 * A + 1)
    assert pd.Beta(1)(torch.tensor([50.0, 50.0])).alpha.item() == 2.0
    assert pd.DiscreteLikeContinuous(dist).temperature == 0.9
    assert pd.Multibinary(3).input_dimension == 3


def test_log_dict_gets_detached_scalars():
    """What is logged must not hold the graph of an update alive."""
    for policy in _policies():
        log = {}
        policy(torch.randn(B, L, G, policy.input_dimension, requires_grad=True), log_dict=log)
        assert log and all(v.ndim == 0 and not v.requires_grad for v in log.values())


def test_discrete_without_bounds_on_padding():
    """The zeros that stand for an action in padding stay finite, as do their gradients."""
    policy = pd.Discrete(3, clip_prob_low=0.0, clip_prob_high=1.0)
    stored = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    assert policy.action_from_buffer(stored).tolist() == stored.tolist()
