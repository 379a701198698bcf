"""Whole losses of AMAGO v3: values, every gradient's norm, and running statistics, to 1e-5."""

from functools import partial

import gin
import pytest
import torch

from amago.agent import Agent, MultiTaskAgent, convert_v3_state_dict, exp_filter
from tests.unit.agent.small_agents import build, figures, gradients, reference_batch

SHARP = {"Discrete.clip_prob_low": 1e-12, "Discrete.clip_prob_high": 1.0}
CASES = {
    "agent_discrete": (Agent, {}, {}),
    "agent_discrete_ensemble": (
        Agent,
        {"online_coeff": 0.7, "offline_coeff": 0.4, "fbc_filter_func": partial(exp_filter, beta=0.5)},
        {},
    ),
    "multitask_discrete": (MultiTaskAgent, {}, SHARP),
}


@pytest.fixture(params=CASES)
def case(request):
    """A file of figures and the agent that it was computed with, weights loaded."""
    cls, settings, config = CASES[request.param]
    for name, value in config.items():
        gin.bind_parameter(name, value)
    d = figures(request.param)
    agent = build(
        cls,
        num_critics=int(d["num_critics"]),
        reward_multiplier=float(d["reward_multiplier"]),
        **settings,
    )
    weights = {k.removeprefix("weights/"): v for k, v in d.items() if k.startswith("weights/")}
    weights["maximized_critics.net.output_layer.bias"] = torch.zeros(1)  # real files have this copy
    agent.load_state_dict(convert_v3_state_dict(weights), strict=True)
    assert torch.allclose(agent.gammas, d["gammas"])
    yield d, agent
    gin.clear_config()


def test_loss_gradients_and_statistics(case):
    """Total, actor and critic loss; the norm of every gradient; buffers after one training forward."""
    d, agent = case
    loss = agent(reference_batch(d), log_step=True)
    loss.backward()
    assert loss.item() == pytest.approx(d["loss"].item(), rel=1e-5)
    assert agent.update_info["Actor Loss"].item() == pytest.approx(d["actor_loss"].item(), rel=1e-5)
    assert agent.update_info["Critic Loss"].item() == pytest.approx(d["critic_loss"].item(), rel=1e-5)
    norms = {k.removeprefix("grad_norm/"): v.item() for k, v in d.items() if k.startswith("grad_norm/")}
    for name, gradient in gradients(agent).items():
        assert gradient.norm().item() == pytest.approx(norms.pop(name, 0.0), rel=1e-5), name
    assert not norms
    after = agent.state_dict()
    for key, value in d.items():
        if key.startswith("buffers_after/"):
            ours = after[key.removeprefix("buffers_after/")]
            assert (ours - value).abs().max() <= 1e-5 * value.abs().max(), key


def test_what_lies_in_padding_does_not_matter(case):
    """The third sequence is shorter; numbers beyond its end change nothing at all."""
    d, agent = case
    losses = []
    for junk in (0.0, 1e6):
        e = {k: v.clone() for k, v in d.items()}
        n = int(d["length"][2])
        e["obs"][2, n + 1 :] = junk
        e["action"][2, n:] = junk
        e["reward"][2, n:] = -junk
        e["done"][2, n:] = junk > 0
        state = {k: v.clone() for k, v in agent.state_dict().items()}
        losses.append(agent(reference_batch(e), log_step=False).item())
        agent.load_state_dict(state)
    assert losses[0] == losses[1] == pytest.approx(d["loss"].item(), rel=1e-5)


def test_import_drops_copies_and_wrappers():
    """Wrapped names are unwrapped; copies and constants that we do not keep are dropped; our own file passes."""
    ours = build().state_dict()
    theirs = {f"module._orig_mod.{k}": v for k, v in ours.items()}
    theirs |= {"maximized_critics.net.inp_layer.weight": torch.zeros(1), "critics.bin_vals": torch.zeros(1)}
    assert convert_v3_state_dict(theirs).keys() == ours.keys()
    assert convert_v3_state_dict(ours) == ours
