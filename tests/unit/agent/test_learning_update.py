"""What the update computes: targets, statistics, routes of gradients, masks, target networks."""

import gin
import pytest
import torch
from torch.func import functional_call

from amago.agent import Agent, MultiTaskAgent
from amago.agent.base import masked_mean
from amago.errors import ConfigurationError
from amago.nets import actor_critic as ac
from amago.nets import policy_dists
from tests.unit.agent.small_agents import (
    ACTION_SPACES,
    build,
    loss_and_gradients,
    make_batch,
    spread_targets,
)

KINDS = [(cls, space) for cls in (Agent, MultiTaskAgent) for space in ACTION_SPACES]


@pytest.fixture(autouse=True)
def _fresh():
    torch.manual_seed(0)
    yield
    gin.clear_config()


def targets_of(agent, batch):
    """The TD targets (B, L, G) that an update hands to PopArt."""
    caught = []
    torch.manual_seed(0)
    update, agent.popart.update_stats = agent.popart.update_stats, lambda y, mask: caught.append(y)
    agent(batch, log_step=False)
    agent.popart.update_stats = update
    return caught[0].squeeze(-1)


# -- targets -------------------------------------------------------------------------------------


@pytest.mark.parametrize("online_coeff", [0.0, 1.0])
def test_discrete_targets_equal_loops(online_coeff):
    """y = m r + gamma (1 - d) R_c [sum_a pi(a) Q(a)], un-normalised with the statistics from before."""
    agent, batch = build(num_critics=1 if online_coeff else 3, online_coeff=online_coeff), make_batch()
    spread_targets(agent)
    ours = targets_of(agent, batch)
    with torch.no_grad():
        state = agent.traj_encoder(agent.tstep_encoder(batch.obs, batch.rl2s), batch.time_idxs)[0]
        probs = agent.target_actor(state).probs
        q = agent.target_critics.all_action_values(state)
    p = agent.popart
    for b, t in batch.mask[..., 0].nonzero().tolist():
        for g, gamma in enumerate((0.9, 0.97, 0.99)):
            expected = [
                sum(float(probs[b, t + 1, g, a] * q[b, t + 1, c, g, a]) for a in range(3))
                for c in range(q.shape[2])
            ]
            raw = sum(expected) / len(expected)  # one critic, or the mean of three
            value = (float(p.w[g]) * raw + float(p.b[g])) * float(p.sigma[g]) + float(p.mu[g])
            alive = 0.0 if batch.dones[b, t, 0] else 1.0
            want = 10.0 * float(batch.rews[b, t, 0]) + gamma * alive * value
            assert float(ours[b, t, g]) == pytest.approx(want, rel=1e-4, abs=1e-4)


def test_random_subset_of_target_critics():
    """The minimum of two members of two, with replacement: the smaller one in three of four draws."""
    agent = build(num_critics=2, num_critics_td=2)
    values = torch.stack((torch.zeros(40, 50, 5), torch.ones(40, 50, 5)), 2)
    low = (agent._reduce_ensemble(values) == 0).float().mean().item()
    assert low == pytest.approx(0.75, abs=0.02)
    agent.num_critics_td = 30
    assert agent._reduce_ensemble(values).max() == 0


def test_n_step_uses_the_sequence():
    """With n_step=3 a target sees later rewards; with 1 it does not."""
    short, long = build(n_step=1), build(n_step=3)
    long.load_state_dict(short.state_dict())
    batch = make_batch()
    batch.dones[:] = False
    one, three = targets_of(short, batch), targets_of(long, batch)
    batch.rews[:, 2] += 1.0  # rl2s unchanged, so states are
    d_one = targets_of(short, batch) - one
    d_three = targets_of(long, batch) - three
    assert d_one[:, :2].abs().max() < 1e-5 and d_three[0, 0].abs().max() > 0.1
    want = 10.0 * torch.tensor([0.9, 0.97, 0.99]) ** 2
    assert torch.allclose(d_three[0, 0], want, rtol=1e-4)


