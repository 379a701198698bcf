"""Data files: Minari's and D4RL's formats into the agent's. Runs in the family `offline`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from amago.errors import ConfigurationError
from amago_suite.families import check_environments, environment_folder, python_of
from amago_suite.grid import plan

pytestmark = [pytest.mark.slow, pytest.mark.family]

MINARI = """
import sys
from pathlib import Path
import gymnasium as gym, numpy as np
from amago.loading import DiskTrajDataset
from amago.storage import ActionFormat
from envs_suite.offline_collect import collect
from envs_suite.offline_data import data_file, play_episodes, read_episodes, write_shard_of

work = Path(sys.argv[1])
for gym_id, low in (("CartPole-v1", 150.0), ("Pendulum-v1", -400.0)):
    file = collect(gym_id, "mixed", work / gym_id.lower(), episodes=8)
    assert data_file(str(work / gym_id.lower())) == file
    env = gym.make(gym_id)
    played, read = play_episodes(env, gym_id, "mixed", 8), read_episodes(file)
    assert len(read) == 8
    for a, b in zip(played, read, strict=True):
        for name in ("observations", "actions", "rewards"):
            np.testing.assert_allclose(getattr(a, name).reshape(-1), getattr(b, name).reshape(-1), rtol=1e-6)
        assert a.terminated == b.terminated
    returns = [e.rewards.sum() for e in read]
    assert np.mean(returns[1::2]) > max(low, np.mean(returns[::2])), returns
    root = work / ("replay-" + gym_id)
    write_shard_of(read, env, root / "replay" / "buffer" / "protected", "x")
    dataset = DiskTrajDataset(root, "replay", dset_max_size=1)
    dataset._protected = dataset._scan(dataset.protected_folder)
    dataset._index()
    assert len(dataset) == 8
    for seed in range(20):
        row = dataset.sample_random_trajectory(np.random.default_rng(seed))
        match = [e for e in read if np.allclose(e.observations[0], row.obs["observation"][0])]
        assert match and np.allclose(match[0].rewards, row.rews[:, 0])
        one = match[0]
        np.testing.assert_allclose(row.obs["observation"].numpy(), one.observations, rtol=1e-6)
        assert row.dones[:-1].sum() == 0 and bool(row.dones[-1]) == one.terminated
        if gym_id == "CartPole-v1":
            assert (row.actions.argmax(-1).numpy() == one.actions.reshape(-1)).all()
        else:
            np.testing.assert_allclose(row.actions.numpy() * 2.0, one.actions, atol=1e-6)
            assert abs(row.actions).max() <= 1.0
"""

D4RL = """
import sys
from pathlib import Path
import h5py, numpy as np
from envs_suite.offline_data import read_episodes

work = Path(sys.argv[1])
obs = np.arange(20, dtype=np.float32).reshape(10, 2)
steps = np.arange(10)
arrays = dict(observations=obs, actions=steps[:, None] * 1.0, rewards=steps * 1.0, terminals=steps == 2, timeouts=steps == 5)
with h5py.File(work / "plain.hdf5", "w") as f:
    for k, v in arrays.items():
        f[k] = v
a, b, c = read_episodes(work / "plain.hdf5")
# Ends in a terminal state: every transition counts. Ends by time: the last one leads to what is not stored.
assert (a.rewards.tolist(), a.terminated, len(a.observations)) == ([0, 1, 2], True, 4)
assert (b.rewards.tolist(), b.terminated, len(b.observations)) == ([3, 4], False, 3)
assert (c.rewards.tolist(), c.terminated) == ([6, 7, 8], False)
assert (b.observations == obs[3:6]).all() and (c.observations == obs[6:]).all()
with h5py.File(work / "next.hdf5", "w") as f:
    for k, v in arrays.items():
        f[k] = v
    f["next_observations"] = obs + 2
a, b, c = read_episodes(work / "next.hdf5")
assert [len(e.rewards) for e in (a, b, c)] == [3, 3, 4]
with h5py.File(work / "columns.hdf5", "w") as f:
    for k, v in arrays.items():
        f[k] = v.reshape(len(v), -1)  # ends may come as columns, too
    f["next_observations"] = obs + 2
for one, other in zip(read_episodes(work / "columns.hdf5"), (a, b, c), strict=True):
    assert one.rewards.tolist() == other.rewards.tolist() and one.terminated == other.terminated
assert (b.observations[-1] == obs[5] + 2).all() and (a.observations[-1] == obs[2] + 2).all()
"""

BAD = """
import sys
from pathlib import Path
import gymnasium as gym, h5py, numpy as np
import envs_suite
from amago.errors import ConfigurationError
from envs_suite.offline_data import data_file, play_episodes, read_episodes, write_shard_of

work = Path(sys.argv[1])

def refused(call, *words):
    try:
        call()
    except ConfigurationError as error:
        assert "\\n" not in str(error) and all(w in str(error) for w in words), str(error)
        return
    raise AssertionError(words)

