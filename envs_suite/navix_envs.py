"""navix (Pignatelli et al. 2024, arXiv 2407.19396; package navix 0.7.4, Apache-2.0): MiniGrid's rooms on jax.

* **Actions** (7): turn left, turn right, forward, pick up, drop, toggle, done.
* **Observation**, float32 (1034,): one-hot thing, colour and state of the 7 x 7 cells around the agent, turned so that
  it looks up; its direction; whether it carries something. Walls hide nothing: the package's view in first person.
* **Reward**: 1 for the goal, without MiniGrid's discount for time.
* **Ends**: terminated by the goal (and by lava or a ball, where there are any), truncated after ``4 * size * size``
  steps, as in MiniGrid.

The package resets an environment by itself in the step after an end; here whoever plays does, so that one of its steps
is one of ours.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from envs_suite.jax_vector import JaxVector
from envs_suite.optional import need

ACTIONS = 7
_VIEW = 7
#: Numbers of things, colours and states that the package uses; a colour that is not set is beyond them.
_KINDS = (11, 6, 4)
_SIZE = _VIEW * _VIEW * sum(_KINDS) + 4 + 1


class NavixVector(JaxVector):
    """N instances of one environment of navix.

    Args:
        num_envs: N.
        name: navix's id, such as "Navix-Empty-Random-8x8-v0".
        steps: after which an episode is truncated.

    Raises:
        ConfigurationError: navix is not installed.
    """

    def __init__(self, num_envs: int, name: str, steps: int) -> None:
        navix = need("navix", f"navix's {name}", "jax")
        self.env = navix.make(name, max_steps=steps, observation_fn=navix.observations.symbolic_first_person)
        self._alike = (name, steps)
        observation = spaces.Box(0.0, 1.0, (_SIZE,), dtype=np.float32)
        super().__init__(num_envs, observation, spaces.Discrete(ACTIONS))

    def same_as(self) -> tuple[Any, ...]:
        return self._alike

    def start(self, key: Any, task: Any) -> tuple[Any, Any]:
        timestep = self.env.reset(key)
        # Pictures of the floor, 200 kB an instance, that nobody looks at.
        timestep = timestep.replace(state=timestep.state.replace(cache=None))
        return self._look(timestep), timestep

    def advance(self, key: Any, task: Any, state: Any, action: Any) -> tuple[Any, Any, Any, Any, Any, Any]:
        timestep = self.env._step(state, action)  # its `step` would reset within
        ends = timestep.is_termination(), timestep.is_truncation()
        return self._look(timestep), timestep, timestep.reward, *ends, ()

    def _look(self, timestep: Any) -> Any:
        import jax
        import jax.numpy as jnp

        player = timestep.state.get_player()
        view = timestep.observation
        parts = [jax.nn.one_hot(view[..., i], kinds).reshape(-1) for i, kinds in enumerate(_KINDS)]
        parts += [jax.nn.one_hot(player.direction, 4), jnp.atleast_1d(player.pocket > 0)]
        return jnp.concatenate([part.astype(jnp.float32) for part in parts])
