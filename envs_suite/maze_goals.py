"""MazeRunner whose goals stand apart from the rest, under AMAGO's name: for hindsight relabelling of one's own."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from amago.envs import AMAGOEnv
from envs_suite.maze_runner import _SEEN, MazeRunnerGymEnv


class GoalsApart(gym.ObservationWrapper):
    """The same maze with a dict of observations.

    ``obs`` (7,) float32 is what :class:`MazeRunnerGymEnv` shows but for the goals, ``goals`` (max_goals, 2) int32
    their rows and columns in order, -1 where one was visited or is not there, and ``achieved`` (1, 2) int32
    where the agent is: a step is rewarded when ``achieved`` becomes the first of ``goals`` that is left.

    Args:
        env: the maze.
    """

    takes_task_index = True

    def __init__(self, env: MazeRunnerGymEnv) -> None:
        super().__init__(env)
        self.maze, size = env, env.rules.size
        whole = env.rules.observation_space
        self.observation_space = spaces.Dict(
            {
                "obs": spaces.Box(whole.low[:_SEEN], whole.high[:_SEEN], dtype=np.float32),
                "achieved": spaces.Box(0, size, (1, 2), np.int32),
                "goals": spaces.Box(-1, size, (env.rules.max_goals, 2), np.int32),
            }
        )

    def observation(self, observation: np.ndarray) -> dict[str, np.ndarray]:
        goals = np.rint(observation[_SEEN:] * self.maze.rules.size).astype(np.int32)
        return {
            "obs": observation[:_SEEN],
            "achieved": np.array([self.maze.position], np.int32),
            "goals": goals.reshape(-1, 2),
        }


class MazeRunnerAMAGOEnv(AMAGOEnv):
    """MazeRunner with observations as :class:`GoalsApart` has them.

    Leave ``achieved`` to the relabeller: ``FFTstepEncoder.specify_obs_keys = ["obs", "goals"]``.

    Args:
        maze_dim: side n, odd and at least 9.
        num_goals: of every task.
        time_limit: steps after which the episode ends.
        randomized_action_space: shuffle the order of actions for each task.

    Raises:
        ConfigurationError: a maze that cannot be; see :class:`~envs_suite.maze_runner.MazeRules`.
    """

    def __init__(
        self, maze_dim: int, num_goals: int, time_limit: int, randomized_action_space: bool = False
    ) -> None:
        maze: Any = MazeRunnerGymEnv(
            maze_dim, num_goals, num_goals, time_limit, randomized_action_space=randomized_action_space
        )
        super().__init__(GoalsApart(maze), env_name=f"MazeRunner-{maze_dim}x{maze_dim}-k{num_goals}")
