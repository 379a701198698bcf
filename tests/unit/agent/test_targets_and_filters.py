"""n-step targets and advantage filters against the reference and against plain loops."""

import pytest
import torch

from amago.agent import binary_filter, exp_filter, leaky_relu_filter, n_step_targets
from tests.unit.agent.small_agents import figures


def slow_target(r, d, v, gamma, length, t, n):
    """One n-step target of one sequence (plain numbers), from the definition."""
    total, discount = 0.0, 1.0
    for k in range(t, min(t + n, length)):
        total += discount * r[k]
        discount *= gamma
        if d[k]:
            return total
        last = k
    return total + discount * v[last]


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_n_step_reference(n):
    """Every valid step has the reference's target."""
    d = figures("nstep")
    ours = n_step_targets(
        d["reward"], d["done"], d["next_value"], d["gamma"][None, None, None, :, None], d["mask"], n
    )
    valid = d["mask"].bool().expand_as(ours)
    theirs = d[f"target_n{n}"]
    assert (ours - theirs)[valid].abs().max() <= 1e-5 * theirs[valid].abs().max()


@pytest.mark.parametrize("n", [1, 2, 4, 20])
def test_n_step_equals_loops(n):
    """Cuts at terminations, at the last valid step and at the end, for many random sequences."""
    torch.manual_seed(n)
    b, length, gammas = 6, 10, torch.tensor([0.5, 0.9])
    lengths = [10, 9, 1, 5, 10, 2]
    r = torch.randn(b, length, 1, 1, dtype=torch.float64)
    v = torch.randn(b, length, 2, 1, dtype=torch.float64)
    done = torch.rand(b, length, 1, 1) < 0.2
    mask = (torch.arange(length)[None] < torch.tensor(lengths)[:, None])[..., None, None]
    r, v = torch.where(mask, r, 1e6), torch.where(mask, v, -1e6)
    ours = n_step_targets(r, done, v, gammas[:, None].double(), mask, n)
    for i, stop in enumerate(lengths):
        for t in range(stop):
            for g, gamma in enumerate(gammas.double().tolist()):
                rewards, ends = r[i, :, 0, 0].tolist(), done[i, :, 0, 0].tolist()
                want = slow_target(rewards, ends, v[i, :, g, 0].tolist(), gamma, stop, t, n)
                assert ours[i, t, g, 0].item() == pytest.approx(want, rel=1e-12, abs=1e-12)


def test_filter_references():
    """The three filters at their defaults and with other settings, edges included."""
    d, e = figures("filters"), figures("filters_edges")
    beta, slope = float(e["exp_beta"]), float(e["leaky_beta"])
    pairs = [
        (binary_filter(d["advantage"]), d["binary"]),
        (exp_filter(d["advantage"]), d["exp"]),
        (leaky_relu_filter(d["advantage"]), d["leaky_relu"]),
        (binary_filter(e["advantage"], threshold=float(e["binary_threshold"])), e["binary"]),
        (exp_filter(e["advantage"], beta=beta, clip_adv_high=20.0, clip_weights_high=500.0), e["exp"]),
        (leaky_relu_filter(e["advantage"], beta=slope), e["leaky_relu"]),
    ]
    for ours, theirs in pairs:
        assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


def test_filter_order_of_operations():
    """Strict threshold; advantage clipped before exp; the leaky filter adds its bonus after clipping."""
    zero = torch.zeros(1)
    assert binary_filter(zero) == 0 and exp_filter(torch.tensor(-1e4)) == pytest.approx(1e-7)
    assert exp_filter(torch.tensor(9.0), clip_adv_high=0.0) == 1.0
    assert leaky_relu_filter(zero).item() == pytest.approx(0.01)
    assert leaky_relu_filter(torch.tensor([1e6])).item() == pytest.approx(11.0)
    assert leaky_relu_filter(torch.tensor([1e6]), add_binary=False).item() == pytest.approx(10.0)
