"""MiniGrid and BabyAI (package minigrid 3.2.0, Apache-2.0) with instructions as tokens and k attempts.

An episode draws one of the given tasks and a level of it (a seed), and offers ``attempts`` at that very
level. The step after an attempt's end is a reset step, whose action is ignored; after the last attempt the
episode is over. With one attempt it ends as the package says (running out of steps truncates); with several
it terminates.

* **Actions** (7): left, right, forward, pick up, drop, toggle, done.
* **Observation**, a dict: ``image``, the 7 x 7 cells in view; ``mission``, the instruction; ``extra`` float32
  (5,): one-hot direction and the share of attempts that are over. With ``encoding="one-hot"`` image and
  mission are flat uint8 one-hots (object, colour and state of each cell; each word); with "symbols" they
  are the package's uint8 numbers (7, 7, 3) and int32 tokens (13,): 0 is blank, 1 a word that is not known.
* **Metrics**: ``success_attempt_0`` ..., their mean ``success``, and ``success_last``; an attempt succeeds when
  its last reward is positive.

Levels are split between training and evaluation by the hash of (task, seed). Where a task has few levels, two seeds give
one: it has no level that training never sees (`FEW_LEVELS`; of BabyAI's, OpenRedDoor, GoToObjS4, OpenRedBlueDoors
and KeyCorridorS3R1). Evaluation task i plays task i mod (number of tasks) on a fixed level. The tasks of
:mod:`envs_suite.minigrid_tasks` and their two attempts follow AMAGO-2 (arXiv 2411.11188); differences: levels come from
the reset's generator, commas are dropped from instructions, and images (of pixels, and of the whole grid) are left
out.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from amago.errors import ConfigurationError
from envs_suite.minigrid_tasks import WORDS
from envs_suite.optional import need
from envs_suite.tasks import draw_until, eval_generator, is_eval_task
from envs_suite.vector import metric_key, single_task_index

#: Most words of an instruction; longer ones are cut.
MISSION_LENGTH = 13
_TOKEN = {word: i + 2 for i, word in enumerate(WORDS)}
#: Kinds of objects, colours and states (the agent's state is its direction).
_KINDS = (11, 6, 4)
_VIEW = 7
_MAX_SEED = 2**31


def tokens(mission: str) -> np.ndarray:
    """The instruction as int32 tokens (13,): 0 for blank, 1 for an unknown word."""
    found = np.zeros(MISSION_LENGTH, dtype=np.int32)
    for i, word in enumerate(mission.lower().replace(",", " ").split()[:MISSION_LENGTH]):
        found[i] = _TOKEN.get(word, 1)
    return found


def one_hot(digits: np.ndarray, sizes: Sequence[int] | int) -> np.ndarray:
    """Flat uint8 one-hots of integers (..., len(sizes)), the last axis side by side."""
    sizes = (sizes,) if isinstance(sizes, int) else sizes
    parts = [digits[..., i, None] == np.arange(size) for i, size in enumerate(sizes)]
    return np.concatenate(parts, axis=-1).astype(np.uint8).reshape(-1)


def is_eval_level(task: str, seed: int) -> bool:
    """Whether a level belongs to the evaluation split."""
    return is_eval_task(b"minigrid", task.encode(), str(seed).encode())


class MiniGridTasks(gym.Env):
    """Attempts at levels of one or many tasks; see the module's docstring.

    Args:
        tasks: ids of the package, such as "MiniGrid-MemoryS13-v0".
        attempts: at each level.
        encoding: "one-hot" or "symbols".
        split: "train" or "eval": which levels are used.

    Raises:
        ConfigurationError: no task or attempt, an unknown task, or minigrid is not installed.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]
    takes_task_index = True

    def __init__(
        self, tasks: Sequence[str], attempts: int = 1, encoding: str = "one-hot", split: str = "train"
    ) -> None:
        if not tasks or attempts < 1:
            raise ConfigurationError("MiniGridTasks needs at least one task and one attempt")
        if encoding not in ("one-hot", "symbols"):
            raise ConfigurationError(
                f"MiniGridTasks.encoding must be 'one-hot' or 'symbols', got {encoding!r}"
            )
        need("minigrid", "MiniGrid")
        unknown = [task for task in tasks if task not in gym.registry]
        if unknown:
            raise ConfigurationError(f"minigrid has no environment {unknown[0]!r}")
        self.tasks = tuple(tasks)
        self.task = self.tasks[0]
        self.attempts, self.split = attempts, split
        self.flat = encoding == "one-hot"
        self._envs: dict[str, gym.Env] = {}
        words = len(WORDS) + 2
        image: spaces.Space = spaces.Box(0, 255, (_VIEW, _VIEW, 3), dtype=np.uint8)
        mission: spaces.Space = spaces.Box(0, words - 1, (MISSION_LENGTH,), dtype=np.int32)
        if self.flat:
            image = spaces.Box(0, 1, (_VIEW * _VIEW * sum(_KINDS),), dtype=np.uint8)
            mission = spaces.Box(0, 1, (MISSION_LENGTH * words,), dtype=np.uint8)
        extra = spaces.Box(0.0, 1.0, (5,), dtype=np.float32)
        self.observation_space = spaces.Dict({"image": image, "mission": mission, "extra": extra})
        self.action_space = spaces.Discrete(7)

    @property
    def task_name(self) -> str | None:
        """The task of this episode, where there are several."""
        return self.task if len(self.tasks) > 1 else None

    def _draw(self, task_index: int | None) -> tuple[str, int]:
        rng = self.np_random
        if task_index is None:
            wanted = self.split == "eval"
            return draw_until(
                lambda: (self.tasks[int(rng.integers(len(self.tasks)))], int(rng.integers(_MAX_SEED))),
                lambda level: is_eval_level(*level) == wanted,
                "level",
            )
        task = self.tasks[task_index % len(self.tasks)]
        rng = eval_generator(task_index, len(self.tasks))
        return task, draw_until(
            lambda: int(rng.integers(_MAX_SEED)), lambda seed: is_eval_level(task, seed), "level"
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        super().reset(seed=seed)
        self.task, self.level = self._draw(single_task_index(options))
        if self.task not in self._envs:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._envs[self.task] = gym.make(self.task, disable_env_checker=True)
        self.env = self._envs[self.task]
        self.successes: list[float] = []
        return self._begin(), {}

    def _begin(self) -> dict[str, np.ndarray]:
        """The level from its start: the same map, instruction and chances at every attempt."""
        self.waiting = False
        with contextlib.redirect_stdout(io.StringIO()):  # it prints the levels that it rejects
            obs, _ = self.env.reset(seed=self.level)
        return self._observation(obs)

    def step(self, action: int) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        if self.waiting:
            return self._begin(), 0.0, False, False, {}
        raw, reward, terminated, truncated, _ = self.env.step(int(action))
        obs = self._observation(raw)
        if not (terminated or truncated):
            return obs, float(reward), False, False, {}
        self.successes.append(float(float(reward) > 0))
        obs["extra"][4] = len(self.successes) / self.attempts
        if len(self.successes) < self.attempts:
            self.waiting = True
            return obs, float(reward), False, False, {}
        logged = {f"success_attempt_{i}": s for i, s in enumerate(self.successes)}
        logged |= {"success": float(np.mean(self.successes)), "success_last": self.successes[-1]}
        info = {metric_key(name): value for name, value in logged.items()}
        if self.attempts > 1:
            terminated, truncated = True, False
        return obs, float(reward), bool(terminated), bool(truncated and not terminated), info

    def _observation(self, raw: dict[str, Any]) -> dict[str, np.ndarray]:
        image, mission = np.asarray(raw["image"], dtype=np.uint8), tokens(raw["mission"])
        extra = np.zeros(5, dtype=np.float32)
        extra[int(raw["direction"])] = 1.0
        extra[4] = len(self.successes) / self.attempts
        if self.flat:
            image = one_hot(image, _KINDS)
            mission = one_hot(mission[:, None], len(WORDS) + 2)
        return {"image": image, "mission": mission, "extra": extra}

    def close(self) -> None:
        for env in self._envs.values():
            env.close()
