"""Symbolic Alchemy (Wang et al. 2021, arXiv 2102.02926), written from the paper's definition.

An episode has 10 trials of 20 steps. Each trial lays out three stones and twelve potions; a potion turns a
stone into another, and putting a stone into the cauldron gives the stone's value (-3, -1, 1 or 15). What
stones look like and what potions do is a chemistry (:mod:`envs_suite.alchemy_chemistry`), drawn for the
episode and never shown: the agent has to find it out in early trials and use it in later ones.

* **Actions** (40): 0 does nothing; 1 + 13 s puts stone s (0..2) into the cauldron, 2 + 13 s + p dips it into
  potion p (0..11). A stone or potion that is gone makes the action do nothing. A potion is used up even when
  it does not change the stone.
* **Observation** float32 (39,): for each stone three perceived coordinates (-1, 0, 1), the value indicator
  (-1, -1/3, 1/3, 1) and whether it is gone; for each potion its colour (c / 3 - 1, c = 0..5) and whether it is
  gone. Features of what is gone are 2, and its last one is 1.
* **Trial**: always all its steps; then the next one is laid out within the same step. The last trial's end
  terminates the episode, and its last observation shows what is left of it.
* **Metrics**: ``return_first_trial`` and ``return_last_trial``.

This is the level with random perceptual mapping, rotation and bottleneck; ``bottlenecks`` and ``rotations``
leave either out. Chemistries are split between training and evaluation by their hash (the original draws both
from one distribution). Other differences from the authors' package (`envs_suite.alchemy_original` plays it): the
colour of a potion that is gone is 2 here and 1 there; random draws come in another order, so a seed gives another
episode.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from amago.errors import ConfigurationError
from envs_suite.alchemy_chemistry import (
    COLOURS,
    NODES,
    VALUES,
    Episode,
    Indices,
    draw_parts,
    episode_of,
    looks_of,
    results_of,
)
from envs_suite.vector import BatchedEnv, Moved, metric_key, single_task_index

STONES, POTIONS = 3, 12
#: Actions of one stone: the cauldron, then the potions.
TARGETS = POTIONS + 1
ACTIONS = 1 + STONES * TARGETS
STONE_FEATURES, POTION_FEATURES = 5, 2
OBSERVATION_SIZE = STONES * STONE_FEATURES + POTIONS * POTION_FEATURES
#: Feature of an item that is gone; also the largest feature there is.
_GONE = 2.0

# Tables of the vectorised form. A stone or potion that is gone, the cauldron, and the target of action 0 have
# numbers of their own, so that every action is the same few look-ups.
_NO_STONE = NODES
_NO_POTION, _CAULDRON = COLOURS, COLOURS + 1
_CAULDRON_SLOT, _NOTHING_SLOT = POTIONS, POTIONS + 1
_SLOT_OF_ACTION = np.array([0] + [slot for slot in range(STONES) for _ in range(TARGETS)])
_TARGET_OF_ACTION = np.array([_NOTHING_SLOT] + [_CAULDRON_SLOT, *range(POTIONS)] * STONES)
#: Slots that a stone can be put in, and pairs of a stone's and a potion's number.
_SLOTS, _COMBINATIONS = POTIONS + 2, (NODES + 1) * (_CAULDRON + 1)
#: (9, 8) [stone, potion] -> what the potion is afterwards: gone, when a stone was dipped into it.
_AFTER_DIPPING = np.tile(np.arange(_CAULDRON + 1), (NODES + 1, 1))
_AFTER_DIPPING[:NODES, :COLOURS] = _NO_POTION
#: (9, 8) [stone, potion] -> reward.
_REWARD_TABLE = np.zeros((NODES + 1, _CAULDRON + 1), dtype=np.float32)
_REWARD_TABLE[:NODES, _CAULDRON] = VALUES
_POTION_AFTER, _REWARDS = _AFTER_DIPPING.ravel(), _REWARD_TABLE.ravel()
#: (8,) the two features of a potion.
_COLOUR_FEATURES = np.array([c / 3 - 1 for c in range(COLOURS)] + [_GONE + 1j] * 2, dtype=np.complex64)
#: The features of a stone, as one thing to look up.
_LOOK = np.dtype((np.void, 4 * STONE_FEATURES))


@dataclass(frozen=True)
class AlchemyRules:
    """What an episode's dynamics depend on; checked and shared by both forms.

    Raises:
        ConfigurationError: no trial, or no step.
    """

    trials: int = 10
    steps_per_trial: int = 20
    bottlenecks: bool = True
    rotations: bool = True
    split: str = "train"

    def __post_init__(self) -> None:
        for name in ("trials", "steps_per_trial"):
            if getattr(self, name) < 1:
                raise ConfigurationError(
                    f"SymbolicAlchemy.{name} must be at least 1, got {getattr(self, name)}"
                )

    @property
    def horizon(self) -> int:
        """Steps of an episode."""
        return self.trials * self.steps_per_trial

    def draw_parts(
        self, rng: np.random.Generator, task_index: int | None
    ) -> tuple[Indices, np.ndarray, np.ndarray]:
        """An episode under these rules: its chemistry's indices, (trials, 3) stones and (trials, 12) potions."""
        return draw_parts(
            rng, task_index, self.trials, self.split, self.bottlenecks, self.rotations, STONES, POTIONS
        )

    def draw(self, rng: np.random.Generator, task_index: int | None) -> Episode:
        """An episode under these rules."""
        return episode_of(self.draw_parts(rng, task_index))


