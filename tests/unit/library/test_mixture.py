"""Several datasets side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from amago.errors import ConfigurationError, DataError
from amago.loading import DiskTrajDataset, MixtureOfDatasets, RLData, RLDataset
from amago.storage import ActionFormat, Rows
from tests.unit.core.small_run import assert_same, configure, experiment


class Marked(RLDataset):
    """A user's own dataset: three methods, and here a switch for when it is ready."""

    def __init__(self, mark: float, ready: bool = True, length: int = 6) -> None:
        super().__init__(dset_name=f"marked {mark:g}")
        self.mark, self.ready, self.length = mark, ready, length

    @property
    def save_new_trajs_to(self) -> None:
        return None

    def get_description(self) -> str:
        return f"all {self.mark}"

    @property
    def ready_for_training(self) -> bool:
        return self.ready

    def sample_random_trajectory(self) -> RLData:
        n = self.length
        return RLData(
            obs={"observation": torch.full((n + 1, 2), self.mark)},
            rews=torch.zeros(n, 1),
            dones=torch.zeros(n, 1, dtype=torch.bool),
            actions=torch.eye(3)[torch.zeros(n, dtype=torch.long)],
            time_idxs=torch.arange(n + 1)[:, None],
        )


def shares(mixture: MixtureOfDatasets, draws: int = 3000) -> np.ndarray:
    batch = mixture.sample_batch(np.random.default_rng(0), draws, 4, "none")
    return np.bincount(batch.obs["observation"][:, 0, 0].numpy().astype(int), minlength=2)


def test_sequences_come_in_the_proportion_of_the_weights() -> None:
    """Weights in any scale; chi-squared over the sequences of one batch."""
    mixture = MixtureOfDatasets([Marked(0), Marked(1), Marked(2)], [2, 6, 2])
    assert stats.chisquare(shares(mixture), [600, 1800, 600]).pvalue > 1e-3
    picked = [
        mixture.sample_random_trajectory(np.random.default_rng(i)).obs["observation"][0, 0]
        for i in range(200)
    ]
    assert 80 < sum(int(p) == 1 for p in picked) < 160


def test_what_is_not_ready_waits_and_then_comes_in_smoothly() -> None:
    """An online buffer beside demonstrations: weight 0, then linearly to its share from when it is ready."""
    online = Marked(1, ready=False)
    mixture = MixtureOfDatasets([Marked(0), online], [0.8, 0.2], smooth_sudden_starts=4)
    found = []
    for epoch in range(9):
        online.ready = epoch >= 3
        mixture.on_epoch(epoch)
        mixture.on_epoch(epoch)  # a resume in the epoch's middle calls it again
        found.append(mixture.current_weights[1] / mixture.current_weights[0])
    rise = [0.05 * k / 0.8 for k in range(5)]
    np.testing.assert_allclose(found, [0, 0, 0, *rise, 0.25], atol=1e-12)
    assert shares(mixture)[1] == pytest.approx(600, abs=120)


def test_without_smoothing_it_comes_in_at_once() -> None:
    """The default."""
    online = Marked(1, ready=False)
    mixture = MixtureOfDatasets([Marked(0), online], [0.8, 0.2])
    assert mixture.current_weights.tolist() == [1, 0]
    online.ready = True
    mixture.on_epoch(5)
    np.testing.assert_allclose(mixture.current_weights, [0.8, 0.2])


def test_weights_can_be_annealed_from_given_ones() -> None:
    """`initial_sampling_weights`: from only the first dataset to only the second, over 10 epochs."""
    mixture = MixtureOfDatasets(
        [Marked(0), Marked(1)], [0, 1], initial_sampling_weights=[1, 0], smooth_sudden_starts=10
    )
    for epoch, want in ((0, 0.0), (3, 0.3), (10, 1.0), (50, 1.0)):
        mixture.on_epoch(epoch)
        assert mixture.current_weights[1] == pytest.approx(want)


