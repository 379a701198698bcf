"""What scripts and classes written for AMAGO v3 count on beyond names and defaults."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gin
import pytest
import torch

from amago import Experiment
from amago.loading import RLData, RLDataset
from tests.unit.core.small_run import configure, experiment


@pytest.fixture(autouse=True)
def _small() -> Iterator[None]:
    configure()
    yield
    gin.clear_config()


def started(run: Experiment, kind: type[Experiment]) -> Any:
    """A built experiment as one of a user's own class, started."""
    run.__class__ = kind
    run.start()
    return run


@pytest.mark.parametrize("workers", [1, 2])
def test_a_dataset_that_draws_from_pythons_generator_draws_anew_in_every_epoch(
    tmp_path: Path, workers: int
) -> None:
    """Loader processes are started for every epoch; their global generators must not begin alike each time."""
    drawn = tmp_path / "drawn"

    class Picks(RLDataset):
        @property
        def save_new_trajs_to(self) -> None:
            return None

        def get_description(self) -> str:
            return "zeros"

        def sample_random_trajectory(self) -> RLData:
            with drawn.open("a") as out:
                out.write(f"{random.random()}\n")
            (size,) = self.space.shape
            return RLData(
                obs={"observation": torch.zeros(7, size)},
                rews=torch.zeros(6, 1),
                dones=torch.zeros(6, 1, dtype=torch.bool),
                actions=torch.eye(4)[torch.zeros(6, dtype=torch.int64)],
                time_idxs=torch.arange(7)[:, None],
            )

        def configure_from_experiment(self, run) -> None:
            super().configure_from_experiment(run)
            self.space = run.train_envs.observation_space["observation"]

    def draws() -> set[str]:
        drawn.unlink(missing_ok=True)
        folder = tmp_path / f"{random.random()}"
        experiment(
            folder, dataset=Picks(), epochs=3, dloader_workers=workers, val_timesteps_per_epoch=0
        ).learn()
        return set(drawn.read_text().split())

    first = draws()
    assert len(first) == 3 * 4 * 4  # epochs, batches, sequences
    assert draws() == first  # and yet the run's seed decides


def test_the_rates_of_an_optimiser_of_your_own_are_kept(tmp_path: Path) -> None:
    """Warm-up scales what `init_optimizer` chose, each group's own, also after a resume."""

    class Mine(Experiment):
        def init_optimizer(self, policy: Any) -> torch.optim.Optimizer:
            critics = list(policy.critics.parameters())
            others = [p for p in policy.trainable_params if all(p is not c for c in critics)]
            return torch.optim.Adam([{"params": critics, "lr": 0.08}, {"params": others}], lr=0.02)

    def rates(epochs: int) -> list[float]:
        run = started(experiment(tmp_path, start=False, epochs=epochs, lr_warmup_steps=8), Mine)
        run.learn()
        return [group["lr"] for group in run.optimizer.param_groups]

    assert rates(1) == pytest.approx([0.04, 0.01])  # 4 of 8 steps
    assert rates(4) == pytest.approx([0.08, 0.02])
