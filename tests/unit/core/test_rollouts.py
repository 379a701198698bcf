"""Rollouts: what is recorded is what happened, in every environment mode."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from amago.envs.actors import Actors, make_actors
from amago.envs.amago_env import AMAGOEnv
from amago.envs.exploration import BilevelEpsilonGreedy, EpsilonGreedy, NoExploration
from amago.envs.old_api import current_space
from amago.envs.spaces import convert_action_space
from amago.errors import ConfigurationError, EnvironmentFailure
from amago.rollout import Episode, Recorder, Rollout
from amago.storage import Rows

SIZES = (4, 7)


class Counter(gym.Env):
    """Counts steps; an episode lasts 4 or 7 of them (drawn at reset: its task), the reward is the action."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Discrete(300)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.length = SIZES[int(self.np_random.integers(2))]
        self.mark = float(self.np_random.random())
        self.task_name = f"{self.length} steps"
        self.t = 0
        return np.array([self.mark, 0], np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.t += 1
        ended = self.t == self.length
        info = {"AMAGO_LOG_METRIC success": float(action > 100)} if ended else {}
        obs = np.array([self.mark, self.t], np.float32)
        return obs, float(action), ended and self.length == 4, ended and self.length == 7, info


class Memory(torch.nn.Module):
    """Hidden state that counts steps since the reset, so that a missed reset shows."""

    def init_hidden_state(self, batch: int, device: Any) -> torch.Tensor:
        return torch.zeros(batch, dtype=torch.long)

    def reset_hidden_state(self, hidden: torch.Tensor, dones: torch.Tensor) -> torch.Tensor:
        return torch.where(dones, 0, hidden)


class Scripted:
    """A policy whose action is 10 times the time plus the actor, and which checks what it sees."""

    def __init__(self) -> None:
        self.traj_encoder = Memory()
        self.previous: np.ndarray | None = None

    def get_actions(self, obs: dict, rl2s: Any, time_idxs: Any, hidden_state: Any, sample: bool) -> Any:
        time = time_idxs[:, 0, 0].numpy()
        assert (hidden_state.numpy() == time).all(), "hidden state and time disagree: a reset was missed"
        assert (obs["observation"][:, 0, 1].numpy() == time).all()
        at_start = time == 0
        assert not rl2s[at_start].any(), "the first step of an episode must not see the last one"
        for i in np.flatnonzero(~at_start):
            expected = 10 * (time[i] - 1) + i
            assert rl2s[i, 0, 0] == expected and rl2s[i, 0, 1:].argmax() == expected
        actions = torch.tensor(10 * time + np.arange(len(time)))[:, None, None]
        return actions, hidden_state + 1


class Counters(SyncVectorEnv):
    """Several of them, which says what each is at."""

    @property
    def task_names(self) -> tuple[str, ...]:
        return self.get_attr("task_name")


def vectorised(mode: AutoresetMode) -> Any:
    return lambda: AMAGOEnv(Counters([Counter] * 5, autoreset_mode=mode), "counter", batched_envs=5)


MODES: dict[str, tuple[str, Any]] = {
    "sync": ("sync", lambda: AMAGOEnv(Counter(), "counter")),
    "async": ("async", lambda: AMAGOEnv(Counter(), "counter")),
    "vectorized": ("vectorized", vectorised(AutoresetMode.DISABLED)),
    "already_vectorized": ("already_vectorized", vectorised(AutoresetMode.SAME_STEP)),
}


def act(actors: Actors, steps: int, save_length: int) -> tuple[list[Episode], list[Rows], list[str]]:
    policy = Scripted()
    rollout = Rollout(actors)
    recorder = Recorder(actors, lambda: save_length)
    rollout.begin(policy, torch.device("cpu"), lambda actor, ep: 100 * actor + ep, recorder=recorder)
    episodes = [e for _ in range(steps) for e in rollout.step(policy, True)]
    rollout.cut_trajectories()
    return episodes, *recorder.take()


@pytest.mark.parametrize("mode", MODES)
def test_trajectories_are_what_happened(mode: str) -> None:
    """Guards every environment mode: no step is lost, invented or credited to another episode."""
    env_mode, make = MODES[mode]
    actors = make_actors(make, 5, env_mode)
    try:
        episodes, trajectories, names = act(actors, 40, 1000)
    finally:
        actors.close()
    assert sum(len(t) for t in trajectories) == 5 * 40, "one stored transition for each action taken"
    for rows, name in zip(trajectories, names, strict=True):
        n = len(rows)
        assert (rows.time_idxs == np.arange(n + 1)).all()
        if rows.dones[-1] or n == 7:
            assert name == f"counter/{n} steps", "a trajectory is stored as another task's"
        assert (rows.obs["observation"][:, 1] == np.arange(n + 1)).all()
        assert len(set(rows.obs["observation"][:, 0])) == 1, "rows of two episodes in one trajectory"
        assert (rows.rewards[1:] == rows.actions[1:, 0]).all()
        # Only a terminal end stops bootstrapping; a time limit (7 steps) does not.
        assert not rows.dones[:-1].any() and (not rows.dones[-1] or n == 4)
    assert sum(t.dones[-1] for t in trajectories) == sum(e.length == 4 for e in episodes)
    for episode in episodes:
        expected = sum(10 * t + episode.actor for t in range(episode.length))
        assert episode.total_return == expected and episode.length in SIZES
        assert episode.metrics == {"success": 0.0}
        assert episode.env_name == f"counter/{episode.length} steps", "named after another episode's task"
    assert {e.length for e in episodes} == set(SIZES)


def test_modes_give_the_same_episodes() -> None:
    """Guards seeding: actor and episode decide a reset's seed, whatever runs the environments."""
    found = {}
    for mode in ("sync", "async", "vectorized"):
        env_mode, make = MODES[mode]
        actors = make_actors(make, 5, env_mode)
        try:
            _, trajectories, _ = act(actors, 30, 1000)
        finally:
            actors.close()
        found[mode] = sorted((float(t.obs["observation"][0, 0]), len(t)) for t in trajectories)
    assert found["sync"] == found["async"] == found["vectorized"]


def test_long_episodes_are_cut_without_losing_a_transition() -> None:
    """Guards traj_save_len: pieces of at most 3 transitions, each beginning with the row that ended the last."""
    actors = make_actors(MODES["sync"][1], 5, "sync")
    _, trajectories, _ = act(actors, 40, 3)
    assert max(len(t) for t in trajectories) == 3
    assert sum(len(t) for t in trajectories) == 5 * 40
    later = [t for t in trajectories if t.time_idxs[0] > 0]
    assert later and all(t.actions[0, 0] == t.rewards[0] for t in later)


def test_recording_grows_with_the_episode() -> None:
    """Guards the arrays' growth: an episode far longer than the first capacity is kept whole."""

    class Endless(Counter):
        def reset(self, **kwargs: Any) -> tuple[np.ndarray, dict]:
            out = super().reset(**kwargs)
            self.length = 10**9
            return out

        def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
            return super().step(int(action) % 300)

    class Zero(Scripted):
        def get_actions(self, **kwargs: Any) -> Any:
            return torch.zeros(len(kwargs["rl2s"]), 1, 1, dtype=torch.long), kwargs["hidden_state"] + 1

    rollout = Rollout(make_actors(lambda: AMAGOEnv(Endless(), "e"), 2, "sync"))
    recorder = Recorder(rollout.actors, lambda: 10**9)
    rollout.begin(Zero(), torch.device("cpu"), lambda a, e: a, recorder=recorder)
    for _ in range(1000):
        rollout.step(Zero(), True)
    rollout.cut_trajectories()
    for rows in recorder.take()[0]:
        assert (rows.obs["observation"][:, 1] == np.arange(1001)).all()


def test_nan_stops_with_a_clear_error() -> None:
    """Guards diverging simulators: NaN in an observation names the environment."""

    class Broken(Counter):
        def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
            obs, *rest = super().step(action)
            return np.where(self.t == 3, np.nan, obs).astype(np.float32), *rest

    with pytest.raises(EnvironmentFailure, match=r"broken.*NaN"):
        act(make_actors(lambda: AMAGOEnv(Broken(), "broken"), 2, "sync"), 10, 100)

    class BornBroken(Counter):
        def reset(self, **how: Any) -> tuple[np.ndarray, dict]:
            return np.full_like(super().reset(**how)[0], np.nan), {}

    envs = [lambda: AMAGOEnv(Counter(), "fine"), lambda: AMAGOEnv(BornBroken(), "broken")]
    with pytest.raises(
        EnvironmentFailure, match=r"^broken.*: NaN or infinity in an observation after a reset"
    ):
        act(make_actors(envs, 2, "sync"), 10, 100)


def test_flipped_images_reach_the_policy() -> None:
    """A batched environment may give views with negative strides, which torch does not take."""

    class Flipped(gym.Env):
        observation_space = gym.spaces.Box(0, 255, (2, 3, 1), np.uint8)
        action_space = gym.spaces.Discrete(2)

        def _picture(self) -> np.ndarray:
            return np.arange(6, dtype=np.uint8).reshape(1, 2, 3, 1).repeat(2, axis=0)[:, :, ::-1]

        def reset(self, *, seed: Any = None, options: Any = None) -> tuple[np.ndarray, dict]:
            return self._picture(), {}

        def step(self, action: Any) -> Any:
            return self._picture(), np.zeros(2), np.zeros(2, bool), np.zeros(2, bool), {}

    seen = []

    class Looks(Scripted):
        def get_actions(self, obs: Any, hidden_state: Any, **more: Any) -> Any:
            seen.append(obs["observation"].numpy().copy())
            return torch.zeros(2, 1, 1, dtype=torch.long), hidden_state + 1

    actors = make_actors(lambda: AMAGOEnv(Flipped(), "flipped", batched_envs=2), 2, "already_vectorized")
    rollout = Rollout(actors)
    rollout.begin(Looks(), torch.device("cpu"), lambda a, e: a)
    rollout.step(Looks(), True)
    assert (seen[0][0, 0, :, :, 0] == [[2, 1, 0], [5, 4, 3]]).all()


class OldCounter:
    """An environment as gym had them: of no class, without seeds in `reset`, with one end."""

    observation_space, action_space = Counter.observation_space, Counter.action_space

    def seed(self, seed: int) -> None:
        self.inner_seed = seed

    def reset(self) -> np.ndarray:
        self.inner = Counter()
        return self.inner.reset(seed=self.inner_seed)[0]

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, dict]:
        obs, reward, terminated, truncated, info = self.inner.step(action)
        return obs, reward, terminated or truncated, info | {"TimeLimit.truncated": truncated}


