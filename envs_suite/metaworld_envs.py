"""Meta-World's ML1, ML10 and ML45 (Yu et al. 2019, arXiv 1910.10897; package metaworld 3.1.1, MIT).

An episode draws a task and a goal, neither of which is shown, and gives ``attempts`` of 500 steps at them. The step
after an attempt's end is a reset step, whose action is ignored.

* **Actions**: 4 numbers in [-1, 1]: the hand's motion and its fingers.
* **Observation**, float32 (41,): the package's 39 numbers (goal hidden), whether an attempt begins, and the share
  of attempts that are over. **Reward**: the package's, 0 to 10 a step.
* **Metrics**: ``success_attempt_0`` ..., their mean ``success``, and ``success_last``; an attempt succeeds when the
  package says so at any of its steps.
* **Ends**: truncated after the last attempt; nothing terminates.

In ML10 and ML45 training and evaluation have different tasks, as in the paper; in ML1 goals are split by the hash
of their seed. Evaluation task i is always the same. Different from the package: goals come from the reset's generator
and are not only 50 a task, and an environment is built when it is first drawn, not all of them at the start.
"""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from amago.errors import ConfigurationError
from envs_suite.optional import need
from envs_suite.tasks import draw_until, eval_generator, is_eval_task
from envs_suite.vector import metric_key, single_task_index

ATTEMPT_STEPS = 500
_NUMBERS = 39
_MAX_SEED = 2**31


class MetaWorldTasks(gym.Env):
    """Attempts at tasks of Meta-World; see the module's docstring.

    Args:
        tasks: names without the package's version, such as "pick-place".
        attempts: at each task and goal.
        split: "train" or "eval".
        split_goals: whether ``split`` decides about goals (ML1), not only about tasks.

    Raises:
        ConfigurationError: no task or attempt, an unknown task, or metaworld is not installed.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]
    takes_task_index = True

    def __init__(
        self, tasks: tuple[str, ...], attempts: int = 3, split: str = "train", split_goals: bool = False
    ) -> None:
        if not tasks or attempts < 1:
            raise ConfigurationError("MetaWorldTasks needs at least one task and one attempt")
        need("metaworld", "Meta-World", "metaworld")
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS

        self._classes = ALL_V3_ENVIRONMENTS
        unknown = [task for task in tasks if f"{task}-v3" not in self._classes]
        if unknown:
            raise ConfigurationError(f"metaworld has no task {unknown[0]!r}")
        self.tasks, self.attempts, self.split, self.split_goals = tuple(tasks), attempts, split, split_goals
        self._built: dict[str, Any] = {}
        self.task = self.tasks[0]
        self.observation_space = spaces.Box(-np.inf, np.inf, (_NUMBERS + 2,), dtype=np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (4,), dtype=np.float32)

    @property
    def task_name(self) -> str | None:
        """The task of this episode, where there are several."""
        return self.task if len(self.tasks) > 1 else None

    def _draw(self, task_index: int | None) -> tuple[str, int]:
        def goal(rng: np.random.Generator, task: str, wanted: bool) -> int:
            return draw_until(
                lambda: int(rng.integers(_MAX_SEED)),
                lambda seed: (
                    not self.split_goals
                    or is_eval_task(b"metaworld", task.encode(), str(seed).encode()) == wanted
                ),
                "goal",
            )

        if task_index is not None:
            task = self.tasks[task_index % len(self.tasks)]
            return task, goal(eval_generator(task_index, len(self.tasks)), task, True)
        task = self.tasks[int(self.np_random.integers(len(self.tasks)))]
        return task, goal(self.np_random, task, self.split == "eval")

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.task, self.goal = self._draw(single_task_index(options))
        if self.task not in self._built:
            self._built[self.task] = self._build(self.task)
        self.env = self._built[self.task]
        self.successes: list[float] = []
        # The goal is drawn by the first reset from the generator below, and kept for further attempts.
        self.env.np_random = np.random.default_rng(self.goal)
        self.env._freeze_rand_vec = False
        obs = self._begin()
        self.env._freeze_rand_vec = True
        return obs, {}

    def _build(self, task: str) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            env = self._classes[f"{task}-v3"]()
        # What the package's set_task does, without its pickled task.
        env._set_task_called = True
        env.seeded_rand_vec = True
        env._partially_observable = True
        env._set_task_inner()
        return env

    def _begin(self) -> np.ndarray:
        self.waiting, self.succeeded = False, False
        obs, _ = self.env.reset()
        return self._observation(obs, begins=True)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        if self.waiting:
            return self._begin(), 0.0, False, False, {}
        raw, reward, _, over, info = self.env.step(np.asarray(action, dtype=np.float32))
        self.succeeded |= bool(info["success"])
        if not over:
            return self._observation(raw), float(reward), False, False, {}
        self.successes.append(float(self.succeeded))
        self.waiting = True
        if len(self.successes) < self.attempts:
            return self._observation(raw), float(reward), False, False, {}
        logged = {f"success_attempt_{i}": s for i, s in enumerate(self.successes)}
        logged |= {"success": float(np.mean(self.successes)), "success_last": self.successes[-1]}
        info = {metric_key(name): value for name, value in logged.items()}
        return self._observation(raw), float(reward), False, True, info

    def _observation(self, raw: np.ndarray, begins: bool = False) -> np.ndarray:
        own = [float(begins), len(self.successes) / self.attempts]
        return np.concatenate([raw, own]).astype(np.float32)

    def close(self) -> None:
        for env in self._built.values():
            env.close()
