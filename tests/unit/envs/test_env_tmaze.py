"""The T-Maze against a second implementation, its evaluation split and its exploration."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import gin
import numpy as np
import pytest
from gymnasium import spaces

import envs_suite
from amago.envs.amago_env import logged_metrics
from amago.envs.exploration import get_exploration_cls
from amago.errors import ConfigurationError
from amago_suite.build import apply_gin
from amago_suite.grid import plan
from envs_suite.tmaze import TMazeAltActive, TMazeAltPassive, TMazePassiveVector
from envs_suite.tmaze_exploration import TMazeExploration


class NaiveTMaze:
    """The maze drawn as text, walked on cell by cell; the oracle is "o", the start "s"."""

    def __init__(self, corridor: int, active: bool, goal: int) -> None:
        axis = ("os" + "." * corridor) if active else ("o" + "." * corridor)
        ends = " " * (len(axis) - 1) + "."
        self.rows = {1: ends, 0: axis, -1: ends}
        self.corridor, self.goal, self.active = corridor, goal, active
        self.cell = (axis.index("s") if active else 0, 0)
        self.steps, self.oracle_visits = 0, 0 if active else 1
        self.limit = corridor + (3 if active else 1)

    def look(self, arrived: bool) -> list[float]:
        x, y = self.cell
        if x == len(self.rows[0]) - 1:
            return [1, y]
        if x == 0 and arrived and self.oracle_visits == 1:
            return [0, self.goal]
        return [0, 0]

    def act(self, action: str) -> tuple[list[float], float, bool]:
        self.steps += 1
        x, y = self.cell
        to = {"right": (x + 1, y), "up": (x, y + 1), "left": (x - 1, y), "down": (x, y - 1)}[action]
        row = self.rows.get(to[1], "")
        if 0 <= to[0] < len(row) and row[to[0]] != " ":
            self.cell = to
        at_oracle = self.cell[0] == 0
        self.oracle_visits += at_oracle
        if self.steps == self.limit:
            return self.look(at_oracle), float(self.cell[1] == self.goal), True
        free = action == "right" or (self.active and self.steps == 1)
        return self.look(at_oracle), 0.0 if free else -1 / self.corridor, False


@pytest.mark.parametrize("active", [False, True])
@pytest.mark.parametrize("corridor", [1, 2, 7])
def test_dynamics(active: bool, corridor: int) -> None:
    """Guards positions, ambiguous observations, rewards and the end against a naive maze."""
    env = (TMazeAltActive if active else TMazeAltPassive)(corridor, penalty=-1 / corridor)
    rng = np.random.default_rng(corridor)
    names = ["right", "up", "left", "down"]
    for episode in range(300):
        obs, _ = env.reset(seed=episode)
        naive = NaiveTMaze(corridor, active, env.goal)
        assert obs.tolist() == naive.look(arrived=True)
        done = False
        while not done:
            action = 0 if rng.random() < 0.7 else int(rng.integers(4))
            obs, reward, terminated, _, info = env.step(action)
            want_obs, want_reward, done = naive.act(names[action])
            assert (obs.tolist(), reward, terminated) == (want_obs, pytest.approx(want_reward), done)
        assert info == {"AMAGO_LOG_METRIC success": float(naive.cell[1] == naive.goal)}


def test_a_perfect_episode() -> None:
    """Guards the definition itself: H rights, then the side shown at the start; return 1 in H + 1 steps."""
    for seed in range(10):
        env = TMazeAltPassive(5, penalty=-0.2)
        obs, _ = env.reset(seed=seed)
        side = obs[1]
        rewards = [env.step(0)[1] for _ in range(5)]
        last = env.step(1 if side == 1 else 3)
        assert rewards == [0.0] * 5
        assert last[1:3] == (1.0, True)
        assert last[0].tolist() == [1.0, side]


def test_evaluation_is_balanced() -> None:
    """Guards balance: among task indices 0..2k-1 each side is the goal exactly k times, whatever the seed."""
    env = TMazePassiveVector(64, 5)
    for seed in range(3):
        obs, _ = env.reset(seed=seed, options={"task_index": np.arange(64)})
        assert obs[:, 1].sum() == 0
        assert set(obs[:, 1]) == {-1.0, 1.0}


def test_training_goals_are_random() -> None:
    """Guards training: sides are drawn, about half each, and differ between actors."""
    obs, _ = TMazePassiveVector(1000, 5).reset(seed=list(range(1000)))
    assert 430 < (obs[:, 1] == 1).sum() < 570


def test_registry_sets_the_penalty() -> None:
    """Guards the registry's maze: penalty -1 / corridor, horizon and success as declared."""
    spec = envs_suite.get("tmaze-passive")
    env = spec.make({"corridor": 4}, num_envs=2)
    env.reset(seed=[0, 1], options={"task_index": np.array([0, 1])})
    rewards = [env.step(np.array([[a], [2]]))[1] for a in (0, 0, 0, 0)]
    np.testing.assert_allclose(np.array(rewards), [[0, -0.25]] * 4)
    _, reward, terminated, _, info = env.step(np.array([[1], [1]]))
    assert reward.tolist() == [1.0, 0.0]
    assert terminated.all()
    assert logged_metrics(info, 2)["success"][0].tolist() == [1.0, 0.0]
    assert spec.horizon({"corridor": 4}) == 5


