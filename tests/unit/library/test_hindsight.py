"""Rewriting trajectories as they are sampled, and the step-by-step views of older code."""

from __future__ import annotations

from pathlib import Path

import gin
import gymnasium as gym
import numpy as np
import pytest

import envs_suite
from amago.envs import AMAGOEnv, SequenceWrapper
from amago.envs.actors import VectorActors
from amago.errors import ConfigurationError, DataError
from amago.hindsight import FrozenTraj, NoOpRelabeler, Relabeler, Timestep, Trajectory
from amago.loading import DiskTrajDataset, load_traj_from_disk
from amago.rollout import Recorder
from amago.storage import ActionFormat
from amago_suite.build import apply_gin
from amago_suite.grid import plan
from envs_suite.maze_hindsight import MazeGoalRelabeler

SIZE, GOALS = 11, 2


def frozen(steps: int = 5, first_time: int = 0) -> FrozenTraj:
    rng = np.random.default_rng(0)
    actions = np.eye(3, dtype=np.float32)[rng.integers(3, size=steps)]
    rews = rng.normal(size=(steps, 1)).astype(np.float32)
    past = np.concatenate([rews, actions], axis=1)
    start = np.zeros((1, 4), np.float32) if first_time == 0 else np.array([[0.5, 0, 1, 0]], np.float32)
    return FrozenTraj(
        obs={"observation": rng.normal(size=(steps + 1, 2)).astype(np.float32)},
        rl2s=np.concatenate([start, past]),
        time_idxs=first_time + np.arange(steps + 1)[:, None],
        rews=rews,
        dones=np.arange(1, steps + 1)[:, None] == steps,
        actions=actions,
    )


def same(a: FrozenTraj, b: FrozenTraj) -> bool:
    x, y = a.to_dict(), b.to_dict()
    return x.keys() == y.keys() and all(np.array_equal(x[k], y[k]) for k in x)


def maze_walks(folder: Path, episodes: int = 6) -> DiskTrajDataset:
    """A dataset with a random walker's episodes in mazes of two goals."""
    env = envs_suite.get("maze-runner").make(
        {"size": SIZE, "min_goals": GOALS, "max_goals": GOALS, "time_limit": 60}, episodes, "train"
    )
    actors = VectorActors(env)
    rng = np.random.default_rng(0)
    obs = actors.reset(np.ones(episodes, bool), list(range(episodes)))
    recorder = Recorder(actors, lambda: 10**6)
    recorder.begin(np.arange(episodes), obs)
    for t in range(1, 61):
        actions = rng.integers(5, size=(episodes, 1))
        recorder.add(actors.step(actions), actions, np.full(episodes, t), actors.env_names)
        if len(recorder.finished) >= episodes:
            break
    data = DiskTrajDataset(folder, "replay", 100)
    data.has_edit_rights = True
    data.add("00000000", *recorder.take(), ActionFormat(True, 5))
    return data


# -- a relabeller ----------------------------------------------------------------------------------------


def test_a_relabeller_sees_whole_trajectories_and_its_result_is_learned_from(tmp_path: Path) -> None:
    """A user's own relabeller: here every step costs 1. Batches have the new rewards, inputs too."""

    class CostOfTime(Relabeler):
        def __init__(self) -> None:
            self.lengths: set[int] = set()

        def relabel(self, traj: FrozenTraj) -> FrozenTraj:
            self.lengths.add(len(traj))
            return traj.with_rewards(np.full_like(traj.rews, -1.0))

    data = maze_walks(tmp_path)
    data.relabeler = relabeler = CostOfTime()
    batch = data.sample_batch(np.random.default_rng(0), 8, 10, "none")
    assert batch.mask is not None
    assert (batch.rews[batch.mask] == -1).all()
    assert (batch.rl2s[:, 1:, 0][batch.mask[..., 0]] == -1).all()
    assert relabeler.lengths == {60}, "the whole episode, not the slice"


