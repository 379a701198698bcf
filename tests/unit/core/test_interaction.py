"""What a script does with an `Experiment` besides `learn`: acting by hand, own metrics, saving, nothing at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gin
import numpy as np
import pytest
import torch

from amago import Experiment
from amago.envs.amago_env import AMAGOEnv
from amago.errors import CheckpointError, ConfigurationError, EnvironmentFailure
from tests.unit.core.small_run import configure, experiment
from tests.unit.core.test_rollouts import Counter


@pytest.fixture(autouse=True)
def _small() -> Iterator[None]:
    configure()
    yield
    gin.clear_config()


def test_acting_by_hand_goes_on_from_its_hidden_state(tmp_path: Path) -> None:
    """Episodes are those of T-Maze (7 steps): two calls with a hidden state are one of both lengths."""
    run = experiment(tmp_path, force_reset_train_envs_every=None)
    hidden, (returns, specials) = run.interact(run.val_envs, 4)
    assert not returns[0].data and not specials[0].data
    _, (returns, specials) = run.interact(run.val_envs, 3, hidden_state=hidden)
    (name,) = returns[0].data
    assert len(returns[0].data[name]) == 4 and len(specials[0].data[name]["success"]) == 4
    _, (returns, _) = run.interact(run.val_envs, 100, episodes=5)
    assert sum(len(r.data[name]) for r in returns) == 8  # all actors end at the same step
    assert run.env_steps == 0 and len(run.dataset) == 0


def test_acting_by_hand_in_training_environments_is_recorded(tmp_path: Path) -> None:
    """Steps count, trajectories are kept under names of their own, and training goes on as usual."""
    run = experiment(tmp_path, epochs=2)
    hidden, _ = run.interact(run.train_envs, 7, save_on_done=True)
    assert run.env_steps == 28 and len(run.dataset) == 4
    run.interact(run.train_envs, 7, hidden_state=hidden, save_on_done=True)
    assert len(run.dataset) == 8 and len({h.name for h in run.dataset._fifo}) == 2
    run.learn()
    assert run.env_steps == 2 * 28 + 2 * 32 and run.gradient_steps == 8
    assert len(run.dataset) == 8 + 2 * 8  # an epoch of 8 steps: an episode of 7, and 1 that is cut


def test_metrics_of_your_own(tmp_path: Path) -> None:
    """The override gets (returns, specials), for training, validation and tests."""

    class Mine(Experiment):
        def policy_metrics(self, returns: Any, specials: Any) -> dict[str, Any]:
            best = {
                f"Best Total Return in {name}": max(scores)
                for history in returns
                for name, scores in history.data.items()
            }
            solved = {
                f"Solved in {name}": sum(metrics["success"])
                for history in specials
                for name, metrics in history.data.items()
            }
            return super().policy_metrics(returns, specials) | best | solved

    run = experiment(tmp_path, start=False)
    run.__class__ = Mine
    run.start()
    for found in (run.evaluate_val(), run.evaluate_test(run.make_val_env, timesteps=7)):
        (best,) = (v for k, v in found.items() if k.startswith("Best"))
        assert best >= found["Average Total Return (Across All Env Names)"]
        assert sum(k.startswith("Solved in") for k in found) == 1


class Painted(Counter):
    """Counts how often it is shown."""

    render_mode = "rgb_array"
    shown = 0

    def render(self) -> Any:
        Painted.shown += 1
        return np.zeros((2, 2, 3), np.uint8)


class PaintedGroup(AMAGOEnv):
    def render(self) -> Any:
        Painted.shown += 1


@pytest.mark.parametrize("mode", ["sync", "async", "vectorized"])
def test_a_test_can_be_watched(tmp_path: Path, mode: str) -> None:
    """`render=True` in every environment mode."""
    Painted.shown = 0
    if mode == "vectorized":
        run = experiment(tmp_path)
        make = lambda: PaintedGroup(run.make_val_env().env, batched_envs=4)  # noqa: E731
    else:
        make = lambda: AMAGOEnv(Painted(), "painted")  # noqa: E731
        run = experiment(tmp_path, make_train_env=make, make_val_env=make, env_mode=mode, parallel_actors=2)
    run.evaluate_test(make, timesteps=3, render=True)
    run.close()
    assert Painted.shown == (0 if mode == "async" else 3)  # workers count for themselves


def test_nothing_to_do(tmp_path: Path) -> None:
    """No epochs; epochs without steps of one kind or another, as training on stored data alone has them."""
    run = experiment(tmp_path / "none", epochs=0)
    run.learn()
    assert (run.epoch, run.env_steps, run.gradient_steps) == (0, 0, 0)
    assert (tmp_path / "none/run/ckpts/latest/policy.safetensors").exists()
    first = experiment(tmp_path / "offline", epochs=1, force_reset_train_envs_every=1)
    first.learn()
    offline = experiment(
        tmp_path / "offline", epochs=3, train_timesteps_per_epoch=0, val_timesteps_per_epoch=0
    )
    offline.learn()
    assert (offline.epoch, offline.env_steps, offline.gradient_steps) == (3, 32, 12)
    with pytest.raises(ConfigurationError, match="val_timesteps_per_epoch"):
        offline.evaluate_test(offline.make_val_env)


def test_a_checkpoint_before_anything_was_learned(tmp_path: Path) -> None:
    """`save_checkpoint` right after `start`, and `learn` after it."""
    run = experiment(tmp_path, epochs=1, resume="never")
    run.save_checkpoint()
    run.learn()
    assert [p.epoch for p in run.store.positions()] == [0, 1]


def test_weights_outlive_the_training_states(tmp_path: Path) -> None:
    """Weights of an epoch whose training state was removed can still be loaded."""
    run = experiment(tmp_path, epochs=3, ckpt_interval=1, keep_last_checkpoints=1)
    seen: dict[int, torch.Tensor] = {}
    run.on_epoch_end = lambda row: seen.update(
        {run.epoch: run.policy.critics.net.output_layer.weight.clone()}
    )
    run.learn()
    assert [p.epoch for p in run.store.positions()] == [3]
    run.load_checkpoint(1, resume_training_state=False)
    assert torch.equal(run.policy.critics.net.output_layer.weight, seen[1])
    assert not torch.equal(seen[1], seen[3]) and run.gradient_steps == 12


def test_weights_alone_begin_a_run_of_their_own(tmp_path: Path) -> None:
    """Also where only the training state has them: the run is not taken for one that goes on from there."""
    experiment(tmp_path, epochs=2, ckpt_interval=1, run_name="first").learn()
    (tmp_path / "first/ckpts/policy_weights/policy_epoch_2.safetensors").unlink()
    run = experiment(tmp_path, epochs=2, run_name="first", resume="never")
    run.load_checkpoint(2, resume_training_state=False)
    assert run.epoch == 0
    with pytest.raises(CheckpointError, match="choose another run_name"):
        run.learn()


def test_an_epochs_line_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`verbose`, which is the default, says what happens without any set-up of logging."""
    experiment(tmp_path / "a", epochs=2, verbose=True).learn()
    one, two = capsys.readouterr().out.splitlines()
    assert one.startswith("epoch 1 of 2: 32 steps, 4 updates") and "validation" in one and "return" in one
    assert two.startswith("epoch 2 of 2: 64 steps, 8 updates") and "validation" not in two
    experiment(tmp_path / "b", epochs=1).learn()
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("length", "says"),
    [
        ({"episodes": 0}, "episodes is 0"),
        ({"episodes_per_actor": 0}, "episodes_per_actor is 0"),
        ({"timesteps": -5}, "timesteps is -5"),
        ({"episodes": 5, "episodes_per_actor": 1}, "not both"),
    ],
)
def test_tests_of_no_length_are_refused(tmp_path: Path, length: dict[str, int], says: str) -> None:
    """Not a result without episodes, nor one of another length than was asked for."""
    run = experiment(tmp_path, epochs=0)
    with pytest.raises(ConfigurationError, match=says):
        run.evaluate_test(run.make_val_env, **length)


def test_timesteps_limit_a_test_of_whole_episodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four actors, episodes of 7 steps: `episodes` in all, at most `timesteps` of each; endless ones are an error."""
    run = experiment(tmp_path, epochs=0)

    def found(**length: int) -> int:
        return len(run.evaluate_test(run.make_val_env, **length).episodes)

    assert [found(episodes=5), found(episodes=5, timesteps=7), found(episodes=5, timesteps=50)] == [8, 4, 8]
    monkeypatch.setattr("amago.collection.MAX_TEST_STEPS", 10)
    assert found(episodes_per_actor=2, timesteps=14) == 8
    with pytest.raises(EnvironmentFailure, match="1 of 2 episodes"):
        found(episodes_per_actor=2)
