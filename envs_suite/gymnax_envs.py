"""gymnax (Lange 2022; package gymnax 1.0.1, Apache-2.0): environments written in jax, vectorised.

Observations are flat float32; continuous actions keep the package's range. The package's own automatic
resets are not used: an episode that ends is reset by whoever plays it.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from gymnasium import spaces

from envs_suite.jax_vector import JaxVector
from envs_suite.optional import need


class GymnaxVector(JaxVector):
    """N instances of one environment of gymnax with its default parameters.

    Args:
        num_envs: N.
        name: gymnax's id, such as "MemoryChain-bsuite".
        changed: parameters of gymnax's that are not at their defaults.

    Raises:
        ConfigurationError: gymnax is not installed.
    """

    def __init__(self, num_envs: int, name: str, changed: dict[str, Any] | None = None) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gymnax = need("gymnax", f"gymnax's {name}", "jax")
        self.env, params = gymnax.make(name)
        self.params = params.replace(**(changed or {}))
        self._alike = (name, *sorted((changed or {}).items()))
        size = int(np.prod(self.env.observation_space(self.params).shape))
        theirs = self.env.action_space(self.params)
        action: spaces.Space
        if hasattr(theirs, "n"):
            action = spaces.Discrete(int(theirs.n))
        else:
            low = np.broadcast_to(np.asarray(theirs.low, np.float32), theirs.shape)
            high = np.broadcast_to(np.asarray(theirs.high, np.float32), theirs.shape)
            action = spaces.Box(low, high, dtype=np.float32)
        super().__init__(num_envs, spaces.Box(-np.inf, np.inf, (size,), dtype=np.float32), action)

    def same_as(self) -> tuple[Any, ...]:
        return self._alike

    def start(self, key: Any, task: Any) -> tuple[Any, Any]:
        obs, state = self.env.reset_env(key, self.params)
        return obs.reshape(-1).astype(np.float32), state

    def advance(self, key: Any, task: Any, state: Any, action: Any) -> tuple[Any, Any, Any, Any, Any, Any]:
        obs, state, reward, terminated, _ = self.env.step_env(key, state, action, self.params)
        truncated = self.env.is_truncated(state, self.params)
        return obs.reshape(-1).astype(np.float32), state, reward, terminated, truncated, ()