# -- gradients -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("cls", "space"), KINDS)
def test_every_kind_learns(cls, space):
    """Finite loss and gradients for all trainable parameters; targets never have one."""
    agent = build(cls, space, offline_coeff=1.0)
    loss, grads = loss_and_gradients(agent, make_batch(space))
    assert torch.isfinite(loss) and all(torch.isfinite(g).all() for g in grads.values())
    trainable = {id(p) for p in agent.trainable_params}
    for name, p in agent.named_parameters():
        assert (id(p) in trainable) != name.startswith("target_"), name
        assert name.startswith("target_") == (p.grad is None), name


@pytest.mark.parametrize(("cls", "space"), KINDS)
def test_critic_loss_reaches_encoders_not_actor(cls, space):
    """Alone, it moves critics and encoders only."""
    agent = build(cls, space, online_coeff=1e-30, offline_coeff=0.0)
    _, grads = loss_and_gradients(agent, make_batch(space))
    size = {m: sum(g.abs().sum() for n, g in grads.items() if n.startswith(m)) for m in MODULES}
    assert size["actor"] < 1e-6
    assert min(size["critics"], size["tstep_encoder"], size["traj_encoder"]) > 1e-4


MODULES = ("tstep_encoder", "traj_encoder", "actor", "critics")


@pytest.mark.parametrize(("cls", "space"), KINDS)
@pytest.mark.parametrize("terms", [{"online_coeff": 1.0, "offline_coeff": 0.0}, {"offline_coeff": 1.0}])
def test_actor_terms_do_not_move_critics(cls, space, terms):
    """Both reach the actor and, through the policy, the encoders; critics' weights stay fixed."""
    terms = {"online_coeff": 0.0, **terms}
    agent = build(cls, space, critic_loss_weight=0.0, fbc_filter_func=torch.ones_like, **terms)
    _, grads = loss_and_gradients(agent, make_batch(space))
    size = {m: sum(g.abs().sum() for n, g in grads.items() if n.startswith(m)) for m in MODULES}
    assert size["critics"] == 0
    assert min(size["actor"], size["tstep_encoder"], size["traj_encoder"]) > 0


@pytest.mark.parametrize(("cls", "space"), KINDS)
def test_online_term_does_not_reach_the_state_through_q(cls, space):
    """With a policy that ignores the state, the online term leaves the encoders alone."""
    agent = build(cls, space, online_coeff=1.0, offline_coeff=0.0, critic_loss_weight=0.0)
    with torch.no_grad():
        agent.actor.base.in_layer.weight.zero_()
    _, grads = loss_and_gradients(agent, make_batch(space))
    assert sum(g.abs().sum() for n, g in grads.items() if "encoder" in n) == 0
    assert grads["actor.base.out_layer.bias"].abs().sum() > 0


def test_online_term_takes_the_least_critic():
    """- min_c popart(sum_a pi(a) Q_c(a)), mean over valid steps and discounts."""
    agent, batch = build(online_coeff=1.0, offline_coeff=0.0, critic_loss_weight=0.0), make_batch()
    spread_targets(agent)
    loss = agent(batch, log_step=False)
    with torch.no_grad():
        state = agent.traj_encoder(agent.tstep_encoder(batch.obs, batch.rl2s), batch.time_idxs)[0][:, :-1]
        q = agent.critics.all_action_values(state)
        probs = agent.actor(state).probs
        terms = []
        for b, t in batch.mask[..., 0].nonzero().tolist():
            for g in range(3):
                least = min(float((probs[b, t, g] * q[b, t, c, g]).sum()) for c in range(2))
                terms.append(float(agent.popart.w[g] * least + agent.popart.b[g]))
    assert loss.item() == pytest.approx(-sum(terms) / len(terms), rel=1e-5)


def test_multitask_online_term_is_the_least_value():
    """- min_c value(s, a ~ pi), on the scale of returns: PopArt has no part in it."""
    gin.bind_parameter("Discrete.clip_prob_low", 1e-12)
    gin.bind_parameter("Discrete.clip_prob_high", 1.0)
    agent = build(MultiTaskAgent, online_coeff=1.0, offline_coeff=0.0, critic_loss_weight=0.0)
    with torch.no_grad():
        agent.actor.base.out_layer.bias.copy_(torch.tensor([0.0, 90.0, 0.0]).repeat(3))
    spread_targets(agent)
    batch = make_batch()
    loss = agent(batch, log_step=False)
    with torch.no_grad():
        state = agent.traj_encoder(agent.tstep_encoder(batch.obs, batch.rl2s), batch.time_idxs)[0][:, :-1]
        always = torch.tensor([0.0, 1.0, 0.0]).expand(1, 3, 8, 3, 3)
        least = agent.critics.bin_dist_to_raw_vals(agent.critics(state, always))[0, ..., 0].amin(2)
    assert loss.item() == pytest.approx(-least[batch.mask[..., 0]].mean().item(), rel=1e-4)


