"""POPGym (Morad et al. 2023, arXiv 2303.01859; package popgym, MIT) as AMAGO uses it.

Observations are flattened (discrete parts one-hot) and end with a step timer ``t / 1000``, and a
truncated episode counts as terminated: with the package's own time limits these environments are
finite-horizon, and the timer makes the horizon observable.

Facts of popgym 1.0.7 that a reader of results should know: ``VelocityOnlyCartpole`` gives positions, not
velocities, in the observation of a reset; ``NoisyPositionOnlyCartPole`` lasts 200 steps at every
difficulty; the labyrinths draw their mazes from Python's and numpy's global generators, which this
adapter seeds for the reset and puts back afterwards.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.spaces.utils import flatten, flatten_space

from amago.envs import AMAGOEnv
from amago.errors import ConfigurationError

_TIMER_SCALE = 1000.0
#: The timer's bound: longer than any episode of the package (1,024 steps).
_TIMER_HIGH = 2.0


class POPGym(gym.Env):
    """One popgym environment with a flat observation and a timer.

    Args:
        env_name: popgym's id, such as "popgym-RepeatFirstEasy-v0".

    Raises:
        ConfigurationError: popgym has no such environment (the labyrinths need mazelib).
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]

    def __init__(self, env_name: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # popgym registers ids that gymnasium comments on
            import popgym.envs

        classes = {entry["id"]: cls for cls, entry in popgym.envs.ALL.items()}
        if env_name not in classes:
            missing = " (the labyrinths need the package mazelib)" if "Labyrinth" in env_name else ""
            raise ConfigurationError(f"popgym has no environment {env_name!r}{missing}")
        self.env = classes[env_name]()
        self.uses_global_generators = "Labyrinth" in env_name
        self.action_space = self.env.action_space
        flat = flatten_space(self.env.observation_space)
        if not isinstance(flat, spaces.Box):
            raise ConfigurationError(f"{env_name}: observations of {self.env.observation_space} are not flat")
        self.observation_space = spaces.Box(
            np.append(flat.low, 0.0).astype(np.float32),
            np.append(flat.high, _TIMER_HIGH).astype(np.float32),
            dtype=np.float32,
        )
        self.t = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        if self.uses_global_generators:
            own = int(self.np_random.integers(2**31))
            with _borrowed_global_generators():
                obs, _ = self.env.reset(seed=own)
        else:
            obs, _ = self.env.reset(seed=seed)
        return self._flat(obs), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, _ = self.env.step(action)
        self.t += 1
        # The package's infos hold answers (the true counts), so they are not passed on.
        return self._flat(obs), float(reward), bool(terminated or truncated), False, {}

    def _flat(self, obs: Any) -> np.ndarray:
        flat = np.asarray(flatten(self.env.observation_space, obs))
        return np.append(flat, self.t / _TIMER_SCALE).astype(np.float32)


@contextmanager
def _borrowed_global_generators() -> Iterator[None]:
    """Put Python's and numpy's global generators back as they were."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


class POPGymAMAGO(AMAGOEnv):
    """A popgym environment for AMAGO.

    Args:
        env_name: popgym's id, such as "popgym-RepeatFirstEasy-v0".
    """

    def __init__(self, env_name: str) -> None:
        super().__init__(POPGym(env_name), env_name=env_name)
