"""Replay: what is written is what is read, slice by slice, and nothing else."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from amago.errors import CheckpointError, ConfigurationError, DataError
from amago.loading import DiskTrajDataset, load_traj_from_disk, slice_bounds
from amago.storage import ActionFormat, Rows, Shard, write_shard

FORMAT = ActionFormat(discrete=True, size=300)


def trajectory(length: int, mark: float, rng: np.random.Generator) -> Rows:
    return Rows(
        obs={
            "observation": np.full((length + 1, 3), mark, np.float32),
            "image": np.zeros((length + 1, 2, 2), np.uint8),
        },
        actions=rng.integers(0, 300, (length + 1, 1)).astype(np.int32),
        rewards=rng.normal(size=length + 1).astype(np.float32),
        dones=np.arange(length + 1) == length,
        time_idxs=np.arange(length + 1),
    )


def dataset(folder: Path, size: int = 100) -> DiskTrajDataset:
    made = DiskTrajDataset(folder, "replay", size)
    made.has_edit_rights = True
    return made


def test_a_shard_gives_back_every_slice(tmp_path: Path) -> None:
    """Guards offsets: each slice of each trajectory equals the arrays that were written."""
    rng = np.random.default_rng(0)
    written = [trajectory(n, i, rng) for i, n in enumerate([1, 5, 17])]
    write_shard(tmp_path / "a.safetensors", written, ["x", "y", "z"], FORMAT)
    shard = Shard(tmp_path / "a.safetensors")
    assert len(shard) == 3 and shard.env_names == ["x", "y", "z"] and shard.action_format == FORMAT
    for i, rows in enumerate(written):
        first, last = shard.offsets[i], shard.offsets[i + 1]
        for a, b in itertools.combinations(range(last - first + 1), 2):
            got = shard.rows(first + a, first + b)
            np.testing.assert_array_equal(got.rewards, rows.rewards[a:b])
            np.testing.assert_array_equal(got.actions, rows.actions[a:b])
            np.testing.assert_array_equal(got.obs["observation"], rows.obs["observation"][a:b])
    assert shard.rows(0, 1).obs["image"].dtype == np.uint8


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_a_torn_or_foreign_file_is_refused_by_name(tmp_path: Path, keep: int) -> None:
    """Guards reading: a cut file is one clear error that names it, never garbage."""
    path = tmp_path / "a.safetensors"
    write_shard(path, [trajectory(4, 0, np.random.default_rng(0))], ["x"], FORMAT)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"a\.safetensors"):
        Shard(path)


def test_pickles_are_refused(tmp_path: Path) -> None:
    """Guards security: a .traj file is a pickle and is never opened."""
    with pytest.raises(DataError, match="pickle"):
        load_traj_from_disk(tmp_path / "a.traj")


def test_first_step_of_an_episode_sees_no_past(tmp_path: Path) -> None:
    """Guards rl2: zeros at time 0, the previous action (beyond 256 too) and reward after it."""
    rng = np.random.default_rng(1)
    rows = trajectory(6, 0, rng)
    write_shard(tmp_path / "a.safetensors", [rows], ["x"], FORMAT)
    data = load_traj_from_disk(tmp_path / "a.safetensors")
    assert data.rl2s is not None and not data.rl2s[0].any()
    for t in range(6):
        assert data.rews[t, 0] == pytest.approx(float(rows.rewards[t + 1]))
        assert data.actions[t].argmax() == rows.actions[t + 1, 0]
        assert data.rl2s[t + 1, 0] == data.rews[t, 0]
        assert data.rl2s[t + 1, 1:].argmax() == rows.actions[t + 1, 0]
    assert data.dones[-1] and not data.dones[:-1].any()


def test_a_trajectory_that_was_cut_in_the_middle_keeps_its_past(tmp_path: Path) -> None:
    """Guards long episodes: the first row of a later piece still knows the step before it."""
    rows = trajectory(6, 0, np.random.default_rng(1))
    rows.time_idxs = rows.time_idxs + 50
    write_shard(tmp_path / "a.safetensors", [rows], ["x"], FORMAT)
    data = load_traj_from_disk(tmp_path / "a.safetensors")
    assert data.rl2s is not None
    assert data.rl2s[0, 0] == pytest.approx(float(rows.rewards[0]))
    assert data.rl2s[0, 1:].argmax() == rows.actions[0, 0]


def test_batches_equal_trajectories_sliced_one_by_one(tmp_path: Path) -> None:
    """Guards the fast path: a batch's rows, mask and padding against the slow reading of the file."""
    rng = np.random.default_rng(2)
    data = dataset(tmp_path)
    written = [trajectory(n, i, rng) for i, n in enumerate([3, 9, 30])]
    data.add("00000000", written, ["x"] * 3, FORMAT)
    batch = data.sample_batch(np.random.default_rng(5), 64, 8, "none")
    assert batch.mask is not None and batch.obs["observation"].shape == (64, 9, 3)
    for b in range(64):
        length = int(batch.mask[b].sum())
        mark = int(batch.obs["observation"][b, 0, 0])
        source = written[mark]
        assert length == min(len(source), 8)
        start = int(batch.time_idxs[b, 0, 0])
        np.testing.assert_array_equal(
            batch.rews[b, :length, 0], source.rewards[start + 1 : start + 1 + length]
        )
        np.testing.assert_array_equal(
            batch.dones[b, :length, 0], source.dones[start + 1 : start + 1 + length]
        )
        np.testing.assert_array_equal(
            batch.actions[b, :length].argmax(-1), source.actions[start + 1 : start + 1 + length, 0]
        )
        assert not batch.mask[b, length:].any() and not batch.rews[b, length:].any()
        assert not batch.obs["observation"][b, length + 1 :].any()