refused(lambda: data_file(str(work / "none.hdf5")), "no data file", "none.hdf5")
(work / "text.hdf5").write_text("not this")
refused(lambda: read_episodes(work / "text.hdf5"), "text.hdf5", "not a readable data file")
with h5py.File(work / "odd.hdf5", "w") as f:
    f["things"] = np.zeros(3)
refused(lambda: read_episodes(work / "odd.hdf5"), "odd.hdf5", "neither Minari's", "things")
with h5py.File(work / "torn.hdf5", "w") as f:
    g = f.create_group("episode_0")
    g["observations"], g["actions"] = np.zeros((5, 2)), np.zeros((3, 1))
    g["rewards"], g["terminations"] = np.zeros(4), np.zeros(4, bool)
refused(lambda: read_episodes(work / "torn.hdf5"), "torn.hdf5", "5 observations, 3 actions")
with h5py.File(work / "empty.hdf5", "w") as f:
    for k in ("observations", "actions", "rewards", "terminals"):
        f[k] = np.zeros((0, 1))
refused(lambda: read_episodes(work / "empty.hdf5"), "empty.hdf5")
whole = dict(
    observations=np.zeros((9, 4)), actions=np.zeros(9), rewards=np.ones(9), terminals=np.arange(9) == 8,
    timeouts=np.zeros(9, bool),
)

def spoilt(name, **changed):
    with h5py.File(work / name, "w") as f:
        for k, v in (whole | changed).items():
            f[k] = v
    envs_suite.get("offline-cartpole").data({"data": str(work / name)}, work / ("shards-of-" + name))

spoilt("whole.hdf5")
refused(lambda: spoilt("short.hdf5", terminals=np.zeros(4, bool)), "short.hdf5", "different lengths", "terminals 4")
refused(lambda: spoilt("words.hdf5", observations=np.full((9, 4), b"a")), "words.hdf5", "observations are no numbers")
refused(lambda: spoilt("third.hdf5", actions=np.full(9, 2)), "third.hdf5", "among the 2 of CartPole-v1")
refused(lambda: spoilt("minus.hdf5", actions=np.full(9, -1)), "minus.hdf5", "among the 2")
refused(lambda: spoilt("half.hdf5", actions=np.full(9, 0.5)), "half.hdf5", "whole numbers")
for key, shape in (("observations", (9, 4)), ("rewards", 9), ("actions", 9)):
    refused(lambda: spoilt("nan.hdf5", **{key: np.full(shape, np.nan)}), "nan.hdf5", key, "not finite")
episodes = play_episodes(gym.make("CartPole-v1"), "CartPole-v1", "random", 2)
refused(lambda: write_shard_of(episodes, gym.make("Pendulum-v1"), work, "mine"), "mine", "Pendulum-v1")
"""


@pytest.fixture
def python(request: pytest.FixtureRequest) -> str:
    """The Python of the family, which must be installed."""
    wanted = request.config.getoption("family")
    if wanted and "offline" not in wanted:
        pytest.skip("left out by --family")
    if not (environment_folder("offline") / "stamp").is_file():
        if "family" in request.config.getoption("require"):
            pytest.fail("needs the family offline: make family-offline", pytrace=False)
        pytest.skip("needs the family offline: make family-offline")
    return str(python_of("offline"))


@pytest.mark.parametrize("code", [MINARI, D4RL, BAD], ids=["minari", "d4rl", "bad"])
def test_data_files(code: str, tmp_path: Path, python: str) -> None:
    """Guards the readers: what is written in either format comes back as the same transitions in the agent's own
    (actions over [-1, 1], ends where they were), and what is no such file is one line that names it."""
    command = [python, "-W", "ignore", "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


WRITE = """
import sys, h5py, numpy as np
with h5py.File(sys.argv[1], "w") as f:
    f["observations"], f["rewards"], f["terminals"] = np.zeros((9, 4)), np.ones(9), np.arange(9) == 8
    f["actions"] = np.full(9, int(sys.argv[2]))
"""


def test_a_useless_data_file_is_told_before_anything_starts(tmp_path: Path, python: str) -> None:
    """Guards `amago-suite run`: the family's own Python looks into the file that a suite names, and its one line comes
    with the suite's name, the environment, the file and what is wrong."""
    suite, file = tmp_path / "mine.yaml", tmp_path / "mine.hdf5"
    suite.write_text(
        f"environments:\n  - {{ id: offline-cartpole, params: {{ data: {file} }} }}\narchitectures: [ff]\nseeds: [0]\n"
        "budget: { epochs: 1 }\n"
    )
    environments = plan(str(suite), results=tmp_path / "results").environments
    for action in (1, 2):
        subprocess.run([python, "-c", WRITE, str(file), str(action)], check=True)
        if action == 1:
            check_environments(environments, suite.name)
            continue
        with pytest.raises(
            ConfigurationError, match=r"^mine\.yaml: environment 'offline-cartpole'.*mine\.hdf5.*among the 2"
        ) as caught:
            check_environments(environments, suite.name)
        assert "\n" not in str(caught.value)
