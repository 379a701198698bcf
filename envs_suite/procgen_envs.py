"""Procgen (package procgen-mirror 0.10.7, MIT; Cobbe et al. 2020): k attempts at an unknown level of an unknown game.

An episode draws one of the given games and one of its levels, and offers ``attempts`` at that very level, as
AMAGO-2 does with two (arXiv 2411.11188). The step after an attempt's end is a reset step, whose action is ignored;
after the last attempt the episode terminates. An attempt lasts 1,000 steps at most (the package's own limit).

* **Actions** (15): the package's.
* **Observation** uint8 (64, 64, 3). From the second attempt on a corner of 4 x 4 pixels is black, so that a
  policy without memory can tell the attempts apart. The package shows no last screen of an attempt: the one before
  stands for it.
* **Reward**: the game's own.
* **Metrics**: ``return_attempt_0`` ..., ``return_last``; ``normalised`` and ``normalised_last``, their mean and
  last on the scale of :mod:`envs_suite.procgen_games`; ``game``, the number of the game in the order given.

Levels are those numbered 0 to ``levels`` - 1, split between training and evaluation by the hash of (game, level);
with 0 every level there is (2^31). Evaluation task i plays game i mod (number of games) on a fixed level.

A Procgen object cannot be seeded again, so every attempt builds a new one (under a millisecond), with one level
only; the level's number decides everything else in it.

Differences from AMAGO's ``TwoShotMTProcgen``: games and levels come from the reset's generator, levels are split,
all levels may be used, and returns are normalised in metrics instead of rewards being scaled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from amago.errors import ConfigurationError
from amago.registry import nearest
from envs_suite.optional import need
from envs_suite.procgen_games import GAMES, MODES, bounds, mode_of
from envs_suite.tasks import draw_until, eval_generator, is_eval_task
from envs_suite.vector import metric_key, single_task_index

ACTIONS, PIXELS = 15, 64
#: Most steps of an attempt, by the package.
ATTEMPT_STEPS = 1000
_ALL_LEVELS = 2**31 - 1
_CORNER = slice(1, 5)


def is_eval_level(game: str, level: int) -> bool:
    """Whether a level belongs to the evaluation split."""
    return is_eval_task(b"procgen", game.encode(), str(level).encode())


class ProcgenGames(gym.Env):
    """Attempts at levels of Procgen games; see the module's docstring.

    Args:
        games: names such as "coinrun".
        mode: "easy", "hard" or "memory".
        attempts: at each level.
        levels: how many levels there are; 0 for all.
        split: "train" or "eval": which levels are used.

    Raises:
        ConfigurationError: no game or an unknown one, an unknown mode, no attempt, or procgen is not installed.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]
    takes_task_index = True

    def __init__(
        self,
        games: Sequence[str],
        mode: str = "easy",
        attempts: int = 2,
        levels: int = 0,
        split: str = "train",
    ) -> None:
        if not games:
            raise ConfigurationError("ProcgenGames needs at least one game")
        unknown = [game for game in games if game not in GAMES]
        if unknown:
            raise ConfigurationError(
                f"procgen has no game {unknown[0]!r}; {nearest(unknown[0], sorted(GAMES))}"
            )
        if mode not in MODES:
            raise ConfigurationError(f"ProcgenGames.mode must be one of {', '.join(MODES)}, got {mode!r}")
        if attempts < 1:
            raise ConfigurationError(f"ProcgenGames.attempts must be at least 1, got {attempts}")
        if levels != 0 and levels < 20:
            raise ConfigurationError(
                f"ProcgenGames.levels must be 0 (all) or at least 20, so that either split has some; got {levels}"
            )
        self._build = need("procgen", "Procgen", "procgen").ProcgenGym3Env
        self.games, self.mode, self.attempts = tuple(games), mode, attempts
        self.levels, self.split = levels or _ALL_LEVELS, split
        self.observation_space = spaces.Box(0, 255, (PIXELS, PIXELS, 3), dtype=np.uint8)
        self.action_space = spaces.Discrete(ACTIONS)
        self.number = 0
        self.env: Any = None

    @property
    def game(self) -> str:
        """The game of this episode."""
        return self.games[self.number]

    @property
    def task_name(self) -> str | None:
        """The game, where there are several."""
        return self.game if len(self.games) > 1 else None

    def _draw(self, task_index: int | None) -> tuple[int, int]:
        rng, wanted = self.np_random, self.split == "eval"
        if task_index is None:
            return draw_until(
                lambda: (int(rng.integers(len(self.games))), int(rng.integers(self.levels))),
                lambda task: is_eval_level(self.games[task[0]], task[1]) == wanted,
                "Procgen level",
            )
        number = task_index % len(self.games)
        rng = eval_generator(task_index, len(self.games))
        game = self.games[number]
        return number, draw_until(
            lambda: int(rng.integers(self.levels)), lambda level: is_eval_level(game, level), "Procgen level"
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.number, self.level = self._draw(single_task_index(options))
        self.returns: list[float] = []
        return self._begin(), {}

    def _begin(self) -> np.ndarray:
        self.close()
        try:
            self.env = self._build(
                num=1,
                env_name=self.game,
                num_threads=0,
                rand_seed=0,
                num_levels=1,
                start_level=self.level,
                distribution_mode=mode_of(self.game, self.mode),
            )
        except OSError as error:
            raise ConfigurationError(
                f"procgen's compiled games cannot be loaded ({str(error).splitlines()[0]}); they need libGL, GLib and "
                "libX11: on Debian apt-get install libgl1 libglib2.0-0 libx11-6"
            ) from error
        self.returns.append(0.0)
        self.waiting = False
        self.seen = self._observation(self.env.observe()[1])
        return self.seen

    def _observation(self, raw: dict[str, np.ndarray]) -> np.ndarray:
        screen = raw["rgb"][0].copy()
        if len(self.returns) > 1:
            screen[_CORNER, _CORNER] = 0
        return screen

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        if self.waiting:
            return self._begin(), 0.0, False, False, {}
        self.env.act(np.array([int(action)], dtype=np.int32))
        rewards, raw, first = self.env.observe()
        reward = float(rewards[0])
        self.returns[-1] += reward
        if not first[0]:
            self.seen = self._observation(raw)
            return self.seen, reward, False, False, {}
        terminated = len(self.returns) >= self.attempts
        self.waiting = not terminated
        return self.seen.copy(), reward, terminated, False, self._metrics() if terminated else {}

    def _metrics(self) -> dict[str, Any]:
        low, high = bounds(self.game, self.mode)
        normalised = (np.array(self.returns) - low) / (high - low)
        named = {f"return_attempt_{i}": value for i, value in enumerate(self.returns)}
        named |= {
            "return_last": self.returns[-1],
            "normalised": float(normalised.mean()),
            "normalised_last": float(normalised[-1]),
            "game": float(self.number),
        }
        return {metric_key(name): value for name, value in named.items()}

    def close(self) -> None:
        if self.env is not None:
            self.env.close()
            self.env = None