def test_multitask_stored_action_has_no_advantage_over_itself():
    """A certain policy samples what was stored: exactly 0, where rounding would let a filter toss a coin."""
    gin.bind_parameter("Discrete.clip_prob_low", 0.0)
    gin.bind_parameter("Discrete.clip_prob_high", 1.0)
    seen = []
    filtered = lambda adv: seen.append(adv) or (adv > 0).float()  # noqa: E731
    agent = build(MultiTaskAgent, num_actions_for_value_in_actor_loss=7, fbc_filter_func=filtered)
    with torch.no_grad():
        agent.actor.base.out_layer.weight.zero_()
        agent.actor.base.out_layer.bias.copy_(torch.tensor([0.0, 200.0, 0.0]).repeat(3))
    batch = make_batch(lengths=(8, 8, 8))
    batch.actions = torch.zeros_like(batch.actions)
    batch.actions[..., 1] = 1.0
    batch.actions[:, ::2] = torch.tensor([1.0, 0.0, 0.0])  # every other action is another one
    agent(batch, log_step=False)
    advantage = seen[-1]
    assert (advantage[:, 1::2] == 0.0).all()
    assert (advantage[:, ::2].abs() > 0.0).all()


def test_multitask_advantage_and_gradient_are_those_of_plain_means():
    """The exact zero changes nothing else: value and gradient of the policy's own actions are means over samples."""
    agent = build(MultiTaskAgent, online_coeff=1.0)
    batch = make_batch()
    state = agent.traj_encoder(agent.tstep_encoder(batch.obs, batch.rl2s), batch.time_idxs)[0][
        :, :-1
    ].detach()
    found = []
    for plain in (False, True):
        policy = agent._policy(agent.actor, state, batch.obs, slice(0, -1))
        torch.manual_seed(5)
        if plain:
            expected = agent._expected_values(agent.critics, state, policy, 3, frozen=True)
        else:
            expected = agent._critic_pass(state, batch.actions, policy)[2]
        gradient = torch.autograd.grad(expected.sum(), list(agent.actor.parameters()))
        found.append([expected, *gradient])
    assert any(g.abs().max() > 0 for g in found[0][1:])
    for ours, means in zip(*found, strict=True):
        torch.testing.assert_close(ours, means, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cls", [Agent, MultiTaskAgent])
def test_expected_value_is_the_mean_of_samples(cls):
    """K sampled actions count alike, before anything is taken over the critics."""
    agent = build(cls, "continuous")
    state, actions = torch.randn(3, 8, 20), torch.rand(4, 3, 8, 3, 3)
    asked = []
    agent._sample = lambda policy, k: asked.append(k) or actions
    values = agent._expected_values(agent.critics, state, None, 4)
    agent._sample = lambda policy, k: actions[asked.append(k) or len(asked) - 2][None]
    each = [agent._expected_values(agent.critics, state, None, 1) for _ in range(4)]
    assert torch.allclose(values, torch.stack(each).mean(0), atol=1e-5) and asked == [4, 1, 1, 1, 1]
    assert values.shape == (3, 8, 2, 3)


def test_bits_are_straight_through():
    """Sampled bits are bits, with the gradient of their probabilities."""
    agent = build(space="multibinary")
    logits = torch.zeros(2, 4, 3, 3, requires_grad=True)
    policy = agent.actor.policy_dist(logits)
    bits = agent._sample(policy, 5)
    assert bits.shape == (5, 2, 4, 3, 3) and set(bits.detach().unique().tolist()) == {0.0, 1.0}
    bits.sum().backward()
    assert torch.allclose(logits.grad, torch.full_like(logits, 5 * 0.25))


# -- masks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cls", "space"), KINDS)
@pytest.mark.parametrize("n_step", [1, 3])
def test_padding_changes_nothing(cls, space, n_step):
    """Junk of any size beyond a sequence's end: same loss, gradients and statistics, bit for bit."""
    results = []
    agent = build(cls, space, n_step=n_step, offline_coeff=1.0)
    start = {k: v.clone() for k, v in agent.state_dict().items()}
    for padding in (0.0, 1.0, 1e6):
        agent.load_state_dict(start)
        loss, grads = loss_and_gradients(agent, make_batch(space, padding=padding))
        results.append((loss, grads, {k: v.clone() for k, v in agent.state_dict().items()}))
    for loss, grads, state in results[1:]:
        assert torch.equal(loss, results[0][0])
        assert all(torch.equal(g, results[0][1][n]) for n, g in grads.items())
        assert all(torch.equal(v, results[0][2][n]) for n, v in state.items())


@pytest.mark.parametrize(("cls", "space"), KINDS)
def test_nan_in_padding_changes_nothing(cls, space):
    """Not in the loss, and not in its gradient, where 0 times NaN would be NaN; nor times that are no indices."""
    agent = build(cls, space, n_step=3, offline_coeff=1.0)
    start = {k: v.clone() for k, v in agent.state_dict().items()}
    clean, nan = make_batch(space), make_batch(space)
    for x, real in (
        (nan.obs["observation"], nan.obs_mask),
        (nan.rl2s, nan.obs_mask),
        (nan.rews, nan.mask),
        (nan.actions, nan.mask),
    ):
        x.masked_fill_(~real, torch.nan)
    nan.time_idxs.masked_fill_(~nan.obs_mask, -7)
    loss, grads = loss_and_gradients(agent, clean)
    state = {k: v.clone() for k, v in agent.state_dict().items()}
    agent.load_state_dict(start)
    loss_nan, grads_nan = loss_and_gradients(agent, nan)
    assert torch.equal(loss, loss_nan) and torch.isnan(nan.rews).any()
    assert all(torch.equal(g, grads_nan[n]) for n, g in grads.items())
    assert all(torch.equal(v, state[k]) for k, v in agent.state_dict().items())
    assert not nan.with_zeros_in_padding().time_idxs.lt(0).any()


def test_masked_mean_ignores_infinity():
    """What a square in padding overflowed to must not turn the loss or its gradient into NaN."""
    x = torch.tensor([[1.0, 3.0], [5.0, 1e30]], requires_grad=True)
    mean = masked_mean(x.square(), torch.tensor([[True, True], [True, False]]))
    mean.backward()
    assert mean.item() == pytest.approx(35.0 / 3.0)
    assert torch.allclose(x.grad, torch.tensor([[2.0, 6.0], [10.0, 0.0]]) / 3.0)
    per_row = masked_mean(torch.tensor([[1.0, 3.0], [5.0, 7.0]]), torch.tensor([[True], [False]]))
    assert per_row == 2.0


def test_nothing_valid_changes_nothing():
    """A batch without a valid transition: zero loss, zero gradients, PopArt untouched."""
    agent, batch = build(), make_batch()
    batch.mask[:] = False
    before = {k: v.clone() for k, v in agent.popart.state_dict().items()}
    loss, grads = loss_and_gradients(agent, batch)
    assert loss == 0 and all((g == 0).all() for g in grads.values())
    assert all(torch.equal(v, before[k]) for k, v in agent.popart.state_dict().items())


class _OnlyFirstSteps(Agent):
    """Counts the first two steps in the actor loss, and the last discount in the critic loss."""

    def edit_actor_mask(self, batch, actor_loss, pad_mask):
        assert actor_loss.shape == pad_mask.shape == (3, 8, 3, 1) and pad_mask.dtype == torch.bool
        mask = pad_mask.clone()
        mask[:, 2:] = False
        return mask

    def edit_critic_mask(self, batch, critic_loss, pad_mask):
        assert critic_loss.shape == pad_mask.shape == (3, 8, 2, 3, 1)
        mask = pad_mask.clone()
        mask[:, :, :, :-1] = False
        return mask


def test_mask_hooks():
    """An edited mask changes what the mean is over; the shapes are those that the hooks promise."""
    plain, edited = build(fake_filter=True, offline_coeff=1.0), build(_OnlyFirstSteps, fake_filter=True)
    edited.offline_coeff = 1.0
    edited.load_state_dict(plain.state_dict())
    plain.online_coeff = edited.online_coeff = 0.0  # cloning: the actor's log-probabilities alone
    batch = make_batch()
    first = make_batch()
    first.mask[:, 2:] = False
    assert edited(batch, False).item() == pytest.approx(plain(first, False).item(), rel=1e-6)
    plain.online_coeff = edited.online_coeff = 1.0
    whole, part = plain(batch, True), edited(batch, True)
    assert plain.update_info["Critic Loss"] != edited.update_info["Critic Loss"]
    assert torch.isfinite(whole) and torch.isfinite(part)


class _ByNumbers(Agent):
    """Weighs later steps more, by numbers; the critics' by nought or one."""

    def edit_actor_mask(self, batch, actor_loss, pad_mask):
        return pad_mask * torch.arange(8.0)[None, :, None, None]

    def edit_critic_mask(self, batch, critic_loss, pad_mask):
        return pad_mask.float()


def test_masks_of_numbers_are_weights():
    """As in AMAGO v3, whose means are sum(mask * loss) / sum(mask)."""
    weighed = build(_ByNumbers, offline_coeff=1.0)
    plain = build(offline_coeff=1.0)
    plain.load_state_dict(weighed.state_dict())
    entries: list[torch.Tensor] = []
    keep = lambda batch, loss, mask: entries.append(loss.detach()) or mask  # noqa: E731
    plain.edit_actor_mask = keep
    torch.manual_seed(0)
    plain(make_batch(), True)
    torch.manual_seed(0)
    loss = weighed(make_batch(), True)
    loss.backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in weighed.parameters())
    weights = (make_batch().mask * torch.arange(8.0)[None, :, None]).unsqueeze(-1)
    expected = (entries[0] * weights).sum() / weights.expand_as(entries[0]).sum()
    assert weighed.update_info["Actor Loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.equal(weighed.update_info["Critic Loss"], plain.update_info["Critic Loss"])


# -- special cases -------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [Agent, MultiTaskAgent])
def test_cloning_skips_the_critics(cls):
    """fake_filter without an online term: no critic is asked, PopArt stands still, inputs are still counted."""
    agent = build(cls, fake_filter=True, online_coeff=0.0, offline_coeff=1.0)

    def never(*args, **kwargs):
        raise AssertionError("a critic was evaluated")

    agent.critics.forward = agent.target_critics.forward = never
    agent.critics.net.forward = agent.target_critics.net.forward = never
    agent.critics.net.forward_parts = agent.target_critics.net.forward_parts = never
    before = {k: v.clone() for k, v in agent.state_dict().items()}
    agent(make_batch(), log_step=True).backward()
    after = agent.state_dict()
    assert all(torch.equal(after[k], before[k]) for k in before if k.startswith("popart"))
    assert not torch.equal(after["tstep_encoder.in_norm._t"], before["tstep_encoder.in_norm._t"])
    assert agent.update_info["Critic Loss"] == 0
    assert all(p.grad is None for p in agent.critics.parameters())


def test_fake_filter_with_online_term_still_learns_values():
    """f = 1 replaces the filter, not the critics."""
    agent = build(fake_filter=True, online_coeff=1.0)
    _, grads = loss_and_gradients(agent, make_batch())
    assert grads["critics.net.output_layer.weight"].abs().sum() > 0


def test_popart_off():
    """Statistics stand still and values are used as they are."""
    agent, batch = build(popart=False), make_batch()
    before = {k: v.clone() for k, v in agent.popart.state_dict().items()}
    agent(batch, log_step=True)
    assert all(torch.equal(v, before[k]) for k, v in agent.popart.state_dict().items())


def test_evaluation_mode_moves_no_statistics():
    """A loss computed for its value alone must not touch running statistics."""
    agent = build().eval()
    before = {k: v.clone() for k, v in agent.state_dict().items()}
    agent(make_batch(), log_step=False)
    assert all(torch.equal(v, before[k]) for k, v in agent.state_dict().items())


def test_polyak_and_copy():
    """target <- (1 - tau) target + tau online for critics and actor; a hard copy makes them equal."""
    agent = build(tau=0.25)
    spread_targets(agent)
    state = {k: v.clone() for k, v in agent.state_dict().items()}
    agent.soft_sync_targets()
    checked = 0
    for name, after in agent.state_dict().items():
        if name.startswith("target_"):
            checked += 1
            want = 0.75 * state[name] + 0.25 * state[name.removeprefix("target_")]
            assert torch.allclose(after, want, atol=1e-6), name
        else:
            assert torch.equal(after, state[name]), name
    assert checked == 12
    agent.hard_sync_targets()
    state = agent.state_dict()
    assert all(torch.equal(v, state[n[7:]]) for n, v in state.items() if n.startswith("target_"))


def test_without_target_actor():
    """Targets then come from the current actor, and there is no copy of it."""
    agent = build(use_target_actor=False)
    assert not any(n.startswith("target_actor") for n in agent.state_dict())
    loss, _ = loss_and_gradients(agent, make_batch())
    agent.soft_sync_targets()
    assert torch.isfinite(loss)


def test_settings_that_cannot_work():
    """An online term needs actions with a gradient; unknown observation keys and counts are refused."""
    with pytest.raises(ConfigurationError, match=r"Agent.online_coeff = 0.0"):
        build(space="continuous", dist=policy_dists.GMM)
    mixture = build(space="continuous", dist=policy_dists.GMM, online_coeff=0.0, offline_coeff=1.0)
    assert torch.isfinite(loss_and_gradients(mixture, make_batch("continuous"))[0])
    with pytest.raises(ConfigurationError, match="pass_obs_keys_to_actor names 'goal'"):
        build(pass_obs_keys_to_actor=["goal"])
    with pytest.raises(ConfigurationError, match="num_critics must be at least 1"):
        build(num_critics=0)
    with pytest.raises(ConfigurationError, match="num_actions_for_value_in_actor_loss must be at least 1"):
        build(MultiTaskAgent, num_actions_for_value_in_actor_loss=0)
    with pytest.raises(ConfigurationError, match=r"Agent.tau must be from 0 to 1"):
        build(tau=3.0)
    with pytest.raises(ConfigurationError, match=r"Agent.online_coeff must be 0 or more"):
        build(online_coeff=-1.0)


def test_discounts_that_cannot_be():
    """Outside 0 to 1; and 1 itself for critics that read 1 / (1 - gamma), which gave NaN at the first update."""
    with pytest.raises(ConfigurationError, match=r"Agent.gamma must be from 0 to 1"):
        build(gamma=1.5)
    with pytest.raises(ConfigurationError, match=r"Multigammas.discrete must hold discounts"):
        build(gammas=(0.9, -0.1))
    for cls, space in ((Agent, "continuous"), (MultiTaskAgent, "discrete")):
        with pytest.raises(ConfigurationError, match="every discount must be below 1"):
            build(cls, space, gamma=1.0)
    for gamma in (0.0, 1.0):  # values of whole episodes are fine where no critic reads the discount
        assert torch.isfinite(loss_and_gradients(build(gamma=gamma), make_batch())[0])


def test_critics_of_the_other_kind():
    """Bins for the agent of values, or the other way round: said when it is built."""
    with pytest.raises(ConfigurationError, match=r"Agent.critic_type is NCriticsTwoHot.*like NCritics,"):
        build(critic_type=ac.NCriticsTwoHot)
    with pytest.raises(ConfigurationError, match=r"MultiTaskAgent.critic_type is NCritics.*NCriticsTwoHot"):
        build(MultiTaskAgent, critic_type=ac.NCritics)


@pytest.mark.parametrize(("cls", "space"), KINDS)
def test_functional_call(cls, space):
    """Parameters and buffers from outside: the same loss, gradients and statistics; the module stays as it was."""
    plain, host, batch = build(cls, space), build(cls, space), make_batch(space)
    outside = {k: v.detach().clone() for k, v in plain.state_dict().items()}
    for name, p in plain.named_parameters():
        outside[name].requires_grad_(p.requires_grad)
    own = {k: v.clone() for k, v in host.state_dict().items()}
    want, grads = loss_and_gradients(plain, batch)
    torch.manual_seed(0)
    loss = functional_call(host, outside, (batch, False))
    loss.backward()
    assert torch.equal(loss, want)
    for name, p in plain.named_parameters():
        if p.requires_grad:
            assert torch.equal(outside[name].grad, grads[name]), name
    for name, value in plain.state_dict().items():
        assert torch.equal(outside[name], value), name
    assert all(torch.equal(v, own[k]) for k, v in host.state_dict().items())
