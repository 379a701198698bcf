"""What a run may delete of the data in a dataset's folder, and names by which processes keep out of each other's way."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gin
import numpy as np
import pytest

from amago.cli_utils import switch_async_mode
from amago.errors import DataError
from amago.loading import DiskTrajDataset, MixtureOfDatasets, RLDataset, load_traj_from_disk
from amago.storage import ActionFormat, Rows, Shard, write_shard
from tests.unit.core.small_run import configure, experiment


@pytest.fixture(autouse=True)
def _small() -> Iterator[None]:
    configure()
    yield
    gin.clear_config()


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """The fifo folder that another run left, with two files."""
    experiment(tmp_path, run_name="another", epochs=2).learn()
    folder = tmp_path / "replay/buffer/fifo"
    assert len(list(folder.iterdir())) == 2
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


@pytest.mark.parametrize("resume", ["auto", "never"])
def test_without_edit_rights_stored_data_are_learned_from_and_stay(
    tmp_path: Path, fifo: Path, resume: str
) -> None:
    """Start, checkpoints and a resume delete nothing, and the data of the other run are what is sampled."""
    before = content(fifo)
    offline: dict[str, Any] = {
        "has_dset_edit_rights": False,
        "train_timesteps_per_epoch": 0,
        "ckpt_interval": 1,
        "run_name": "offline",
        "resume": resume,
    }
    run = experiment(tmp_path, epochs=2, **offline)
    assert len(run.dataset) == 16
    run.learn()
    assert run.gradient_steps == 8 and content(fifo) == before
    if resume == "auto":
        run = experiment(tmp_path, epochs=3, **offline)
        assert (run.epoch, len(run.dataset)) == (2, 16)
        run.learn()
        assert run.gradient_steps == 12 and content(fifo) == before


def test_checkpoints_remove_trajectories_and_nothing_else(tmp_path: Path) -> None:
    """A note and a folder that someone put beside them stay."""
    run = experiment(tmp_path, epochs=2, ckpt_interval=1, dataset=DiskTrajDataset(tmp_path, "replay", 8))
    fifo = tmp_path / "replay/buffer/fifo"
    (fifo / "notes.txt").write_text("mine")
    (fifo / "old").mkdir()
    run.learn()
    assert {p.name for p in fifo.iterdir() if p.suffix != ".safetensors"} == {"notes.txt", "old"}


def test_deleting_the_buffer_keeps_what_is_protected(tmp_path: Path, fifo: Path) -> None:
    """Protected trajectories go only when that is asked for; names that come again are new data."""
    protected = fifo.parent / "protected"
    one, two = sorted(fifo.iterdir())
    one.rename(protected / one.name)
    kept = content(protected)
    run = experiment(tmp_path, epochs=1, resume="never")
    run.delete_buffer_from_disk()
    assert content(protected) == kept and not two.exists() and len(run.dataset) == 8
    run.learn()
    assert [p.name for p in fifo.iterdir()] == [one.name] and len(run.dataset) == 16
    run.delete_buffer_from_disk(delete_protected=True)
    assert not content(protected) and not content(fifo) and len(run.dataset) == 0


def test_processes_that_train_together_take_in_names_that_were_deleted(tmp_path: Path, fifo: Path) -> None:
    """After a deletion, a file of an earlier run's name is a new one to all of them."""
    run = experiment(tmp_path, resume="never", start=False)
    run.dataset.share_as("parallel", "0000")
    for path in fifo.iterdir():
        path.rename(fifo / f"{path.stem}-0000.safetensors")
    run.start()
    run.delete_buffer_from_disk()
    run.collect_new_training_data()
    assert run.dataset.refresh() == 4 * 8 and len(run.dataset) == 8


def test_a_mixture_deletes_what_it_stored(tmp_path: Path, fifo: Path) -> None:
    """The dataset that is only read stays whole."""

    class ReadOnly(DiskTrajDataset):
        save_new_trajs_to = None  # type: ignore[assignment]

    both = [ReadOnly(tmp_path, "replay", 30), DiskTrajDataset(tmp_path, "own", 30)]
    run = experiment(tmp_path / "run", dataset=MixtureOfDatasets(both, [1, 1]), epochs=1, resume="never")
    before = content(fifo)
    run.learn()
    run.delete_buffer_from_disk()
    assert content(fifo) == before and not content(both[1].fifo_folder)


def test_npz_files_that_are_not_read_are_named(tmp_path: Path, fifo: Path, caplog: Any) -> None:
    """A buffer of AMAGO's own, taken as it is, would otherwise be silently empty."""
    (fifo / "a.npz").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        experiment(tmp_path, resume="never")
    assert "1 .npz files are not read" in caplog.text and "protected" in caplog.text