@pytest.mark.parametrize(
    ("padding", "low", "high"), [("none", 0, 12), ("left", -7, 12), ("right", 0, 18), ("both", -7, 18)]
)
def test_slices_start_where_their_definition_says(padding: str, low: int, high: int) -> None:
    """Guards sampling: starts are uniform over the definition's range (chi-squared, 20 transitions, window 8)."""
    rng = np.random.default_rng(3)
    draws = 40_000
    observed: dict[tuple[int, int], int] = {}
    for _ in range(draws):
        bounds = slice_bounds(20, 8, padding, rng)
        observed[bounds] = observed.get(bounds, 0) + 1
    expected: dict[tuple[int, int], float] = {}
    for start in range(low, high + 1):
        key = (max(start, 0), min(start + 8, 20))
        expected[key] = expected.get(key, 0) + draws / (high - low + 1)
    assert set(observed) == set(expected)
    keys = sorted(expected)
    assert stats.chisquare([observed[k] for k in keys], [expected[k] for k in keys]).pvalue > 1e-4


def test_many_slices_follow_the_same_definition_as_one(tmp_path: Path) -> None:
    """Guards the vectorised sampler: the mean start of ``right`` padding is that of the scalar one."""
    data = dataset(tmp_path)
    data.add("0", [trajectory(20, 0, np.random.default_rng(0))], ["x"], FORMAT)
    batch = data.sample_batch(np.random.default_rng(0), 20_000, 8, "right")
    starts = batch.time_idxs[:, 0, 0].numpy()
    counts = np.bincount(starts, minlength=19)
    assert len(counts) == 19 and stats.chisquare(counts).pvalue > 1e-4


