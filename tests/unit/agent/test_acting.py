"""Actions for rollouts, values, metrics, and that learning makes good actions likelier."""

import gin
import pytest
import torch
from gymnasium import spaces

from amago.agent import Agent, BaseAgent, MultiTaskAgent
from amago.nets import actor_critic as ac
from tests.unit.agent.small_agents import ACTION_SPACES, build, make_batch


@pytest.fixture(autouse=True)
def _fresh():
    torch.manual_seed(0)
    yield
    gin.clear_config()


@pytest.mark.parametrize("cls", [Agent, MultiTaskAgent])
@pytest.mark.parametrize(
    ("space", "width", "dtype"),
    [("discrete", 1, torch.int64), ("multibinary", 3, torch.int8), ("continuous", 3, torch.float32)],
)
def test_actions(cls, space, width, dtype):
    """Shapes and types of sampled and greedy actions; greedy ones do not vary; all are legal."""
    agent, batch = build(cls, space).eval(), make_batch(space)
    seen = (batch.obs, batch.rl2s, batch.time_idxs)
    sampled, _ = agent.get_actions(*seen)
    assert sampled.shape == (3, 9, width) and sampled.dtype == dtype
    greedy = [agent.get_actions(*seen, sample=False)[0] for _ in range(2)]
    assert torch.equal(*greedy) and greedy[0].dtype == dtype and greedy[0].shape == sampled.shape
    for actions in (sampled, greedy[0]):
        for action in actions.flatten(0, 1).detach().numpy():
            assert ACTION_SPACES[space].contains(action[0] if space == "discrete" else action)


def test_the_last_discount_acts():
    """A policy whose discounts want different actions takes the last one's."""
    agent, batch = build().eval(), make_batch()
    with torch.no_grad():
        agent.actor.base.out_layer.weight.zero_()
        bias = torch.tensor([[9.0, 0, 0], [0, 9, 0], [0, 0, 9]])
        agent.actor.base.out_layer.bias.copy_(bias.flatten())
    actions, _ = agent.get_actions(batch.obs, batch.rl2s, batch.time_idxs, sample=False)
    assert (actions == 2).all()
    assert agent.gammas[-1] == agent.gamma == 0.99
    drawn, _ = agent.get_actions(batch.obs, batch.rl2s, batch.time_idxs)
    assert (drawn == 2).float().mean() > 0.8


def test_step_by_step_equals_at_once():
    """Greedy actions with a carried hidden state are those of the whole sequence."""
    agent, batch = build().eval(), make_batch(lengths=(8, 8, 8))
    whole, _ = agent.get_actions(batch.obs, batch.rl2s, batch.time_idxs, sample=False)
    hidden, steps = agent.traj_encoder.init_hidden_state(3, torch.device("cpu")), []
    with torch.no_grad():
        for t in range(9):
            now = {k: v[:, t : t + 1] for k, v in batch.obs.items()}
            action, hidden = agent.get_actions(
                now, batch.rl2s[:, t : t + 1], batch.time_idxs[:, t : t + 1], hidden, sample=False
            )
            steps.append(action)
    assert torch.equal(torch.cat(steps, 1), whole)


@pytest.mark.parametrize("cls", [Agent, MultiTaskAgent])
def test_values(cls):
    """One value per step and discount, mean over critics, in the environment's unit."""
    agent, batch = build(cls, reward_multiplier=4.0).eval(), make_batch()
    with torch.no_grad():
        for net in (agent.critics.net,):
            net.output_layer.weight.zero_()
            net.output_layer.bias.zero_()
        if cls is Agent:
            agent.critics.net.output_layer.bias[0, 0, 0] = 1.0
            agent.critics.net.output_layer.bias[0, 0, 1] = 3.0
    values, _ = agent.get_values(batch.obs, batch.rl2s, batch.time_idxs)
    assert values.shape == (3, 9, 3)
    want = 2.0 * 10.0 / 4.0  # PopArt starts at sigma 10
    assert torch.allclose(values, torch.full_like(values, want if cls is Agent else 0.0), atol=1e-4)


class _Direct(ac.Actor):
    """Notes what it is given directly."""

    seen: list  # of (state's length, observation)

    def actor_network_forward(self, state, log_dict=None, straight_from_obs=None):
        type(self).seen.append((state.shape[1], straight_from_obs["observation"]))
        return super().actor_network_forward(state)


def test_observations_straight_to_the_actor():
    """The actor gets the same rows of the observation as of the state, for now and for the next step."""
    _Direct.seen = []
    agent = build(pass_obs_keys_to_actor=["observation"], actor_type=_Direct)
    batch = make_batch()
    agent(batch, log_step=False)
    (l1, now), (l2, after) = _Direct.seen
    assert l1 == l2 == 8
    assert torch.equal(now, batch.obs["observation"][:, :-1])
    assert torch.equal(after, batch.obs["observation"][:, 1:])
    agent.get_actions(batch.obs, batch.rl2s, batch.time_idxs)
    assert torch.equal(_Direct.seen[-1][1], batch.obs["observation"])


