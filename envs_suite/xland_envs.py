"""XLand-MiniGrid (Nikulin et al. 2023, arXiv 2312.12044; package xminigrid 0.9.3, Apache-2.0), vectorised.

An episode draws a ruleset (:mod:`envs_suite.xland_rulesets`) and gives ``attempts`` at it, each in a new layout of
the same size, with at most ``3 * size * size`` steps. What the goal and the rules are is never shown.

* **Actions** (6): forward, turn right, turn left, pick up, put down, toggle.
* **Observation**, float32 (631,): one-hot tiles and colours of the 5 x 5 cells in view, direction, whether an
  attempt has just begun, and the share of attempts that are over. What the agent holds is not shown.
* **Reward**: as the package's, ``1 - 0.9 * share of the attempt's steps used`` for the goal, else 0.
* **Metrics**: ``success_attempt_0`` ..., their mean ``success``, and ``success_last``.
* **Ends**: terminated after the last attempt. The next attempt begins in the step that ends the one before.

Rulesets are split between training and evaluation by their hash; evaluation task i is always the same ruleset.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from envs_suite.jax_vector import JaxVector
from envs_suite.optional import need
from envs_suite.tasks import draw_until, eval_generator, is_eval_task
from envs_suite.xland_rulesets import MOST_RULES, MOST_THINGS, Ruleset, draw_ruleset

VIEW, TILES, COLOURS = 5, 13, 12
ACTIONS = 6
_CELLS = VIEW * VIEW * (TILES + COLOURS)


def attempt_steps(size: int) -> int:
    """The most steps of an attempt (the package's heuristic)."""
    return 3 * size * size


class XLandVector(JaxVector):
    """N instances.

    Args:
        num_envs: N.
        size: cells to a side, walls included.
        rooms: 1, 2 or 4.
        attempts: at each ruleset.
        depth: the most rules between a thing at the start and the goal.
        distractors: things of no use.
        split: "train" or "eval": which rulesets are drawn.

    Raises:
        ConfigurationError: xminigrid is not installed, or rulesets cannot be that large.
    """

    def __init__(
        self,
        num_envs: int,
        size: int = 9,
        rooms: int = 1,
        attempts: int = 4,
        depth: int = 1,
        distractors: int = 3,
        split: str = "train",
    ) -> None:
        xminigrid = need("xminigrid", "XLand-MiniGrid", "jax")
        from xminigrid.types import RuleSet

        self.env, params = xminigrid.make("XLand-MiniGrid-R1-9x9")
        self.params = params.replace(
            height=size, width=size, view_size=VIEW, max_steps=attempt_steps(size), grid_type=f"R{rooms}"
        )
        self._ruleset_type = RuleSet
        self._alike = (size, rooms, attempts)
        self.attempts, self.depth, self.distractors, self.split = attempts, depth, distractors, split
        draw_ruleset(np.random.default_rng(0), depth, distractors)  # too large is told here
        task = (
            np.zeros((num_envs, 5), np.uint8),
            np.zeros((num_envs, MOST_RULES, 7), np.uint8),
            np.zeros((num_envs, MOST_THINGS, 2), np.uint8),
        )
        observation = spaces.Box(0.0, 1.0, (_CELLS + 4 + 2,), dtype=np.float32)
        super().__init__(num_envs, observation, spaces.Discrete(ACTIONS), task)

    def draw_task(self, rng: np.random.Generator, task_index: int | None) -> Ruleset:
        """A ruleset of the split, or evaluation task ``task_index``."""
        wanted = self.split == "eval"
        if task_index is not None:
            rng, wanted = eval_generator(task_index, self.depth, self.distractors), True
        return draw_until(
            lambda: draw_ruleset(rng, self.depth, self.distractors),
            lambda ruleset: is_eval_task(b"xland", ruleset.key()) == wanted,
            "ruleset",
        )

    def _draw(self, i: int, rng: np.random.Generator, task_index: int | None) -> None:
        for mine, new in zip(self._task, self.draw_task(rng, task_index).arrays(), strict=True):
            mine[i] = new
        super()._draw(i, rng, task_index)

    def same_as(self) -> tuple[Any, ...]:
        return self._alike

    def _layout(self, key: Any, task: Any) -> Any:
        goal, rules, things = task
        ruleset = self._ruleset_type(goal=goal, rules=rules, init_tiles=things)
        return self.env.reset(self.params.replace(ruleset=ruleset), key)

    def start(self, key: Any, task: Any) -> tuple[Any, Any]:
        import jax.numpy as jnp

        timestep = self._layout(key, task)
        over, successes = jnp.asarray(0), jnp.zeros(self.attempts, jnp.float32)
        return self._look(timestep, jnp.asarray(True), over), (timestep, over, successes)

    def advance(self, key: Any, task: Any, state: Any, action: Any) -> tuple[Any, Any, Any, Any, Any, Any]:
        import jax
        import jax.numpy as jnp

        timestep, over, successes = state
        moved = self.env.step(self.params, timestep, action)
        last = moved.last()
        successes = jnp.where(last, successes.at[over].set(1.0 - moved.discount), successes)
        over = over + last
        ended = over == self.attempts
        fresh = last & ~ended
        timestep = jax.tree.map(lambda new, old: jnp.where(fresh, new, old), self._layout(key, task), moved)
        state = (timestep, over, successes)
        return self._look(timestep, fresh, over), state, moved.reward, ended, jnp.asarray(False), successes

    def _look(self, timestep: Any, fresh: Any, over: Any) -> Any:
        import jax
        import jax.numpy as jnp

        view = timestep.observation
        parts = (
            jax.nn.one_hot(view[..., 0], TILES).reshape(-1),
            jax.nn.one_hot(view[..., 1], COLOURS).reshape(-1),
            jax.nn.one_hot(timestep.state.agent.direction, 4),
            jnp.stack([fresh.astype(jnp.float32), over / self.attempts]),
        )
        return jnp.concatenate(parts).astype(jnp.float32)

    def metrics(self, extras: Any) -> dict[str, np.ndarray]:
        successes = np.asarray(extras)
        found = {f"success_attempt_{i}": successes[:, i] for i in range(self.attempts)}
        return found | {"success": successes.mean(axis=1), "success_last": successes[:, -1]}
