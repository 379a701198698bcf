"""The update's pieces read no tensor's value: they trace as one graph, and run for stacked seeds at once."""

import torch
from gymnasium import spaces
from torch.func import functional_call, stack_module_state, vmap

from amago.nets import policy_dists as pd
from amago.nets.actor_critic import Actor, NCritics, NCriticsTwoHot, PopArtLayer
from amago.nets.utils import InputNorm

B, L, G, D, A = 2, 3, 2, 6, 4
GAMMAS = torch.tensor([0.9, 0.99])
DISCRETE = spaces.Discrete(A)


def test_traces_as_one_graph():
    """A graph break, which is what ``.item()`` or a branch on data would cause, is an error here."""
    actor = Actor(D, DISCRETE, GAMMAS, d_hidden=8)
    critics = NCritics(D, DISCRETE, GAMMAS, 2, d_hidden=8)
    bins = NCriticsTwoHot(D, DISCRETE, GAMMAS, 2, d_hidden=8, output_bins=9)
    popart, norm = PopArtLayer(G), InputNorm(D)

    def update(state, mask):
        norm.update_stats(state, mask)
        state = norm(state)
        dist = actor(state)
        value = critics(state, dist.probs.unsqueeze(0), frozen=True)[0].mean(2)
        popart.update_stats(value, mask.unsqueeze(-1))
        one_hot = pd.OneHotActions(dist, 0.5).rsample((3,))
        bin_dist = bins(state, one_hot)
        labels = bins.raw_vals_to_labels(bins.bin_dist_to_raw_vals(bin_dist))
        loss = bins.cross_entropy(bin_dist, labels).mean() + popart(value).mean()
        return loss - pd.stored_log_prob(dist, one_hot[0]).mean()

    torch._dynamo.reset()
    compiled = torch.compile(update, backend="eager", fullgraph=True)
    loss = compiled(torch.randn(B, L, D), torch.ones(B, L, 1, dtype=torch.bool))
    assert torch.isfinite(loss)
    assert popart._t[0].item() == 2.0


def test_stacked_seeds():
    """Many copies of weights in one call give what each copy gives alone."""
    torch.manual_seed(0)
    actors = [Actor(D, DISCRETE, GAMMAS, d_hidden=8) for _ in range(3)]
    critics = [NCriticsTwoHot(D, DISCRETE, GAMMAS, 2, d_hidden=8, output_bins=9) for _ in range(3)]
    state, target = torch.randn(B, L, D), 10.0 * torch.randn(B, L, 1, G, 1)

    def losses(actor, critic, params=None, buffers=None):
        def call(module, tensors, *args):
            return functional_call(module, tensors, args) if tensors else module(*args)

        dist = call(actor, params and params[0], state)
        bins = call(critic, params and (params[1], buffers), state, dist.probs.unsqueeze(0))
        pd.OneHotActions(dist, 0.5).sample((2,))
        return critic.cross_entropy(bins, critic.raw_vals_to_labels(target)).mean()

    actor_params, _ = stack_module_state(actors)
    critic_params, buffers = stack_module_state(critics)
    together = vmap(lambda a, c, b: losses(actors[0], critics[0], (a, c), b), randomness="different")(
        actor_params, critic_params, buffers
    )
    alone = torch.stack([losses(a, c) for a, c in zip(actors, critics, strict=True)])
    torch.testing.assert_close(together, alone)
