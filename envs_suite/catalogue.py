"""Registry entries of the environments that are written here (family ``core``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from amago.errors import ConfigurationError
from envs_suite.random_scores import RANDOM_SCORES
from envs_suite.registry import RSM, EnvSpec, Param, Params, Published, Score, Split, register

_LICENCE = "MIT (this project)"
_SUCCESS = Score("success", "higher", 0.0, 1.0, "a success rate: 0 to 1 by definition")


def _published(
    metric: str, rows: Mapping[str, tuple[float, tuple[float, float] | None]]
) -> tuple[Published, ...]:
    return tuple(Published(what, metric, value, RSM, interval) for what, (value, interval) in rows.items())


# -- T-Maze ------------------------------------------------------------------------------------------


#: How far back somebody's agent remembered, in steps.
_LONGEST_CORRIDORS = (
    Published(
        "AMAGO with a transformer, longest corridor",
        "steps",
        10_000,
        "README of AMAGO (arXiv 2310.09971)",
    ),
    Published("longest corridor of Ni et al.", "steps", 1_500, "Ni et al. 2023 (arXiv 2307.03864)"),
)


def _tmaze(active: bool) -> EnvSpec:
    def factory(params: dict[str, Any], num_envs: int, split: Split) -> Any:
        from envs_suite.tmaze import TMazeVector

        corridor = params["corridor"]
        return TMazeVector(num_envs, corridor, penalty=-1.0 / corridor, active=active)

    env_id = "tmaze-active" if active else "tmaze-passive"
    published: dict[str, tuple[float, tuple[float, float] | None]] = {
        "Transformer, corridor 128 after training on 32 to 256": (1.0, (1.0, 1.0)),
        "GRU, corridor 128 after training on 32 to 256": (1.0, (1.0, 1.0)),
        "no memory, corridor 128 after training on 32 to 256": (0.514, (0.464, 0.590)),
    }
    where = "at the oracle, one step to the left of the start" if active else "in the first observation"
    return EnvSpec(
        id=env_id,
        family="core",
        description=f"T-Maze (Ni et al. 2023): the goal's side is shown once, {where}.",
        licence=_LICENCE,
        parameters={"corridor": Param(50, "cells from start to junction: the span of memory", 1, 100_000)},
        score=_SUCCESS,
        horizon_of=lambda p: p["corridor"] + (3 if active else 1),
        factory=factory,
        vectorised=True,
        best_possible=1.0,
        random_score=RANDOM_SCORES.get(env_id),
        published=() if active else _published("success", published) + _LONGEST_CORRIDORS,
    )


# -- Meta-FrozenLake -----------------------------------------------------------------------------------


def _lake_rules(params: Params) -> dict[str, Any]:
    return {
        "size": params["size"],
        "k_episodes": params["attempts"],
        "hard_mode": params["hard"],
        "recover_mode": params["recover"],
        "slip": params["slip"],
    }


def _lake_horizon(params: Params) -> int:
    from envs_suite.frozen_lake import LakeRules

    return LakeRules(**_lake_rules(params)).horizon


def _make_lake(params: dict[str, Any], num_envs: int, split: Split) -> Any:
    from envs_suite.frozen_lake_vector import MetaFrozenLakeVector

    return MetaFrozenLakeVector(num_envs, **_lake_rules(params), split=split)


_LAKE = EnvSpec(
    id="meta-frozen-lake",
    family="core",
    description="k attempts at an unknown FrozenLake map; hard mode adds swaps, noise and breaking ice.",
    licence=_LICENCE,
    parameters={
        "size": Param(5, "cells to a side", 3, 32),
        "attempts": Param(10, "attempts at each map", 1, 100),
        "hard": Param(False, "swapped actions, displaced observations, holes behind the agent"),
        "recover": Param(False, "a hole costs 0.1 instead of ending the attempt"),
        "slip": Param(0.0, "probability that a move goes in a random direction", 0.0, 0.9),
    },
    score=_SUCCESS,
    horizon_of=_lake_horizon,
    factory=_make_lake,
    vectorised=True,
    samples_tasks=True,
    best_possible=None,  # the first attempts are needed to find out; depends on the parameters
    random_score=RANDOM_SCORES.get("meta-frozen-lake"),
)


# -- dark key-to-door ------------------------------------------------------------------------------------


def _make_room(params: dict[str, Any], num_envs: int, split: Split) -> Any:
    from envs_suite.key_door import RoomKeyDoorVector

    return RoomKeyDoorVector(
        num_envs,
        dark=params["dark"],
        size=params["size"],
        max_episode_steps=params["attempt_steps"],
        meta_rollout_horizon=params["total_steps"],
        randomize_actions=params["shuffle_actions"],
        split=split,
    )


_ROOM_DOORS = {
    "Transformer, doors in 500 steps": (27.43, (24.98, 29.94)),
    "GRU, doors in 500 steps": (29.60, (24.80, 33.65)),
    "no memory, doors in 500 steps": (2.04, (1.65, 2.73)),
}


def _room_bounds(params: Params) -> tuple[float, float, str] | None:
    """Of another size, or other lengths."""
    lengths = {name: params[name] for name in ("size", "attempt_steps", "total_steps")}
    if lengths == {name: _ROOM.params[name] for name in lengths}:
        return None
    from envs_suite.key_door import best_doors

    what = "0 doors, and the mean over all rooms of walking straight from start to key to door"
    return 0.0, best_doors(**lengths), what


_ROOM = EnvSpec(
    id="dark-key-to-door",
    family="core",
    description="Find a hidden key, then a hidden door, repeatedly in one room (Laskin et al. 2022).",
    licence=_LICENCE,
    parameters={
        "size": Param(9, "cells to a side", 3, 64),
        "attempt_steps": Param(50, "steps after which an inner episode ends", 2, 10_000),
        "total_steps": Param(500, "steps in all", 2, 100_000),
        "dark": Param(True, "hide where key and door are"),
        "shuffle_actions": Param(False, "shuffle the order of actions for each task"),
    },
    score=Score(
        "doors",
        "higher",
        0.0,
        44.1,
        "0 doors, and the mean of walking straight from start to key to door in rooms that are known "
        "(default parameters; benchmarks/random_policies.py --oracle)",
    ),
    bounds_of=_room_bounds,
    horizon_of=lambda p: p["total_steps"],
    factory=_make_room,
    vectorised=True,
    samples_tasks=True,
    best_possible=44.1,
    random_score=RANDOM_SCORES.get("dark-key-to-door"),
    published=_published("doors", _ROOM_DOORS),
)


# -- MazeRunner ----------------------------------------------------------------------------------------


def _maze_rules(params: Params) -> dict[str, Any]:
    return {
        "maze_dim": params["size"],
        "min_num_goals": params["min_goals"],
        "max_num_goals": params["max_goals"],
        "time_limit": params["time_limit"],
        "randomized_action_space": params["shuffle_actions"],
    }


def _check_maze(params: Params) -> None:
    if params["size"] % 2 == 0:
        raise ConfigurationError(
            f"environment 'maze-runner': parameter 'size' must be odd, from 9 to 99, got {params['size']}"
        )
    if params["min_goals"] > params["max_goals"]:
        raise ConfigurationError(
            "environment 'maze-runner': parameter 'min_goals' must be at most 'max_goals' "
            f"({params['max_goals']}), got {params['min_goals']}"
        )


def _make_maze(params: dict[str, Any], num_envs: int, split: Split) -> Any:
    from envs_suite.maze_runner import MazeRunnerVector

    return MazeRunnerVector(num_envs, **_maze_rules(params), split=split)


_MAZE_GOALS = {
    "Transformer, 15 x 15, three goals in 500 steps, shuffled actions": (0.737, (0.692, 0.782)),
    "GRU, 15 x 15, three goals in 500 steps, shuffled actions": (0.643, (0.595, 0.688)),
    "no memory, 15 x 15, three goals in 500 steps, shuffled actions": (0.738, (0.685, 0.788)),
}

_MAZE = EnvSpec(
    id="maze-runner",
    family="core",
    description="Visit up to three goals in order in an unknown maze, seeing only the free cells around.",
    licence=_LICENCE,
    parameters={
        "size": Param(15, "cells to a side, odd", 9, 99),
        "min_goals": Param(1, "fewest goals of a task", 1, 10),
        "max_goals": Param(3, "most goals of a task", 1, 10),
        "time_limit": Param(400, "steps after which an episode ends", 1, 100_000),
        "shuffle_actions": Param(False, "shuffle the order of actions for each task"),
    },
    check_together=_check_maze,
    score=Score("goal_fraction", "higher", 0.0, 1.0, "a fraction of goals: 0 to 1 by definition"),
    horizon_of=lambda p: p["time_limit"],
    factory=_make_maze,
    vectorised=True,
    samples_tasks=True,
    best_possible=1.0,
    random_score=RANDOM_SCORES.get("maze-runner"),
    published=_published("goal_fraction", _MAZE_GOALS),
)


for _spec in (_tmaze(active=False), _tmaze(active=True), _LAKE, _ROOM, _MAZE):
    register(_spec)
