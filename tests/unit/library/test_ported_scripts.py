"""What scripts and classes written for AMAGO v3 count on beyond names and defaults."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gin
import numpy as np
import pytest
import torch

from amago import Experiment
from amago.envs import AMAGOEnv
from amago.envs.builtin.tmaze import TMazeAltPassive
from amago.envs.builtin.toy_gym import MetaFrozenLake
from amago.loading import DiskTrajDataset, RLData, RLDataset, sample_trajectory
from envs_suite.tmaze import TMazeVector
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


class Doubled(AMAGOEnv):
    """Shows the action that was taken twice as large as a one-hot vector does."""

    def make_action_rep(self, action: np.ndarray) -> np.ndarray:
        return 2.0 * super().make_action_rep(action)


@pytest.mark.parametrize("mode", ["sync", "async", "vectorized"])
def test_actions_in_a_form_of_your_own_are_what_the_policy_sees_and_learns_from(
    tmp_path: Path, mode: str
) -> None:
    """`AMAGOEnv.make_action_rep`: rollouts, replay and batches agree, in every environment mode."""
    if mode == "vectorized":
        make: Any = lambda: Doubled(TMazeVector(2, corridor_length=5), batched_envs=2)  # noqa: E731
    else:
        make = lambda: Doubled(TMazeAltPassive(corridor_length=5))  # noqa: E731
    run = experiment(
        tmp_path, make_train_env=make, make_val_env=make, env_mode=mode, parallel_actors=2, start=False
    )
    run.exploration_wrapper_type = None
    run.start()
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    act = run.policy.get_actions

    def watched(**given: Any) -> Any:
        seen.append((given["rl2s"][:, 0, 1:].clone(), given["time_idxs"][:, 0, 0] > 0))
        return act(**given)

    run.policy.get_actions = watched
    run.collect_new_training_data()
    run.close()
    assert len(seen) == 8 and all(torch.equal(shown.sum(1), 2.0 * later) for shown, later in seen)
    batch = run.dataset.sample_batch(np.random.default_rng(0), 8, 6, "none")
    assert (batch.actions[batch.mask[..., 0]].sum(-1) == 2.0).all()
    assert torch.equal(batch.rl2s[:, 1:, 1:], batch.actions)


def test_the_test_after_training_in_amagos_default_mode(tmp_path: Path) -> None:
    """`env_mode="async"`: environments with fixed tasks for tests get each actor's own, as in other modes."""
    make = lambda: AMAGOEnv(MetaFrozenLake(3, k_episodes=2), "lake")  # noqa: E731
    found = {}
    for mode in ("async", "sync"):
        run = experiment(
            tmp_path / mode, make_train_env=make, make_val_env=make, env_mode=mode, parallel_actors=3
        )
        assert run.train_envs.takes_task_index
        found[mode] = run.evaluate_test(make, episodes_per_actor=2, seed=4, greedy=True).episodes
        run.close()
    assert found["async"] == found["sync"] and len(found["sync"]) == 6


def test_modules_are_found_with_one_import() -> None:
    """`import amago`, then any public module or class by its full path; quick until then."""
    script = """
import sys, amago
assert "torch" not in sys.modules
found = (amago.nets.traj_encoders.TformerTrajEncoder, amago.nets.policy_dists.Beta, amago.agent.Agent,
         amago.cli_utils.use_config, amago.envs.AMAGOEnv, amago.loading.DiskTrajDataset,
         amago.hindsight.Relabeler, amago.envs.exploration.EpsilonGreedy, amago.nets.TrajEncoder)
for unknown in (amago, amago.nets):
    assert not hasattr(unknown, "of_no_such_name")
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_generator_is_given_to_whoever_takes_one(tmp_path: Path) -> None:
    """Datasets take it by position, by name or not at all; relabellers that are plain functions may, too."""

    class Base(RLDataset):
        save_new_trajs_to = None  # type: ignore[assignment]

        def get_description(self) -> str:
            return ""

    given: list[Any] = []
    transition = (torch.zeros(1, 1), torch.zeros(1, 1, dtype=torch.bool), torch.zeros(1, 1))
    data = RLData({"observation": torch.zeros(2, 1)}, *transition, torch.arange(2)[:, None])

    class ByName(Base):
        def sample_random_trajectory(self, *, rng: Any) -> RLData:
            given.append(rng)
            return data

    class Without(Base):
        def sample_random_trajectory(self, **others: Any) -> RLData:
            given.append(others)
            return data

    rng = np.random.default_rng(0)
    assert sample_trajectory(ByName(), rng) is data is sample_trajectory(Without(), rng)
    assert given == [rng, {}]

    def halved(traj: Any) -> Any:
        return traj.with_rewards(traj.rews / 2)

    run = experiment(tmp_path, epochs=1, dataset=DiskTrajDataset(tmp_path, "replay", 30, relabeler=halved))
    run.learn()
    assert run.gradient_steps == 4


def test_a_class_may_have_the_name_of_one_that_comes_with_an_environment() -> None:
    """AMAGO's T-Maze script brings a `TMazeExploration` of its own, and sets it by that name alone."""
    script = """
import gin
from amago.cli_utils import use_config
from amago.envs.builtin.tmaze import TMazeAltPassive
from amago.envs.exploration import EpsilonGreedy

@gin.configurable
class TMazeExploration(EpsilonGreedy):
    def __init__(self, amago_env, horizon: int = 1):
        super().__init__(amago_env)
        self.horizon = horizon

use_config({"TMazeExploration.horizon": 7}, None)

class Three:
    batched_envs, discrete, multibinary = 3, True, False

print(TMazeExploration(Three()).horizon)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["7"], done.stderr