def _what(e: Episode) -> tuple[Any, ...]:
    return e.actor, e.index, e.total_return, e.length, e.metrics


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_environments_of_the_old_form_are_adapted(mode: str) -> None:
    """The same trajectories and ends, seeds included, as from the same environment in the present form."""
    new = make_actors(lambda: AMAGOEnv(Counter(), "e"), 3, "sync")
    old = make_actors(lambda: AMAGOEnv(OldCounter(), "e"), 3, mode)
    episodes, rows, *_ = act(new, 20, 100)
    old_episodes, old_rows, *_ = act(old, 20, 100)
    old.close()
    assert [_what(e) for e in old_episodes] == [_what(e) for e in episodes] and len(rows) == len(old_rows)
    for a, b in zip(rows, old_rows, strict=True):
        assert (a.obs["observation"] == b.obs["observation"]).all() and (a.dones == b.dones).all()
        assert (a.rewards == b.rewards).all()


def test_spaces_of_gym_become_gymnasiums() -> None:
    """By their names and attributes: gym itself need not be there."""

    def foreign(kind: str, **attributes: Any) -> Any:
        return type(kind, (), {"__module__": "gym.spaces", **attributes})()

    box = foreign(
        "Box", low=np.zeros(2, np.float32), high=np.ones(2, np.float32), shape=(2,), dtype=np.float32
    )
    nested = foreign("Dict", spaces={"a": box, "b": foreign("Discrete", n=4)})
    found = current_space(nested)
    assert found == gym.spaces.Dict({"a": gym.spaces.Box(0, 1, (2,)), "b": gym.spaces.Discrete(4)})
    assert current_space(foreign("MultiBinary", n=3)) == gym.spaces.MultiBinary(3)
    assert current_space(foreign("MultiDiscrete", nvec=np.array([2, 3]))) == gym.spaces.MultiDiscrete([2, 3])
    assert current_space(spaces.Discrete(2)) == spaces.Discrete(2)


