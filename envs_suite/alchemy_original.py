"""Symbolic Alchemy as its authors wrote it (dm_alchemy, Apache-2.0), where a user has installed their package.

The package is on no index: `envs_suite.optional.BY_HAND` has the command that installs it. What stones, potions and
the cauldron do, what is seen and what is paid is the package's, played through its public `SymbolicAlchemy`. What an
episode consists of (chemistry, stones, potions) is drawn by :mod:`envs_suite.alchemy_chemistry` and handed to it: the
same distributions, so that seeds, the split between training and evaluation, and evaluation tasks are those of
``symbolic-alchemy``, episode by episode.

Actions, rewards, trials, ends and metrics are those of :mod:`envs_suite.alchemy`. The observation differs in one
thing: the colour of a potion that is gone is 1 here, and 2 there. (The package's 1 lies beyond its colours, too: they
go from -1 to 2/3.)
"""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from envs_suite.alchemy import ACTIONS, AlchemyRules, observation_space
from envs_suite.alchemy_chemistry import (
    AXES,
    COORDINATES,
    NODES,
    Chemistry,
    graph_edges,
    perceived_coordinates,
    potion_effects,
)
from envs_suite.optional import need
from envs_suite.vector import metric_key, single_task_index

#: The package's angles (degrees about x, y, z) of each of our rotations.
_ANGLES = ((0, 0, 0), (0, 0, -45), (-45, 0, 0), (0, -45, 0))
#: The node where all latent coordinates are +1.
_TOP = NODES - 1


def constraints(graph: int) -> list[list[str]]:
    """A graph as the package writes it: for each axis, what it demands of each coordinate.

    "1" or "-1" is the demanded value, "*" any; an axis has an "X" at its own place.
    """
    edges = graph_edges()[graph]
    found = []
    for axis in range(AXES):
        demands = []
        for other in range(AXES):
            values = set(COORDINATES[edges[:, axis], other].tolist())
            demands.append("X" if other == axis else "*" if len(values) > 1 else str(values.pop()))
        found.append(demands)
    return found


class OriginalAlchemy(gym.Env):
    """One game in the authors' package; see the module's docstring.

    Args:
        trials, steps_per_trial, bottlenecks, rotations, split: see :class:`envs_suite.alchemy.SymbolicAlchemy`.

    Raises:
        ConfigurationError: no trial, no step, or the package is not installed.
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
        who = "environment 'symbolic-alchemy-original'"
        game = need("dm_alchemy.symbolic_alchemy", who)
        self._graphs = need("dm_alchemy.types.graphs", who)
        self._types = need("dm_alchemy.types.stones_and_potions", who)
        self._parts = need("dm_alchemy.types.utils", who)
        self.observation_space = observation_space()
        self.action_space = spaces.Discrete(ACTIONS)
        self.game = game.SymbolicAlchemy(
            chemistry_gen=lambda: self._chemistry(self.episode.chemistry),
            reward_weights=None,  # the package's own: the sum of coordinates, and 12 more for the best stone
            items_gen=self._items,
            num_trials=trials,
            max_steps_per_trial=steps_per_trial,
        )

    def _chemistry(self, chemistry: Chemistry) -> Any:
        axis, up = (effects[chemistry.potion_map] for effects in potion_effects())
        directions = [0] * AXES
        for colour in range(1, 2 * AXES, 2):
            directions[axis[colour]] = 1 if up[colour] else -1
        return self._parts.Chemistry(
            potion_map=self._types.PotionMap(axis[::2].tolist(), directions),
            stone_map=self._types.StoneMap(perceived_coordinates()[0, chemistry.stone_map, _TOP].astype(int)),
            graph=self._graphs.create_graph_from_constraint(constraints(chemistry.graph)),
            rotation=self._types.rotation_from_angles(list(_ANGLES[chemistry.rotation])),
        )

    def _items(self, trial: int) -> Any:
        axis, up = (effects[self.episode.chemistry.potion_map] for effects in potion_effects())
        colours = self.episode.potions[trial].tolist()
        return self._parts.TrialItems(
            stones=[self._types.LatentStone(COORDINATES[node]) for node in self.episode.stones[trial]],
            potions=[self._types.LatentPotion(int(axis[c]), 1 if up[c] else -1) for c in colours],
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode = self.rules.draw(self.np_random, single_task_index(options))
        self.t = 0
        self.returns = [0.0] * self.rules.trials
        return self._seen(self.game.reset()), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        timestep = self.game.step(int(action))
        self.returns[self.t // self.rules.steps_per_trial] += timestep.reward
        self.t += 1
        info = {}
        if timestep.last():
            info = {
                metric_key("return_first_trial"): self.returns[0],
                metric_key("return_last_trial"): self.returns[-1],
            }
        return self._seen(timestep), float(timestep.reward), bool(timestep.last()), False, info

    @staticmethod
    def _seen(timestep: Any) -> np.ndarray:
        return np.asarray(timestep.observation["symbolic_obs"], dtype=np.float32)
