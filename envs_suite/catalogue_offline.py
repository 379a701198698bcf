"""Registry entries that begin with finished episodes (family ``offline``): offline, then perhaps online."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from amago.errors import ConfigurationError
from envs_suite.offline_data import (
    PLAYED,
    Episode,
    check_episodes,
    data_file,
    play_episodes,
    read_episodes,
    write_shard_of,
)
from envs_suite.random_scores import RANDOM_SCORES
from envs_suite.registry import EnvSpec, Param, Params, Score, Split, register

_D4RL = "D4RL's reference scores of a random and an expert policy (Fu et al. 2020, arXiv 2004.07219; its older simulation)"
#: id's ending -> (gymnasium's id, steps, low, high, where the bounds come from, whether a policy is written for it).
OFFLINE: dict[str, tuple[str, int, float, float, str, bool]] = {
    "cartpole": ("CartPole-v1", 500, 0.0, 500.0, "no step, and the longest episode", True),
    "pendulum": (
        "Pendulum-v1",
        200,
        RANDOM_SCORES["gym-pendulum"].mean,
        0.0,
        "uniformly random actions (measured here), and no cost, which the swing up always has",
        True,
    ),
    "half-cheetah": ("HalfCheetah-v5", 1000, -280.178953, 12135.0, _D4RL, False),
    "hopper": ("Hopper-v5", 1000, -20.272305, 3234.3, _D4RL, False),
    "walker2d": ("Walker2d-v5", 1000, 1.629008, 4592.3, _D4RL, False),
}


def _offline(name: str) -> EnvSpec:
    gym_id, steps, low, high, source, played = OFFLINE[name]
    env_id = f"offline-{name}"

    def horizon_of(params: Params) -> int:
        return steps

    def factory(params: dict[str, Any], num_envs: int, split: Split) -> Any:
        import gymnasium as gym

        return gym.make(gym_id, disable_env_checker=True)

    def names_a_file(params: Params) -> bool:
        return not (played and params["data"] in PLAYED)

    def read(params: Params) -> list[Episode]:
        file = data_file(params["data"], played)
        episodes = read_episodes(file)
        try:
            check_episodes(episodes, factory({}, 1, "train"), env_id)
        except ConfigurationError as error:
            raise ConfigurationError(f"{file}: {error}") from error
        return episodes

    def check_files(params: Params) -> None:
        if names_a_file(params):
            try:
                data_file(params["data"], played)
                if importlib.util.find_spec("h5py") is not None:
                    read(params)
            except ConfigurationError as error:
                raise ConfigurationError(f"environment {env_id!r}: {error}") from error

    def data(params: Params, folder: Path) -> None:
        env = factory({}, 1, "train")
        episodes = read(params) if names_a_file(params) else play_episodes(env, gym_id, params["data"])
        write_shard_of(episodes, env, folder, env_id)

    what = "a file of Minari or D4RL (path)"
    return EnvSpec(
        id=env_id,
        family="offline",
        description=f"gymnasium's {gym_id}, beginning with finished episodes; collecting may follow.",
        licence="MIT (gymnasium, minari)" + ("" if played else ", Apache-2.0 (mujoco)"),
        parameters={
            "data": Param(
                "mixed" if played else "",
                f"{', '.join(PLAYED)}: 100 episodes played by a policy that is written; or {what}"
                if played
                else what,
                free=True,
            )
        },
        score=Score("return", "higher", low, high, source),
        horizon_of=horizon_of,
        factory=factory,
        best_possible=500.0 if name == "cartpole" else None,
        random_score=RANDOM_SCORES.get(f"gym-{name}"),
        requires=("h5py",) if played else ("h5py", "mujoco"),
        check_files=check_files,
        files_are_in_family=names_a_file,
        data=data,
    )


for _name in OFFLINE:
    register(_offline(_name))