def test_draws_come_from_the_samplers_stream(tmp_path: Path) -> None:
    """`relabel(traj, rng)`: equal streams give equal batches, which exact resume needs."""

    class Noise(Relabeler):
        def relabel(self, traj: FrozenTraj, rng: np.random.Generator) -> FrozenTraj:
            return traj.with_rewards(rng.normal(size=traj.rews.shape))

    data = maze_walks(tmp_path)
    data.relabeler = Noise()
    one, two, other = (data.sample_batch(np.random.default_rng(s), 4, 9, "both").rews for s in (3, 3, 4))
    assert np.array_equal(one, two) and not np.array_equal(one, other)


def test_no_relabeller_and_the_idle_one_are_the_same(tmp_path: Path) -> None:
    """`NoOpRelabeler` changes nothing, and does not make sampling read whole files."""
    data = maze_walks(tmp_path)
    plain = data.sample_batch(np.random.default_rng(0), 8, 10, "none")
    data.relabeler = NoOpRelabeler()
    idle = data.sample_batch(np.random.default_rng(0), 8, 10, "none")
    assert np.array_equal(plain.obs["observation"], idle.obs["observation"])
    one, two = (
        d.sample_random_trajectory(np.random.default_rng(1)) for d in (data, maze_walks(tmp_path / "b"))
    )
    assert same(FrozenTraj.from_rldata(one), FrozenTraj.from_rldata(two))


# -- hindsight on maze-runner ----------------------------------------------------------------------------


def _check_walk(traj: FrozenTraj) -> None:
    """The rules of maze-runner, by a loop: goals in order, rewards where one is reached, the end after the last."""
    obs = traj.obs["observation"]
    ahead = [tuple(g) for g in np.rint(obs[0, 7:].reshape(-1, 2) * SIZE).astype(int) if g[0] >= 0]
    for row in range(1, len(traj) + 1):
        at = tuple(np.rint(obs[row, :2] * SIZE).astype(int))
        hit = bool(ahead) and at == ahead[0]
        if hit:
            ahead.pop(0)
        assert traj.rews[row - 1, 0] == float(hit) == traj.rl2s[row, 0]
        shown = np.rint(obs[row, 7:].reshape(-1, 2) * SIZE).astype(int)
        assert [tuple(g) for g in shown if g[0] >= 0] == ahead
        assert (shown[: GOALS - len(ahead)] == -1).all()
        assert bool(traj.dones[row - 1, 0]) == (not ahead or row == 60)
    assert not ahead or len(traj) == 60


def test_missed_goals_move_to_where_the_agent_went(tmp_path: Path) -> None:
    """Every relabelled episode follows the environment's rules and succeeds; walls and walk stay as they were."""
    data = maze_walks(tmp_path)
    relabeler = MazeGoalRelabeler(SIZE, probability=1.0)
    rng = np.random.default_rng(0)
    moved = 0
    for i in range(30):
        before = FrozenTraj.from_rldata(data.sample_random_trajectory(np.random.default_rng(i)))
        _check_walk(before)
        after = relabeler(before, rng)
        _check_walk(after)
        assert after.rews.sum() == GOALS and after.dones[-1, 0]
        n = len(after)
        assert np.array_equal(after.obs["observation"][:, :7], before.obs["observation"][: n + 1, :7])
        assert np.array_equal(after.actions, before.actions[:n])
        moved += before.rews.sum() < GOALS
    assert moved > 10, "the walker should miss goals, or nothing is shown"


def test_probability_keeps_some_episodes_as_they_were(tmp_path: Path) -> None:
    """Half of what is sampled stays real."""
    data = maze_walks(tmp_path)
    original = FrozenTraj.from_rldata(data.sample_random_trajectory(np.random.default_rng(0)))
    assert original.rews.sum() < GOALS
    rng = np.random.default_rng(0)
    relabeler = MazeGoalRelabeler(SIZE, probability=0.5)
    kept = sum(same(relabeler(original, rng), original) for _ in range(400))
    assert 160 < kept < 240
    with pytest.raises(ConfigurationError, match="probability"):
        MazeGoalRelabeler(SIZE, probability=2.0)