def _actors(n: int, **extra: object) -> SimpleNamespace:
    space = spaces.Discrete(4)
    return SimpleNamespace(batched_envs=n, discrete=True, multibinary=False, action_space=space, **extra)


def test_exploration_windows() -> None:
    """Guards the window: full epsilon at local steps 0 and >= H - 3, 0.5 / H between, per actor."""
    noise = TMazeExploration(_actors(6), horizon=20, steps_anneal=100)
    eps = noise.current_eps(np.array([0, 1, 10, 16, 17, 20]))
    np.testing.assert_allclose(eps, [1.0, 0.025, 0.025, 0.025, 1.0, 1.0])
    noise.global_step = 100
    np.testing.assert_allclose(noise.current_eps(np.array([0, 1, 10, 16, 17, 20]))[[0, 4]], 0.01)


def test_exploration_finds_its_horizon() -> None:
    """Guards the default: the corridor comes from the environment, else an error shows the line to write."""
    env = envs_suite.get("tmaze-passive").make({"corridor": 33}, num_envs=3)
    assert get_exploration_cls("tmaze")(env).horizon == 33  # type: ignore[attr-defined]
    assert TMazeExploration(_actors(3, envs=[env])).horizon == 33
    with pytest.raises(ConfigurationError, match=r"TMazeExploration.horizon = "):
        TMazeExploration(_actors(3))


def test_exploration_acts_rarely_in_the_corridor() -> None:
    """Guards the effect on actions: about 3/4 random ones at the start, hardly any in the corridor."""
    noise = TMazeExploration(_actors(20_000), horizon=50, randomize_eps=False)
    right = np.zeros((20_000, 1), dtype=np.int64)
    at_start = (noise(right, np.zeros(20_000)) != 0).mean()
    inside = (noise(right, np.full(20_000, 25)) != 0).mean()
    assert at_start == pytest.approx(0.75, abs=0.02)
    assert inside == pytest.approx(0.01 * 0.75, abs=0.003)


@pytest.mark.parametrize("form", ["passive", "active"])
def test_suites_explore_at_both_ends(form: str, tmp_path: Path) -> None:
    """Guards config/environments: in either form a suite's noise is full in the first step and the last four."""
    file = tmp_path / "mazes.yaml"
    file.write_text(
        f"environments: [{{ id: tmaze-{form}, params: {{ corridor: 20 }} }}]\narchitectures: [ff]\nseeds: [0]\n"
        "budget: { epochs: 1 }\n"
    )
    (cell,) = plan(str(file)).cells
    assert re.search(r"Experiment\.exploration_wrapper_type = @.*TMazeExploration", cell.gin)
    steps = envs_suite.get(f"tmaze-{form}").horizon({"corridor": 20})
    try:
        apply_gin(cell)
        noise = TMazeExploration(_actors(steps), horizon=20)
        eps = noise.current_eps(np.arange(steps))
    finally:
        gin.clear_config()
    assert np.flatnonzero(eps == 1.0).tolist() == [0, *range(steps - 4, steps)]
    assert eps[1] == pytest.approx(0.5 / 20)
