"""27 POPGym environments in one space, several attempts each (AMAGO's MultiDomainPOPGym).

An episode draws a game and plays it ``attempts`` times with new randomness; only the last attempt's rewards
count. The step after an attempt's end is a reset step, whose action is ignored. Which game it is, is not told.

* **Actions** (27): a game with n < 27 actions takes the first n; any other is replaced by a random one of
  these, and the next observation says so.
* **Observation** float32 (30,): the game's own, filled with zeros to 26; then ``t / 1000``, attempts over / (attempts
  - 1), whether the last action was one of the game's, and the last reward, which is also shown in
  attempts that do not count.
* **Metrics**: ``return_first_attempt``, ``return_last_attempt`` (which is the return) and ``game`` (its number).

Evaluation task i plays game i mod 27, from a generator of its own. Differences from AMAGO's: it has 26
actions, which leaves out an answer of CountRecallEasy and CountRecallMedium; the episode terminates with the
last attempt's last step (there one step later); everything is drawn from the reset's generator.
"""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from amago.envs import AMAGOEnv
from amago.errors import ConfigurationError
from envs_suite.optional import need
from envs_suite.tasks import eval_generator
from envs_suite.vector import metric_key, single_task_index

_ALL_THREE = (
    "Autoencode",
    "RepeatPrevious",
    "RepeatFirst",
    "CountRecall",
    "PositionOnlyCartPole",
    "VelocityOnlyCartpole",
    "NoisyPositionOnlyCartPole",
    "HigherLower",
)
#: The games, in the order of the metric ``game``.
GAMES = (
    *(f"{name}{level}" for name in _ALL_THREE for level in ("Easy", "Medium", "Hard")),
    "MultiarmedBanditEasy",
    "MultiarmedBanditMedium",
    "MineSweeperEasy",
)
GAME_OBSERVATION, EXTRA_OBSERVATION = 26, 4
ACTIONS = 27
#: Steps of the longest game (RepeatFirstHard).
LONGEST_GAME = 831
_TIMER_SCALE = 1000.0
_BOUND = 10.0


class MultiDomainPOPGym(gym.Env):
    """See the module's docstring.

    Args:
        attempts: attempts of an episode, of which the last counts.

    Raises:
        ConfigurationError: no attempt, or popgym is not installed.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]
    takes_task_index = True

    def __init__(self, attempts: int = 2) -> None:
        if attempts < 1:
            raise ConfigurationError(f"MultiDomainPOPGym.attempts must be at least 1, got {attempts}")
        need("popgym", "MultiDomainPOPGym")
        self.attempts = attempts
        self._games: dict[int, Any] = {}
        self.game_number = 0
        size = GAME_OBSERVATION + EXTRA_OBSERVATION
        self.observation_space = spaces.Box(-_BOUND, _BOUND, (size,), dtype=np.float32)
        self.action_space = spaces.Discrete(ACTIONS)

    @property
    def task_name(self) -> str:
        """The game of this episode."""
        return GAMES[self.game_number]

    def _game(self, number: int) -> Any:
        if number not in self._games:
            from envs_suite.popgym_envs import POPGym

            self._games[number] = POPGym(f"popgym-{GAMES[number]}-v0")
        return self._games[number]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        index = single_task_index(options)
        self.rng = self.np_random if index is None else eval_generator(index, len(GAMES))
        drawn = int(self.rng.integers(len(GAMES)))
        self.game_number = drawn if index is None else index % len(GAMES)
        self.game = self._game(self.game_number)
        space = self.game.action_space
        self.sizes = tuple(int(n) for n in space.nvec) if isinstance(space, spaces.MultiDiscrete) else None
        self.actions = int(np.prod(self.sizes)) if self.sizes else int(space.n)
        self.t, self.returns = 0, [0.0]
        return self._begin(), {}

    def _begin(self) -> np.ndarray:
        self.waiting = False
        obs, _ = self.game.reset(seed=int(self.rng.integers(2**31)))
        return self._observation(obs, valid=True, reward=0.0)

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.t += 1
        if self.waiting:
            self.returns.append(0.0)
            return self._begin(), 0.0, False, False, {}
        valid = int(action) < self.actions
        chosen = int(action) if valid else int(self.rng.integers(self.actions))
        own = chosen if self.sizes is None else np.array(np.unravel_index(chosen, self.sizes))
        raw, reward, over, _, _ = self.game.step(own)
        self.returns[-1] += reward
        counts = len(self.returns) == self.attempts
        obs = self._observation(raw, valid, reward)
        info = {}
        if over and counts:
            info = {
                metric_key("return_first_attempt"): self.returns[0],
                metric_key("return_last_attempt"): self.returns[-1],
                metric_key("game"): float(self.game_number),
            }
        self.waiting = over and not counts
        return obs, reward if counts else 0.0, over and counts, False, info

    def _observation(self, raw: np.ndarray, valid: bool, reward: float) -> np.ndarray:
        obs = np.zeros(GAME_OBSERVATION + EXTRA_OBSERVATION, dtype=np.float32)
        obs[: len(raw) - 1] = np.clip(raw[:-1], -_BOUND, _BOUND)  # without its own timer
        done = len(self.returns) - 1
        obs[-4:] = self.t / _TIMER_SCALE, done / max(self.attempts - 1, 1), valid, reward
        return obs


class MultiDomainPOPGymAMAGO(AMAGOEnv):
    """27 POPGym environments for AMAGO.

    Args:
        warmup_episodes: attempts that do not count, before the one that does.
    """

    def __init__(self, warmup_episodes: int = 1) -> None:
        super().__init__(MultiDomainPOPGym(warmup_episodes + 1), env_name="MultiDomainPOPGym")