class Files(RLDataset):
    """A dataset of a user's own: one file a trajectory."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    @property
    def save_new_trajs_to(self) -> str:
        return str(self.folder)

    def get_description(self) -> str:
        return f"{len(self.files())} files"

    def files(self) -> list[Path]:
        return sorted(self.folder.glob("*.safetensors"))

    def sample_random_trajectory(self, rng: Any) -> Any:
        return load_traj_from_disk(self.files()[int(rng.integers(len(self.files())))])


def test_collectors_do_not_overwrite_each_other_in_a_dataset_of_your_own(tmp_path: Path) -> None:
    """Each process's files have names of their own; the folder is made when it is not there."""
    folder = tmp_path / "a/b"
    for _ in range(2):
        run = switch_async_mode(experiment(tmp_path, start=False, epochs=1, dataset=Files(folder)), "collect")
        run.start()
        run.learn()
    assert len(Files(folder).files()) == 16


def test_acting_by_hand_twice_overwrites_nothing_in_a_dataset_of_your_own(tmp_path: Path) -> None:
    """`interact(save_on_done=True)` within one epoch, and the epoch's own collection after it."""
    run = experiment(tmp_path, dataset=Files(tmp_path / "a"), epochs=1, resume="never")
    hidden = None
    for calls in (1, 2, 3):
        hidden, _ = run.interact(run.train_envs, 7, hidden_state=hidden, save_on_done=True)
        assert len(run.dataset.files()) == 4 * calls
    run.learn()
    assert len(run.dataset.files()) == 12 + 8


def test_a_second_run_into_the_same_folder_overwrites_nothing(tmp_path: Path, fifo: Path) -> None:
    """Both runs call their first files alike; the second learns from all, and goes on from its checkpoint."""
    before = content(fifo)
    second: dict[str, Any] = {"run_name": "second", "ckpt_interval": 1}
    experiment(tmp_path, epochs=2, resume="never", **second).learn()
    after = content(fifo)
    assert len(after) == 4 and before.items() <= after.items()
    run = experiment(tmp_path, epochs=3, resume="auto", **second)
    assert run.epoch == 2 and len(run.dataset) == 30  # of 32; dset_max_size
    run.learn()
    assert run.gradient_steps == 12


def test_runs_share_a_folder_of_a_dataset_of_your_own(tmp_path: Path) -> None:
    """The run's name is part of the files' names."""
    for name in ("one", "two"):
        experiment(tmp_path, dataset=Files(tmp_path / "a"), epochs=1, resume="never", run_name=name).learn()
    assert len(Files(tmp_path / "a").files()) == 16


def test_data_of_another_environment_are_named(tmp_path: Path, fifo: Path) -> None:
    """Not an error of a network's, later."""
    trajectory = Shard(next(iter(fifo.iterdir()))).rows(0, 3)
    trajectory.obs["observation"] = np.zeros((3, 7), np.float32)
    write_shard(fifo.parent / "protected/a.safetensors", [trajectory], ["x"], ActionFormat(True, 4))
    with pytest.raises(DataError, match=r"protected/a.safetensors: its obs.observation has shape \(7,\)"):
        experiment(tmp_path, resume="never")


def test_sequences_of_different_dtypes_keep_their_values(tmp_path: Path) -> None:
    """Bytes beside floats in one batch: neither is squeezed into the other's type, whichever comes first."""
    values = {"a": np.full((3, 2), 200, np.uint8), "b": np.full((3, 2), 0.25, np.float32)}
    both, *apart = (DiskTrajDataset(tmp_path, name, 30) for name in ("both", "one", "other"))
    for (name, value), own in zip(values.items(), apart, strict=True):
        zeros = np.zeros(3, np.float32)
        rows = Rows({"x": value}, np.zeros((3, 1), np.int32), zeros, zeros > 0, np.arange(3))
        for data in (own, both):
            data.has_edit_rights = True
            data.add(name, [rows], ["x"], ActionFormat(True, 2))
    relabelled = DiskTrajDataset(tmp_path, "both", 30, relabeler=lambda trajectory: trajectory)
    relabelled._fifo = both._fifo
    relabelled._index()
    rng = np.random.default_rng(0)
    for data in (both, relabelled, MixtureOfDatasets(apart, [1, 1]), MixtureOfDatasets(apart[::-1], [1, 1])):
        for _ in range(4):
            found = data.sample_batch(rng, 40, 4, "none").obs["x"]
            assert set(found.unique().tolist()) == {0.25, 200.0}