def test_oldest_go_first_and_protected_stay(tmp_path: Path) -> None:
    """Guards eviction: FIFO by trajectory, across shards, never from ``protected``."""
    rng = np.random.default_rng(4)
    write_shard(tmp_path / "p.safetensors", [trajectory(2, 99, rng)], ["x"], FORMAT)
    data = dataset(tmp_path, size=5)
    (tmp_path / "p.safetensors").rename(data.protected_folder / "p.safetensors")
    data._protected = data._scan(data.protected_folder)
    for epoch in range(4):
        data.add(f"{epoch:08d}", [trajectory(2, epoch * 3 + i, rng) for i in range(3)], ["x"] * 3, FORMAT)
        data.on_end_of_collection(None)
    seen = {int(data.sample_random_trajectory(rng).obs["observation"][0, 0]) for _ in range(300)}
    assert seen == {99, 7, 8, 9, 10, 11} and len(data) == 6


def test_a_restored_dataset_holds_exactly_what_it_held(tmp_path: Path) -> None:
    """Guards exact resume: later rollouts are removed, evicted ones come back, samples are the same."""
    rng = np.random.default_rng(6)
    data = dataset(tmp_path, size=4)
    for epoch in range(3):
        data.add(f"{epoch:08d}", [trajectory(3, epoch * 2 + i, rng) for i in range(2)], ["x"] * 2, FORMAT)
        data.on_end_of_collection(None)
    state = data.state_dict()
    before = data.sample_batch(np.random.default_rng(0), 32, 2, "none")
    for epoch in range(3, 6):
        data.add(f"{epoch:08d}", [trajectory(3, 50, rng)] * 2, ["x"] * 2, FORMAT)
        data.on_end_of_collection(None)
        data.release([state])
    again = dataset(tmp_path, size=4)
    again.load_state_dict(state)
    after = again.sample_batch(np.random.default_rng(0), 32, 2, "none")
    assert np.array_equal(before.obs["observation"], after.obs["observation"])
    assert np.array_equal(before.rews, after.rews)
    assert {p.name for p in again.fifo_folder.iterdir()} == {"00000001.safetensors", "00000002.safetensors"}


def test_damaged_replay_is_not_resumed_from(tmp_path: Path) -> None:
    """Guards exact resume: one flipped bit in a trajectory file is noticed and named."""
    data = dataset(tmp_path)
    data.add("00000000", [trajectory(3, 1, np.random.default_rng(0))], ["x"], FORMAT)
    state = data.state_dict()
    path = data.fifo_folder / "00000000.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-3] ^= 1
    path.write_bytes(bytes(raw))
    with pytest.raises(CheckpointError, match=r"00000000\.safetensors"):
        dataset(tmp_path).load_state_dict(state)


def test_a_checkpoint_cannot_name_files_outside_the_replay(tmp_path: Path) -> None:
    """Guards security: a crafted state must not reach other folders."""
    with pytest.raises(CheckpointError, match="outside"):
        dataset(tmp_path).load_state_dict({"fifo": [{"file": "../x.safetensors", "sha256": "", "skip": 0}]})


def test_sampling_stays_fast_with_many_trajectories(tmp_path: Path) -> None:
    """Guards scale: 100,000 trajectories are indexed, and a batch opens no file."""
    rng = np.random.default_rng(7)
    data = dataset(tmp_path, size=200_000)
    many = [trajectory(2, 0, rng)] * 10_000
    for epoch in range(10):
        data.add(f"{epoch:08d}", many, ["x"] * 10_000, FORMAT)
    assert len(data) == 100_000
    for path in data.fifo_folder.iterdir():
        path.unlink()  # the maps stay; a batch that re-opened files would fail
    assert data.sample_batch(rng, 64, 2, "none").rews.shape == (64, 2, 1)


@pytest.mark.parametrize(("size", "minimum"), [(0, 1), (5, 0), (-1, 1)])
def test_impossible_sizes_are_refused(tmp_path: Path, size: int, minimum: int) -> None:
    """Guards settings: the error names them."""
    with pytest.raises(ConfigurationError, match="dset_max_size"):
        DiskTrajDataset(tmp_path, "x", size, minimum)


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    """Guards settings: dset_root pointing at a file is one clear error."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="file"):
        DiskTrajDataset(tmp_path / "file", "x", 5)
