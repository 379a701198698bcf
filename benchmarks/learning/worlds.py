"""Environments that only these benchmarks need: pixels of MiniGrid, and two tasks of unequal reward."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from amago.envs import AMAGOEnv
from envs_suite.optional import need
from envs_suite.tmaze import TMazeAltPassive
from envs_suite.vector import metric_key, single_task_index


class PixelView(gym.Env):
    """A MiniGrid task seen as pixels: what the agent sees, 7 x 7 cells of ``cell`` pixels each.

    Observation: uint8 (7 cell, 7 cell, 3). Logs ``success``: the last reward was positive.

    Args:
        task: id of the package.
        cell: pixels to a side of a cell.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]

    def __init__(self, task: str, cell: int = 6) -> None:
        need("minigrid", "MiniGrid")
        from minigrid.wrappers import ImgObsWrapper, RGBImgPartialObsWrapper

        inner = gym.make(task, disable_env_checker=True)
        self.env = ImgObsWrapper(RGBImgPartialObsWrapper(inner, tile_size=cell))
        self.observation_space = self.env.observation_space
        self.action_space = spaces.Discrete(3)  # left, right, forward: all that these tasks need

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        obs, _ = self.env.reset(seed=seed)
        return obs, {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, _ = self.env.step(int(action))
        ended = terminated or truncated
        info = {metric_key("success"): float(float(reward) > 0)} if ended else {}
        return obs, float(reward), terminated, truncated, info

    def close(self) -> None:
        self.env.close()


class TwoScales(gym.Env):
    """Two T-Mazes in one: an episode plays one of them, and the observation says which.

    In the first, rewards are as they are and the goal is on the side that was shown; in the second,
    rewards are ``scale`` times as large and it is on the other side. Logs ``success`` and
    ``success_small`` or ``success_large``.

    Args:
        corridor: steps from start to junction.
        scale: of the second task's rewards.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]
    takes_task_index = True

    def __init__(self, corridor: int, scale: float) -> None:
        self.maze = TMazeAltPassive(corridor, penalty=-1.0 / corridor)
        self.scale = scale
        self.observation_space = spaces.Box(-1.0, 1.0, (3,), dtype=np.float32)
        self.action_space = self.maze.action_space
        self.horizon = self.maze.episode_length

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        drawn = int(self.np_random.integers(2))
        index = single_task_index(options)
        self.large = bool(drawn if index is None else index % 2)
        inner = {} if index is None else {"task_index": index // 2}
        obs, _ = self.maze.reset(seed=int(self.np_random.integers(2**31)), options=inner)
        return self._seen(obs), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.maze.step(int(action))
        if terminated:
            name = "success_large" if self.large else "success_small"
            info = {**info, metric_key(name): info[metric_key("success")]}
        return self._seen(obs), reward * (self.scale if self.large else 1.0), terminated, truncated, info

    def _seen(self, obs: np.ndarray) -> np.ndarray:
        side = -obs[1] if self.large and not obs[0] else obs[1]
        return np.array([obs[0], side, self.large], dtype=np.float32)


def pixel_view(task: str) -> AMAGOEnv:
    """A MiniGrid task in pixels, for training."""
    return AMAGOEnv(PixelView(task), env_name=f"{task} in pixels")


def two_scales(corridor: int, scale: float = 100.0) -> AMAGOEnv:
    """Two T-Mazes with rewards of different size, for training."""
    return AMAGOEnv(TwoScales(corridor, scale), env_name="two T-Mazes")