def test_sequences_of_different_lengths_are_padded_together() -> None:
    """The mask says which transitions are real."""
    mixture = MixtureOfDatasets([Marked(0, length=2), Marked(1, length=9)], [1, 1])
    batch = mixture.sample_batch(np.random.default_rng(0), 40, 5, "none")
    assert batch.mask is not None and batch.obs["observation"].shape == (40, 6, 2)
    short = batch.obs["observation"][:, 0, 0] == 0
    assert (batch.mask.sum(dim=(1, 2)) == torch.where(short, 2, 5)).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampling_weights": [1]}, "2 numbers"),
        ({"sampling_weights": [1, -1]}, "not negative"),
        ({"sampling_weights": [0, 0]}, "not all 0"),
        ({"sampling_weights": [1, 1], "initial_sampling_weights": [1, 0]}, "needs smooth_sudden_starts"),
        ({"sampling_weights": [1, 1], "smooth_sudden_starts": 0}, "at least 1"),
    ],
)
def test_impossible_weights_are_refused(settings: dict, message: str) -> None:
    """One clear line, when it is built."""
    with pytest.raises(ConfigurationError, match=message):
        MixtureOfDatasets([Marked(0), Marked(1)], **settings)


def test_only_one_may_store_new_trajectories(tmp_path: Path) -> None:
    """Two growing buffers in one mixture are refused; one takes what is collected."""
    online = DiskTrajDataset(tmp_path, "a", 10)
    online.has_edit_rights = True
    mixture = MixtureOfDatasets([Marked(0), online], [1, 1])
    assert mixture.save_new_trajs_to == str(online.fifo_folder) and not len(mixture)
    rows = Rows(
        {"observation": np.ones((4, 2), np.float32)},
        np.zeros((4, 1), np.int32),
        np.zeros(4, np.float32),
        np.zeros(4, bool),
        np.arange(4),
    )
    mixture.add("00000000", [rows], ["x"], ActionFormat(True, 3))
    assert len(mixture) == 1 and shares(mixture, 10)[1] == 0
    mixture.on_epoch(0)
    assert shares(mixture)[1] == pytest.approx(1500, abs=150)
    second = DiskTrajDataset(tmp_path, "b", 10)
    second.has_edit_rights = True
    with pytest.raises(ConfigurationError, match="only one"):
        MixtureOfDatasets([online, second], [1, 1]).add("0", [rows], ["x"], ActionFormat(True, 3))


def test_nothing_ready_is_said(tmp_path: Path) -> None:
    """Sampling before there is data is an error, not a crash in numpy."""
    with pytest.raises(DataError, match="none has enough"):
        MixtureOfDatasets([Marked(0, ready=False)], [1]).sample_random_trajectory(np.random.default_rng(0))


def test_a_run_with_a_mixture_is_resumed_exactly(tmp_path: Path) -> None:
    """Stopped while its weights are moving and continued: the same bits as without the stop."""
    configure()

    def mixture(folder: Path) -> MixtureOfDatasets:
        old = DiskTrajDataset(folder, "old", 10)
        if not list(old.protected_folder.iterdir()):
            grown = experiment(folder / "grown", epochs=1)
            grown.learn()
            for path in grown.dataset.fifo_folder.glob("*.safetensors"):
                path.rename(old.protected_folder / path.name)
        return MixtureOfDatasets(
            [_ReadOnly(old), DiskTrajDataset(folder, "replay", 12, dset_min_size=6)],
            [1, 3],
            smooth_sudden_starts=4,
        )

    whole = experiment(tmp_path / "a", dataset=mixture(tmp_path / "a"))
    whole.learn()
    weights = whole.dataset.current_weights.copy()
    assert 0 < weights[1] <= 0.75

    first = experiment(tmp_path / "b", dataset=mixture(tmp_path / "b"), epochs=3)
    first.learn()
    second = experiment(tmp_path / "b", dataset=mixture(tmp_path / "b"))
    assert second.epoch == 3
    second.learn()
    assert np.array_equal(second.dataset.current_weights, weights)
    assert_same(whole, second)


class _ReadOnly(RLDataset):
    """Another dataset, without the right to grow."""

    def __init__(self, inner: DiskTrajDataset) -> None:
        super().__init__("old")
        self.inner = inner

    @property
    def save_new_trajs_to(self) -> None:
        return None

    def get_description(self) -> str:
        return self.inner.get_description()

    def configure_from_experiment(self, experiment) -> None:
        self.inner.configure_from_experiment(experiment)

    def sample_random_trajectory(self, rng: np.random.Generator) -> RLData:
        return self.inner.sample_random_trajectory(rng)
