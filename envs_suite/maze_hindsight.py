"""Hindsight for MazeRunner: had the goals been where the agent went, it would have succeeded.

Multi-goal relabelling as in AMAGO (arXiv 2310.09971, section 4.3), for goals that count in order:
the ones that were reached stay, those after them move to cells that the agent visited later.
"""

from __future__ import annotations

import gin
import numpy as np

from amago.errors import ConfigurationError
from amago.hindsight import FrozenTraj, Relabeler
from envs_suite.maze_runner import _SEEN

#: Sides that the registry's mazes can have.
_SIZES = range(9, 100, 2)


@gin.configurable
class MazeGoalRelabeler(Relabeler):
    """Moves goals that were never reached to places where the agent later was.

    Args:
        size: side of the mazes; None reads it off the observations, which are shares of it.
        probability: with which a trajectory that missed a goal is relabelled.
        obs_key: of the maze's observation.

    Raises:
        ConfigurationError: no probability; when it relabels, that the mazes have another side.
    """

    def __init__(
        self, size: int | None = None, probability: float = 0.5, obs_key: str = "observation"
    ) -> None:
        if not 0.0 <= probability <= 1.0:
            raise ConfigurationError(
                f"MazeGoalRelabeler.probability must be within 0 and 1, got {probability}"
            )
        self.size, self.fixed, self.probability, self.obs_key = size, size is not None, probability, obs_key

    def relabel(self, traj: FrozenTraj, rng: np.random.Generator) -> FrozenTraj:
        """See the module's docstring; ends the trajectory where its last new goal is reached."""
        if rng.random() >= self.probability:
            return traj
        obs = traj.obs[self.obs_key]
        self._find_size(obs)
        cells = np.rint(obs[:, :2] * self.size).astype(np.int64)
        goals = np.rint(obs[0, _SEEN:].reshape(-1, 2) * self.size).astype(np.int64)
        slots = np.flatnonzero(goals[:, 0] >= 0)  # goals still ahead when the trajectory begins
        reached = np.flatnonzero(traj.rews[:, 0] > 0) + 1  # rows
        missed = slots[len(reached) :]
        last = int(reached[-1]) if len(reached) else 0
        if len(missed) == 0 or last == len(traj):
            return traj
        # Different times, so that each goal can be reached after the one before it.
        later = np.arange(last + 1, len(traj) + 1)
        times = np.sort(rng.choice(later, size=min(len(missed), len(later)), replace=False))
        goals[missed[: len(times)]] = cells[times]
        return self._replay(traj, cells, goals, slots)

    def _find_size(self, obs: np.ndarray) -> None:
        """See that ``size`` makes whole numbers of all places; several do only where they give the same places."""

        goals = obs[0, _SEEN:]
        shares = np.concatenate([obs[:, :2].ravel(), goals[goals >= 0]])

        def fits(size: int) -> bool:
            places = shares * size
            return bool(np.abs(places - np.rint(places)).max() < 1e-3)

        if self.size is not None and fits(self.size):
            return
        fitting = next((size for size in _SIZES if fits(size)), None)
        if self.fixed or fitting is None:
            raise ConfigurationError(
                f"MazeGoalRelabeler.size is {self.size}, and the mazes have another side: give them one, or None"
            )
        self.size = fitting

    def _replay(
        self, traj: FrozenTraj, cells: np.ndarray, goals: np.ndarray, slots: np.ndarray
    ) -> FrozenTraj:
        """The same walk, with the rewards and observations that ``goals`` (max_goals, 2) give."""
        obs = traj.obs[self.obs_key].copy()
        rews = np.zeros_like(traj.rews)
        ahead, end = goals.copy(), len(traj)
        left = list(slots)
        for row in range(len(cells)):
            if row > 0 and (cells[row] == ahead[left[0]]).all():
                ahead[left.pop(0)] = -1
                rews[row - 1] = 1.0
            obs[row, _SEEN:] = ahead.reshape(-1) / self.size
            if not left:
                end = row
                break
        out = FrozenTraj(
            traj.obs | {self.obs_key: obs}, traj.rl2s, traj.time_idxs, traj.rews, traj.dones, traj.actions
        )
        out = out.with_rewards(rews).first(end)
        if not left:
            out.dones = out.dones.copy()
            out.dones[-1] = True
        return out