def test_more_joint_actions_than_numpy_can_count() -> None:
    """2 to the 64th wraps around to 0, which must not look like few."""
    with pytest.raises(ConfigurationError, match="18446744073709551616 joint actions"):
        convert_action_space(gym.spaces.MultiDiscrete([2] * 64))


def test_a_dead_worker_is_reported() -> None:
    """Guards async mode: a worker that exits ends the run with a clear error, not a hang."""

    class Dies(Counter):
        def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
            import os

            os._exit(3)

    actors = make_actors(lambda: AMAGOEnv(Dies(), "dies"), 2, "async")
    with pytest.raises(EnvironmentFailure, match="worker"):
        act(actors, 3, 100)
    actors.close()


@pytest.mark.parametrize(
    ("mode", "count", "message"),
    [("vectorised", 5, "env_mode"), ("vectorized", 4, "parallel_actors"), ("sync", 5, "vectorized")],
)
def test_modes_that_do_not_fit_are_refused(mode: str, count: int, message: str) -> None:
    """Guards settings: unknown modes and wrong numbers of actors name the setting."""
    with pytest.raises(ConfigurationError, match=message):
        make_actors(MODES["vectorized"][1], count, mode)


def test_next_step_autoreset_is_refused() -> None:
    """Guards replay: gymnasium's default autoreset inserts a step whose action is ignored."""
    with pytest.raises(ConfigurationError, match="DISABLED"):
        AMAGOEnv(SyncVectorEnv([Counter] * 2), "counter", batched_envs=2)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(5, start=2),
        spaces.MultiDiscrete([3, 4]),
        spaces.MultiBinary(3),
        spaces.Box(np.array([-2, 0], np.float32), np.array([2, 10], np.float32)),
    ],
)
def test_every_action_reaches_the_environment_in_its_own_form(space: gym.Space) -> None:
    """Guards action conversion: the agent's choices cover exactly the environment's own space."""

    class Echo(Counter):
        action_space = space

        def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
            assert space.contains(action if not np.isscalar(action) else np.int64(action)), action
            self.seen.append(np.asarray(action))
            return np.zeros(2, np.float32), 0.0, False, False, {}

    env = Echo()
    env.seen = []
    wrapped = AMAGOEnv(env, "echo")
    wrapped.reset(seed=0)
    if wrapped.discrete:
        for a in range(wrapped.action_space.n):
            wrapped.step(np.array([[a]]))
        assert len({s.tobytes() for s in env.seen}) == wrapped.action_space.n
    elif wrapped.multibinary:
        wrapped.step(np.array([[1, 0, 1]]))
        assert (env.seen[0] == [1, 0, 1]).all()
    else:
        for corner in ([-1.0, -1.0], [1.0, 1.0], [0.0, 0.0]):
            wrapped.step(np.array([corner]))
        np.testing.assert_allclose(env.seen, [[-2, 0], [2, 10], [0, 5]])