def test_the_side_of_the_mazes_is_found(tmp_path: Path) -> None:
    """Relabelling with the side read off the observations is the same as with the side given. A wrong one would move
    goals to cells that nobody visited, silently: it is an error that names the setting."""
    data = maze_walks(tmp_path)
    found = MazeGoalRelabeler(probability=1.0)
    given = MazeGoalRelabeler(SIZE, probability=1.0)
    for i in range(20):
        walk = FrozenTraj.from_rldata(data.sample_random_trajectory(np.random.default_rng(i)))
        assert same(*(r(walk, np.random.default_rng(i)) for r in (found, given)))
    for size in (SIZE - 2, SIZE + 2, 15):
        with pytest.raises(ConfigurationError, match=rf"MazeGoalRelabeler\.size is {size}"):
            MazeGoalRelabeler(size, probability=1.0)(walk, np.random.default_rng(0))
    walk.obs["observation"][:, :2] += 0.013
    with pytest.raises(ConfigurationError, match=r"MazeGoalRelabeler\.size is None"):
        MazeGoalRelabeler(probability=1.0)(walk, np.random.default_rng(0))


def test_goals_say_the_side_too() -> None:
    """An agent that stands on (5, 5) of a 15 x 15 maze could stand on (3, 3) of a 9 x 9 one: its goals tell."""
    row = np.array([5, 5, 1, 1, 1, 1, 7, 3, 7, 13, 1, 11, 3], np.float32) / 15
    walk = FrozenTraj(
        {"observation": np.stack([row, row])},
        np.zeros((2, 6), np.float32),
        np.arange(2)[:, None],
        np.zeros((1, 1), np.float32),
        np.zeros((1, 1), bool),
        np.eye(5, dtype=np.float32)[:1],
    )
    found, given = MazeGoalRelabeler(probability=1.0), MazeGoalRelabeler(15, probability=1.0)
    left, right = (r(walk, np.random.default_rng(0)).obs["observation"] for r in (found, given))
    np.testing.assert_allclose(left, right)
    np.testing.assert_allclose(left[0, 9:], row[9:])  # no time to reach the second and the third


def test_a_suite_relabels_mazes(tmp_path: Path) -> None:
    """Guards config/environments/maze-runner.gin: cells of this environment read their trajectories with hindsight."""
    file = tmp_path / "mazes.yaml"
    file.write_text(
        "environments:\n  - { id: maze-runner, params: { size: 9 } }\n  - tmaze-passive\n"
        "architectures: [ff]\nseeds: [0]\nbudget: { epochs: 1 }\n"
    )
    maze, other = plan(str(file)).cells
    try:
        apply_gin(maze)
        relabeler = DiskTrajDataset(tmp_path, "a", dset_max_size=1).relabeler
        assert isinstance(relabeler, MazeGoalRelabeler)
        assert relabeler.probability == 0.5
        apply_gin(other)
        assert DiskTrajDataset(tmp_path, "b", dset_max_size=1).relabeler is None
    finally:
        gin.clear_config()


# -- AMAGO's files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("compressed", [False, True])
def test_amagos_npz_files_are_read(tmp_path: Path, compressed: bool) -> None:
    """Its layout: `_OBS_KEY_{key}`, rl2s, time_idxs (T + 1 rows); rews, dones, actions (T rows)."""
    traj = frozen()
    traj.save(tmp_path / "a.npz", compressed)
    with np.load(tmp_path / "a.npz") as arrays:
        assert set(arrays) == {"_OBS_KEY_observation", "rl2s", "time_idxs", "rews", "dones", "actions"}
    assert same(FrozenTraj.from_rldata(load_traj_from_disk(tmp_path / "a.npz")), traj)


@pytest.mark.parametrize("damage", ["torn", "foreign", "pickle", "short"])
def test_npz_files_that_are_not_trajectories_are_named(tmp_path: Path, damage: str) -> None:
    """One error with the file's name; an object array (a pickle) is never opened."""
    path = tmp_path / "a.npz"
    frozen().save(path)
    if damage == "torn":
        path.write_bytes(path.read_bytes()[:-40])
    elif damage == "foreign":
        np.savez(path, x=np.zeros(3))
    elif damage == "pickle":
        np.savez(path, **{**frozen().to_dict(), "rews": np.array([{"a": 1}], dtype=object)})
    else:
        np.savez(path, **{**frozen().to_dict(), "rews": np.zeros((2, 1))})
    with pytest.raises(DataError, match=r"a\.npz"):
        load_traj_from_disk(path)


class _Run:
    """What a dataset asks of an experiment."""

    has_dset_edit_rights = True
    action_format = ActionFormat(True, 3)


