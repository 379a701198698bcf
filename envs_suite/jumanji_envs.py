"""jumanji (Bonnet et al. 2023, arXiv 2306.09884; package jumanji 1.1.2, Apache-2.0): puzzles and games on jax.

* **Actions**: the package's, numbered in one row where they have several parts.
* **Observation**, flat float32: the package's fields in their order, with the mask of allowed actions; whole numbers
  that stand for kinds or places are one-hot (`ONE_HOT`), and the count of steps is their share of the longest episode.
* **Reward and ends**: the package's. Running out of time terminates there, and so here.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gymnasium import spaces

from envs_suite.jax_vector import JaxVector
from envs_suite.optional import need

#: jumanji's id -> field -> least value, and how many there are.
ONE_HOT: dict[str, dict[str, tuple[int, int]]] = {
    "Maze-v0": {"agent_position": (0, 10), "target_position": (0, 10)},
    "Minesweeper-v0": {"board": (-1, 10)},
    "RubiksCube-partly-scrambled-v0": {"cube": (0, 6)},
    "SlidingTilePuzzle-v0": {"puzzle": (0, 25), "empty_tile_position": (0, 5)},
}


class JumanjiVector(JaxVector):
    """N instances of one environment of jumanji with its default parameters.

    Args:
        num_envs: N.
        name: jumanji's id, such as "Maze-v0".
        steps: of the longest episode.

    Raises:
        ConfigurationError: jumanji is not installed.
    """

    def __init__(self, num_envs: int, name: str, steps: int) -> None:
        jumanji = need("jumanji", f"jumanji's {name}", "jax")
        import jax

        self.env = jumanji.make(name)
        self.steps = steps
        self._alike = (name,)
        self._one_hot = ONE_HOT.get(name, {})
        self._parts = tuple(np.atleast_1d(self.env.action_spec.num_values).tolist())
        self._several = self.env.action_spec.shape != ()
        seen, _ = jax.eval_shape(self.start, jax.random.PRNGKey(0), ())
        observation = spaces.Box(-np.inf, np.inf, seen.shape, dtype=np.float32)
        super().__init__(num_envs, observation, spaces.Discrete(math.prod(self._parts)))

    def same_as(self) -> tuple[Any, ...]:
        return self._alike

    def start(self, key: Any, task: Any) -> tuple[Any, Any]:
        state, timestep = self.env.reset(key)
        return self._look(timestep.observation), state

    def advance(self, key: Any, task: Any, state: Any, action: Any) -> tuple[Any, Any, Any, Any, Any, Any]:
        import jax.numpy as jnp

        if self._several:
            action = jnp.stack(jnp.unravel_index(action, self._parts)).astype(jnp.int32)
        state, timestep = self.env.step(state, action)
        over, goes_on = timestep.last(), timestep.discount > 0
        look = self._look(timestep.observation)
        return look, state, timestep.reward, over & ~goes_on, over & goes_on, ()

    def _look(self, observation: Any) -> Any:
        import jax
        import jax.numpy as jnp

        parts = []
        for name, field in observation._asdict().items():
            for leaf in jax.tree.leaves(field):
                value = jnp.asarray(leaf)
                if name in self._one_hot:
                    least, kinds = self._one_hot[name]
                    value = jax.nn.one_hot(value - least, kinds)
                elif name == "step_count":
                    value = value / self.steps
                parts.append(value.reshape(-1).astype(jnp.float32))
        return jnp.concatenate(parts)