def test_a_box_without_dimensions_is_not_an_index() -> None:
    """One number between two bounds reaches the environment as such."""

    class Throttle(Counter):
        action_space = spaces.Box(-1.0, 3.0, ())

        def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
            return np.zeros(2, np.float32), float(action), False, False, {}

    env = AMAGOEnv(Throttle(), "throttle")
    env.reset(seed=0)
    assert env.step(np.array([[0.25]]))[1] == 1.5


def test_discrete_observations_become_one_hot() -> None:
    """Guards observation conversion, in a Dict with an image that stays uint8."""

    class Parts(Counter):
        observation_space = spaces.Dict(
            {
                "pick": spaces.Discrete(4, start=1),
                "many": spaces.MultiDiscrete([2, 3]),
                "image": spaces.Box(0, 255, (2, 2, 3), np.uint8),
            }
        )

        def reset(self, **kwargs: Any) -> Any:
            return {"pick": 3, "many": np.array([1, 2]), "image": np.full((2, 2, 3), 200, np.uint8)}, {}

    obs, _ = AMAGOEnv(Parts(), "parts").reset(seed=0)
    assert obs["pick"].tolist() == [[0, 0, 1, 0]] and obs["many"].tolist() == [[0, 1, 0, 0, 1]]
    assert obs["image"].dtype == np.uint8 and obs["image"].shape == (1, 2, 2, 3)


class _Group:
    """Just what exploration reads of a group of actors."""

    def __init__(self, space: gym.Space, n: int) -> None:
        self.action_space, self.batched_envs = space, n
        self.discrete = isinstance(space, spaces.Discrete)
        self.multibinary = isinstance(space, spaces.MultiBinary)


