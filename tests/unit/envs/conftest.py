"""Pairs of single and vectorised forms, in the variants that differ in their rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import gymnasium as gym
import pytest

from envs_suite.alchemy import SymbolicAlchemy, SymbolicAlchemyVector
from envs_suite.frozen_lake import MetaFrozenLake
from envs_suite.frozen_lake_vector import MetaFrozenLakeVector
from envs_suite.key_door import RoomKeyDoor, RoomKeyDoorVector
from envs_suite.maze_runner import MazeRunnerGymEnv, MazeRunnerVector
from envs_suite.tmaze import (
    TMazeActiveVector,
    TMazeAltActive,
    TMazeAltPassive,
    TMazePassiveVector,
)
from envs_suite.vector import BatchedEnv


@dataclass(frozen=True)
class Forms:
    """One environment in both forms."""

    single: Callable[[], gym.Env]
    vector: Callable[[int], BatchedEnv]


def _forms(single: Callable, vector: Callable, **keywords: object) -> Forms:
    return Forms(lambda: single(**keywords), lambda n: vector(n, **keywords))


FORMS = {
    "tmaze-passive": _forms(TMazeAltPassive, TMazePassiveVector, corridor_length=6, penalty=-1 / 6),
    "tmaze-passive-1": _forms(TMazeAltPassive, TMazePassiveVector, corridor_length=1, penalty=-1.0),
    "tmaze-active": _forms(TMazeAltActive, TMazeActiveVector, corridor_length=4, penalty=-0.25),
    "lake-easy": _forms(MetaFrozenLake, MetaFrozenLakeVector, size=4, k_episodes=3),
    "lake-hard": _forms(MetaFrozenLake, MetaFrozenLakeVector, size=3, k_episodes=3, hard_mode=True),
    "lake-recover": _forms(MetaFrozenLake, MetaFrozenLakeVector, size=3, k_episodes=2, recover_mode=True),
    "lake-all": _forms(
        MetaFrozenLake,
        MetaFrozenLakeVector,
        size=4,
        k_episodes=2,
        hard_mode=True,
        recover_mode=True,
        slip=0.3,
        split="eval",
    ),
    "alchemy": _forms(SymbolicAlchemy, SymbolicAlchemyVector, trials=3, steps_per_trial=25),
    "alchemy-plain": _forms(
        SymbolicAlchemy,
        SymbolicAlchemyVector,
        trials=1,
        steps_per_trial=30,
        bottlenecks=False,
        rotations=False,
        split="eval",
    ),
    "maze": _forms(
        MazeRunnerGymEnv, MazeRunnerVector, maze_dim=9, min_num_goals=1, max_num_goals=3, time_limit=60
    ),
    "maze-shuffled": _forms(
        MazeRunnerGymEnv,
        MazeRunnerVector,
        maze_dim=9,
        min_num_goals=2,
        max_num_goals=2,
        time_limit=50,
        randomized_action_space=True,
        split="eval",
    ),
    "room": _forms(RoomKeyDoor, RoomKeyDoorVector, size=3, max_episode_steps=12, meta_rollout_horizon=60),
    "room-light": _forms(
        RoomKeyDoor,
        RoomKeyDoorVector,
        size=4,
        dark=False,
        max_episode_steps=9,
        meta_rollout_horizon=40,
        randomize_actions=True,
        split="eval",
    ),
}


@pytest.fixture(params=sorted(FORMS))
def forms(request: pytest.FixtureRequest) -> Forms:
    return FORMS[request.param]