@pytest.mark.parametrize("first_time", [0, 40])
def test_a_users_npz_files_in_protected_are_sampled(tmp_path: Path, first_time: int) -> None:
    """They give the sequences that are in them, the past before the first row too, and are never deleted."""
    data = DiskTrajDataset(tmp_path, "replay", 2)
    traj = frozen(first_time=first_time)
    traj.save(data.protected_folder / "demo.npz")
    data.configure_from_experiment(_Run())
    assert len(data) == 1
    assert same(FrozenTraj.from_rldata(data.sample_random_trajectory(np.random.default_rng(0))), traj)
    batch = data.sample_batch(np.random.default_rng(0), 3, 5, "none")
    assert np.allclose(batch.rews[0], traj.rews) and np.allclose(batch.rl2s[0], traj.rl2s)
    data.begin_anew()
    assert len(data) == 1 and (data.protected_folder / "demo.npz").exists()


def test_protected_npz_files_of_other_actions_are_refused(tmp_path: Path) -> None:
    """A demonstration of another environment is one error that names the file."""
    data = DiskTrajDataset(tmp_path, "replay", 2)
    frozen().save(data.protected_folder / "demo.npz")
    run = _Run()
    run.action_format = ActionFormat(True, 4)
    with pytest.raises(DataError, match=r"demo\.npz.*size 3, this run's 4"):
        data.configure_from_experiment(run)


# -- views for older code --------------------------------------------------------------------------------


class _Counter(gym.Env):
    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gym.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        return np.full(1, self.t, np.float32), float(action), self.t == 4, False, {}


@pytest.mark.parametrize("save_every", [None, 3])
def test_stepping_by_hand_writes_what_happened(tmp_path: Path, save_every: int | None) -> None:
    """`SequenceWrapper` gives timesteps and leaves .npz files that a dataset can learn from."""
    env = SequenceWrapper(AMAGOEnv(_Counter(), "counter"), tmp_path / "new", save_every=save_every)
    timestep, _ = env.reset(seed=0)
    assert timestep.batched_envs == 1 and timestep.as_input()[1].shape == (1, 4)
    for action in (0, 1, 2, 1):
        timestep, reward, terminated, _, _ = env.step(np.array([[action]]))
        assert reward[0] == action and timestep.prev_action[0, action] == 1
    assert terminated[0] and timestep.terminal[0] and timestep.time_idx[0] == 4
    files = sorted((tmp_path / "new").glob("*.npz"))
    parts = [FrozenTraj.load(f) for f in files]
    assert [len(p) for p in parts] == ([4] if save_every is None else [3, 1])
    assert np.concatenate([p.rews[:, 0] for p in parts]).tolist() == [0, 1, 2, 1]
    assert np.concatenate([p.dones[:, 0] for p in parts]).tolist() == [False, False, False, True]
    assert parts[-1].time_idxs[-1, 0] == 4
    assert parts[-1].rl2s[0, 0] == (0 if save_every is None else 2)


def test_trajectories_are_lists_of_timesteps() -> None:
    """`Trajectory`: add, index, sum, freeze; timesteps of several actors are split first."""
    both = [
        Timestep(
            {"o": np.full((2, 1), t)},
            np.zeros((2, 3)),
            np.full(2, float(t)),
            np.full(2, t),
            np.full(2, t == 2),
            2,
        )
        for t in range(3)
    ]
    with pytest.raises(DataError, match="split"):
        Trajectory(both)
    one = Trajectory(t.split()[1] for t in both)
    assert len(one) == 3 and one[2].time_idx[0] == 2 and one.total_return == 3.0
    assert one.freeze().dones[:, 0].tolist() == [False, True]
    with pytest.raises(DataError, match="no transition"):
        Trajectory().freeze()


def test_pickles_are_refused_by_every_writer(tmp_path: Path) -> None:
    """AMAGO's `save_trajs_as="trajectory"` is a pickle."""
    with pytest.raises(ConfigurationError, match="pickle"):
        SequenceWrapper(AMAGOEnv(_Counter()), tmp_path, save_trajs_as="trajectory")
    with pytest.raises(ConfigurationError, match="pickle"):
        Trajectory().save_to_disk(tmp_path / "a", save_as="trajectory")