def test_epsilon_anneals_over_steps_of_one_actor() -> None:
    """Guards EpsilonGreedy: the fraction of changed actions follows eps_start -> eps_end over steps_anneal."""
    noise = EpsilonGreedy(_Group(spaces.Discrete(4), 20_000), 0.8, 0.2, steps_anneal=2, randomize_eps=False)
    action = np.zeros((20_000, 1), np.int64)
    for expected in (0.8, 0.5, 0.2, 0.2):
        changed = (noise(action, np.zeros(20_000)) != 0).mean()
        assert changed == pytest.approx(expected * 3 / 4, abs=0.02)


def test_random_multipliers_are_redrawn_for_the_actors_that_reset() -> None:
    """Guards randomize_eps: U[0, 1) for each actor, only at its own reset."""
    noise = EpsilonGreedy(_Group(spaces.Discrete(4), 1000))
    noise.on_reset(np.ones(1000, bool))
    first = noise.multiplier.copy()
    assert 0.45 < first.mean() < 0.55 and first.max() < 1.0
    mask = np.arange(1000) < 10
    noise.on_reset(mask)
    assert (noise.multiplier[10:] == first[10:]).all() and (noise.multiplier[:10] != first[:10]).all()


def test_bilevel_interpolates_within_the_rollout() -> None:
    """Guards BilevelEpsilonGreedy at its four corners and between."""
    noise = BilevelEpsilonGreedy(_Group(spaces.Discrete(2), 3), rollout_horizon=10, steps_anneal=100)
    local = np.array([0, 5, 10])
    np.testing.assert_allclose(noise.current_eps(local), [1.0, 0.9, 0.8])
    noise.global_step = 100
    np.testing.assert_allclose(noise.current_eps(local), [0.05, 0.03, 0.01])


@pytest.mark.parametrize("actors", [1, 3])
def test_a_schedule_written_for_one_actor_serves_several(actors: int) -> None:
    """AMAGO calls `current_eps` for an actor at a time, so that scripts compare ``local_step`` in an ``if``."""

    class Scripted(EpsilonGreedy):
        def current_eps(self, local_step: np.ndarray) -> np.ndarray:
            eps = super().current_eps(local_step)
            if local_step > 0 and local_step < 9:
                eps[:] = 0.0
            return eps

    class Vectorised(EpsilonGreedy):
        def current_eps(self, local_step: np.ndarray) -> np.ndarray:
            return np.where((local_step > 0) & (local_step < 9), 0.0, super().current_eps(local_step))

    taken = []
    for cls in (Scripted, Vectorised):
        noise = cls(_Group(spaces.Discrete(50), actors), steps_anneal=100, randomize_eps=False)
        policy = np.full((actors, 1), 99)
        taken.append([noise(policy, (np.arange(actors) + t) % 12) for t in range(60)])
    np.testing.assert_array_equal(*taken)
    moved = np.array(taken[0])[..., 0] != 99
    between = ((np.arange(actors) + np.arange(60)[:, None]) % 12 - 1) % 12 < 8
    assert moved[~between].any() and not moved[between].any()


def test_an_error_in_a_schedule_is_not_hidden() -> None:
    """Only an array where a number was expected is asked again, and only where there are several."""

    class Wrong(EpsilonGreedy):
        def current_eps(self, local_step: np.ndarray) -> np.ndarray:
            raise ValueError("my own")

    with pytest.raises(ValueError, match="my own"):
        Wrong(_Group(spaces.Discrete(2), 3))(np.zeros((3, 1), int), np.zeros(3, int))


def test_continuous_noise_is_gaussian_and_clipped() -> None:
    """Guards continuous exploration: a + eps N(0, 1), clipped to [-1, 1]."""
    noise = EpsilonGreedy(_Group(spaces.Box(-1, 1, (1,)), 50_000), 0.1, 0.1, randomize_eps=False)
    out = noise(np.full((50_000, 1), 0.2, np.float32), np.zeros(50_000))
    assert out.std() == pytest.approx(0.1, rel=0.02) and out.mean() == pytest.approx(0.2, abs=0.003)
    assert np.abs(noise(np.ones((50_000, 1), np.float32), np.zeros(50_000))).max() == 1.0


def test_no_exploration_changes_nothing() -> None:
    """Guards validation: the policy's own actions are taken."""
    action = np.arange(5)[:, None]
    assert NoExploration(_Group(spaces.Discrete(9), 5))(action, np.zeros(5)) is action