class _PlainCritics(ac.BaseCriticHead):
    """A user's critics: only what the interface asks for."""

    def __init__(self, state_dim, action_space, gammas, num_critics):
        super().__init__(state_dim, action_space, gammas, num_critics)
        self.inner = ac.NCritics(state_dim, action_space, gammas, num_critics, d_hidden=16)

    def critic_network_forward(self, state, action, log_dict=None):
        return self.inner.critic_network_forward(state, action)


def test_a_users_critics():
    """Critics without the all-actions pass give the same loss and gradients by the general path."""
    results = {}
    for kind in (ac.NCritics, _PlainCritics):
        torch.manual_seed(0)
        settings = {} if kind is _PlainCritics else {"d_hidden": 16}
        agent = build(critic_type=lambda *a, k=kind, s=settings: k(*a, **s))
        torch.manual_seed(1)
        loss = agent(make_batch(), log_step=False)
        loss.backward()
        results[kind] = loss.item(), [p.grad.clone() for p in agent.trainable_params]
    (loss, grads), (user_loss, user_grads) = results.values()
    assert loss == pytest.approx(user_loss, rel=1e-5)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(grads, user_grads, strict=True))


class _Shifted(ac.NCritics):
    """Ours with one method changed."""

    def critic_network_forward(self, state, action, log_dict=None):
        return super().critic_network_forward(state, action, log_dict) + 5.0


def test_a_subclass_of_our_critics_is_what_learns_and_values():
    """A changed `critic_network_forward` counts, although there is a quicker pass for what it was before."""
    values = []
    for kind in (ac.NCritics, _Shifted):
        torch.manual_seed(0)
        agent = build(critic_type=lambda *a, k=kind: k(*a, d_hidden=16), popart=False).eval()
        batch = make_batch()
        values.append(agent.get_values(batch.obs, batch.rl2s, batch.time_idxs)[0] * agent.reward_multiplier)
        agent(batch, log_step=True)
        values.append(agent.update_info["Q(s, a)"])
    plain, plain_q, shifted, shifted_q = values
    torch.testing.assert_close(shifted, plain + 5.0)
    torch.testing.assert_close(shifted_q, plain_q + 5.0)


@pytest.mark.parametrize("cls", [Agent, MultiTaskAgent])
def test_metrics(cls):
    """Metrics are detached numbers; few of them when none were asked for, but always the losses."""
    agent, batch = build(cls, offline_coeff=1.0), make_batch()
    agent(batch, log_step=False)
    assert {"Loss", "Actor Loss", "Critic Loss"} == set(agent.update_info)
    agent(batch, log_step=True)
    assert {"Advantage", "TD Target", "Q(s, a)", "Filter Weight"} <= set(agent.update_info)
    for name, value in agent.update_info.items():
        assert isinstance(value, torch.Tensor) and value.dim() == 0 and not value.requires_grad, name
        assert torch.isfinite(value), name


class _Extra(Agent):
    """An agent with another network."""

    def init_extra_networks(self):
        assert not hasattr(self, "target_critics")
        self.extra = torch.nn.Linear(2, 2)

    @property
    def trainable_params(self):
        return [*super().trainable_params, *self.extra.parameters()]


def test_extra_networks():
    """A subclass adds networks and says that they learn."""
    agent = build(_Extra)
    assert isinstance(agent, BaseAgent)
    assert any(p is agent.extra.weight for p in agent.trainable_params)


@pytest.mark.parametrize("cls", [Agent, MultiTaskAgent])
@pytest.mark.parametrize("space", ["discrete", "continuous"])
def test_learns_a_bandit(cls, space):
    """Reward for one action (or for a positive first action): after 150 updates the policy prefers it."""
    gin.bind_parameter("PopArtLayer.init_nu", 1.0)
    agent = build(cls, space, gammas=(), gamma=0.5, offline_coeff=1.0, reward_multiplier=1.0)
    optimizer = torch.optim.AdamW(agent.trainable_params, lr=3e-3)
    for i in range(150):
        batch = make_batch(space, lengths=(8,) * 8, seed=i)
        good = batch.actions[..., :1] > (0.5 if space == "discrete" else 0.0)
        batch.rews = good.float()
        batch.rl2s = torch.zeros_like(batch.rl2s)
        torch.manual_seed(i)
        agent(batch, log_step=False).backward()
        optimizer.step()
        optimizer.zero_grad()
        agent.soft_sync_targets()
    batch = make_batch(space, lengths=(8,) * 8, seed=999)
    actions, _ = agent.get_actions(batch.obs, torch.zeros_like(batch.rl2s), batch.time_idxs)
    chosen = (actions == 0) if space == "discrete" else (actions[..., :1] > 0)
    assert chosen.float().mean() > 0.9


def test_default_discounts():
    """Six extra discounts and the acting one; none with use_multigamma off."""
    settings = dict(gammas=(0.1, 0.9, 0.95, 0.97, 0.99, 0.995), gamma=0.999)
    assert len(build(**settings).gammas) == 7
    assert build(space=spaces.Discrete(2), use_multigamma=False).gammas.tolist() == pytest.approx([0.99])
