"""Environment workers that die, hang, or raise: the run fails clearly, soon, and leaves nobody behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from amago.envs import AMAGOEnv
from amago.envs.actors import make_actors
from amago.errors import AmagoError, ConfigurationError, EnvironmentFailure
from tests.unit.core.small_run import configure, experiment


class Moody(gym.Env):
    """Misbehaves at a moment; ``flag`` exists once it has (so that only one of the workers does)."""

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, how: str, when: str, flag: Path) -> None:
        self.how, self.when, self.flag, self.main = how, when, flag, os.getpid()
        self.steps = 0

    def trouble(self, now: str) -> None:
        if now != self.when or self.how == "good":
            return
        try:
            self.flag.touch(exist_ok=False)
        except FileExistsError:
            return
        match self.how:
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                time.sleep(600)
            case "raise":
                raise ZeroDivisionError("the maze\nhas no exit")
            case "nan":
                self.steps = -(10**6)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.trouble("reset")
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        if self.steps % 7 == 0:
            self.trouble("step")
        obs = np.full(2, np.nan if self.steps < 0 else 0.5, np.float32)
        return obs, 0.0, self.steps % 5 == 0, False, {}


def maker(how: str, when: str, flag: Path) -> Any:
    main = os.getpid()

    def make() -> AMAGOEnv:
        if when == "start" and os.getpid() != main:
            Moody(how, when, flag).trouble("start")
        return AMAGOEnv(Moody(how, when, flag), env_name="moody")

    return make


@pytest.mark.parametrize("when", ["start", "reset", "step"])
@pytest.mark.parametrize(
    ("how", "said"),
    [("die", "died"), ("hang", "worker_timeout"), ("raise", "ZeroDivisionError: the maze has no exit")],
)
def test_a_worker_in_trouble(tmp_path: Path, how: str, when: str, said: str) -> None:
    """Guards async actors: death, a hang that ignores SIGTERM, and an error, while starting, resetting, stepping."""
    before = set(multiprocessing.active_children())
    began = time.monotonic()
    actors = None
    with pytest.raises(
        EnvironmentFailure, match=said if when != "start" else "died or did not start"
    ) as caught:
        actors = make_actors(maker(how, when, tmp_path / "flag"), 3, "async", timeout=2.0)
        actors.reset(np.ones(3, bool), [1, 2, 3])
        for _ in range(20):
            actors.step(np.zeros((3, 1), np.int64))
    assert "\n" not in str(caught.value)
    if actors is not None:
        actors.close()
        actors.close()
    assert time.monotonic() - began < 30
    assert set(multiprocessing.active_children()) <= before


def test_the_experiment_says_so_and_goes_on(tmp_path: Path) -> None:
    """Guards the setting Experiment.worker_timeout, the checkpoint before it, and the next attempt."""
    configure()

    def run(how: str) -> Any:
        make = maker(how, "step", tmp_path / "flag")
        return experiment(
            tmp_path / "run", make_train_env=make, make_val_env=maker("good", "", tmp_path / "x"),
            env_mode="async", parallel_actors=2, worker_timeout=3.0, ckpt_interval=1, val_interval=None,
        )  # fmt: skip

    first = run("hang")
    with pytest.raises(
        EnvironmentFailure, match=r"did not answer in step for 3 s \(Experiment.worker_timeout\)"
    ):
        first.learn()
    first.close()
    second = run("hang")  # the flag is there: this time it behaves
    second.learn()
    second.close()
    assert second.epoch == 6


def test_an_impossible_timeout_is_refused(tmp_path: Path) -> None:
    """Guards the setting."""
    configure()
    with pytest.raises(ConfigurationError, match="worker_timeout must be positive"):
        experiment(tmp_path, worker_timeout=0.0)


def test_numbers_that_are_none(tmp_path: Path) -> None:
    """Guards NaN from an environment: named before it reaches the replay."""
    configure()
    make = maker("nan", "step", tmp_path / "flag")
    run = experiment(
        tmp_path / "run", make_train_env=make, make_val_env=make, env_mode="sync", parallel_actors=2
    )
    with pytest.raises(AmagoError, match="NaN or infinity in an observation"):
        run.learn()