def observation_space() -> spaces.Box:
    """Of one game, in either package."""
    return spaces.Box(-1.0, _GONE, (OBSERVATION_SIZE,), dtype=np.float32)


class SymbolicAlchemy(gym.Env):
    """One game of Symbolic Alchemy; see the module's docstring.

    Args:
        trials: trials of an episode.
        steps_per_trial: steps of each trial.
        bottlenecks: draw graphs with missing edges, not only the whole cube.
        rotations: draw rotated looks.
        split: "train" or "eval": which chemistries are used.

    Raises:
        ConfigurationError: see :class:`AlchemyRules`.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]
    takes_task_index = True

    def __init__(
        self,
        trials: int = 10,
        steps_per_trial: int = 20,
        bottlenecks: bool = True,
        rotations: bool = True,
        split: str = "train",
    ) -> None:
        self.rules = AlchemyRules(trials, steps_per_trial, bottlenecks, rotations, split)
        self.observation_space = observation_space()
        self.action_space = spaces.Discrete(ACTIONS)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode = self.rules.draw(self.np_random, single_task_index(options))
        self._result = self.episode.chemistry.result.tolist()
        self._looks = self.episode.chemistry.looks.tolist()
        self.t = 0
        self.returns = [0.0] * self.rules.trials
        self._lay_out(0)
        return self._observation(), {}

    def _lay_out(self, trial: int) -> None:
        self.trial = trial
        self.stones: list[int | None] = self.episode.stones[trial].tolist()
        self.potions: list[int | None] = self.episode.potions[trial].tolist()

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.t += 1
        reward = 0.0
        if action > 0:
            slot, target = divmod(int(action) - 1, TARGETS)
            node = self.stones[slot]
            if node is not None and target == 0:
                reward = float(VALUES[node])
                self.stones[slot] = None
            elif node is not None:
                colour = self.potions[target - 1]
                if colour is not None:
                    self.stones[slot] = self._result[node][colour]
                    self.potions[target - 1] = None
        self.returns[self.trial] += reward
        terminated = self.t >= self.rules.horizon
        if not terminated and self.t % self.rules.steps_per_trial == 0:
            self._lay_out(self.trial + 1)
        info = {}
        if terminated:
            info = {
                metric_key("return_first_trial"): self.returns[0],
                metric_key("return_last_trial"): self.returns[-1],
            }
        return self._observation(), reward, terminated, False, info

    def _observation(self) -> np.ndarray:
        seen: list[float] = []
        for node in self.stones:
            seen += [_GONE] * 4 + [1.0] if node is None else [*self._looks[node], 0.0]
        for colour in self.potions:
            seen += [_GONE, 1.0] if colour is None else [colour / 3 - 1, 0.0]
        return np.array(seen, dtype=np.float32)


class SymbolicAlchemyVector(BatchedEnv):
    """N games with the dynamics of :class:`SymbolicAlchemy`.

    Args:
        num_envs: N.
        trials, steps_per_trial, bottlenecks, rotations, split: see :class:`SymbolicAlchemy`.
    """

    def __init__(
        self,
        num_envs: int,
        trials: int = 10,
        steps_per_trial: int = 20,
        bottlenecks: bool = True,
        rotations: bool = True,
        split: str = "train",
    ) -> None:
        self.rules = AlchemyRules(trials, steps_per_trial, bottlenecks, rotations, split)
        super().__init__(num_envs, observation_space(), spaces.Discrete(ACTIONS))
        n = num_envs
        self._trials = trials
        # Flat arrays, and where an instance's part of each begins.
        self._stone_row, self._potion_row = np.arange(n) * STONES, np.arange(n) * _SLOTS
        self._result_row, self._looks_row = np.arange(n) * _COMBINATIONS, np.arange(n) * (NODES + 1)
        self.stones = np.full((n, STONES), _NO_STONE)
        # After the twelve potions come the cauldron and, for action 0, nothing.
        self.potions = np.full((n, _SLOTS), _NO_POTION)
        self.potions[:, _CAULDRON_SLOT] = _CAULDRON
        self._all_stones = np.zeros((n, trials, STONES), dtype=np.int64)
        self._all_potions = np.full((n, trials, _SLOTS), _NO_POTION)
        self._all_potions[:, :, _CAULDRON_SLOT] = _CAULDRON
        self._potions_drawn = self._all_potions[:, :, :POTIONS]
        self._chemistry = np.zeros((n, 4), dtype=np.int64)
        self._result = np.tile(np.arange(NODES + 1)[:, None], (n, 1, _CAULDRON + 1))
        self._result[:, :, _CAULDRON] = _NO_STONE
        self._looks = np.zeros((n, NODES + 1, STONE_FEATURES), dtype=np.float32)
        self._looks[:, _NO_STONE] = [_GONE] * 4 + [1.0]
        self._look = self._looks.reshape(-1).view(_LOOK)
        # What is seen, changed where something changes.
        self._seen_stones = np.zeros((n, STONES, STONE_FEATURES), dtype=np.float32)
        self._seen_stone = self._seen_stones.reshape(-1).view(_LOOK)
        self._seen_potions = np.zeros((n, _SLOTS), dtype=np.complex64)
        self._first_step = np.zeros(n, dtype=np.int64)  # the clock when the episode began
        self._next_trial = np.zeros(n, dtype=np.int64)  # the clock when the trial is over
        self._soonest = 0
        self._return = np.zeros(n, dtype=np.float32)  # of this trial: whole numbers, exact
        self.returns = np.zeros((n, trials))

    def _draw(self, i: int, rng: np.random.Generator, task_index: int | None) -> None:
        self._chemistry[i], self._all_stones[i], self._potions_drawn[i] = self.rules.draw_parts(
            rng, task_index
        )

    def _begin(self, who: np.ndarray) -> None:
        chemistry = self._chemistry[who]
        self._result[who, :NODES, :COLOURS] = results_of(chemistry)
        self._looks[who, :NODES, :4] = looks_of(chemistry)
        self._first_step[who] = self._clock
        self.returns[who] = 0.0
        self._lay_out(who, np.zeros(len(who), dtype=np.int64))
        self._set_deadline(who, self.rules.horizon)

    def _lay_out(self, who: np.ndarray, trial: np.ndarray) -> None:
        self.stones[who] = stones = self._all_stones[who, trial]
        self.potions[who] = potions = self._all_potions[who, trial]
        self._seen_stones[who] = self._looks[who[:, None], stones]
        self._seen_potions[who] = _COLOUR_FEATURES[potions]
        self._return[who] = 0.0
        self._next_trial[who] = self._clock + self.rules.steps_per_trial
        self._soonest = int(self._next_trial.min())

    def _move(self, actions: np.ndarray) -> Moved:
        stones, potions = self.stones.reshape(-1), self.potions.reshape(-1)
        stone, potion = (
            self._stone_row + _SLOT_OF_ACTION[actions],
            self._potion_row + _TARGET_OF_ACTION[actions],
        )
        both = (_CAULDRON + 1) * stones[stone]
        both += potions[potion]
        becomes, left = self._result.reshape(-1)[self._result_row + both], _POTION_AFTER[both]
        rewards = _REWARDS[both]
        stones[stone] = becomes
        potions[potion] = left
        self._seen_stone[stone] = self._look[self._looks_row + becomes]
        self._seen_potions.reshape(-1)[potion] = _COLOUR_FEATURES[left]
        self._return += rewards
        if self._clock < self._soonest:
            return rewards, None, {}
        done = np.flatnonzero(self._next_trial == self._clock)
        trial = (self._clock - self._first_step[done]) // self.rules.steps_per_trial - 1
        self.returns[done, trial] = self._return[done]
        ended = self._time_up()
        more = trial < self._trials - 1
        self._lay_out(done[more], trial[more] + 1)
        if ended is None:
            return rewards, None, {}
        first, last = self.returns[:, 0].copy(), self.returns[:, -1].copy()
        return rewards, ended, {"return_first_trial": first, "return_last_trial": last}

    def _observe(self) -> np.ndarray:
        obs = np.empty((self.num_envs, OBSERVATION_SIZE), dtype=np.float32)
        obs[:, : STONES * STONE_FEATURES] = self._seen_stones.reshape(self.num_envs, -1)
        obs[:, STONES * STONE_FEATURES :] = self._seen_potions.view(np.float32)[
            :, : POTIONS * POTION_FEATURES
        ]
        return obs
