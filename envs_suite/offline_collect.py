"""Writes a data set of played episodes in Minari's format, for other programs or as a template for one's own.

    .venv-offline/bin/python -m envs_suite.offline_collect Pendulum-v1 mixed FOLDER

FOLDER/data/main_data.hdf5 can then be the parameter ``data`` of an offline environment.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from amago.errors import ConfigurationError
from envs_suite.offline_data import EPISODES, PLAYED, SKILLED, play_episodes
from envs_suite.optional import need


def collect(gym_id: str, how: str, folder: Path, episodes: int = EPISODES) -> Path:
    """Play and write; returns the HDF5 file.

    Raises:
        ConfigurationError: the folder is taken, or minari is not installed.
    """
    if folder.exists():
        raise ConfigurationError(f"{folder} exists already; name a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    os.environ["MINARI_DATASETS_PATH"] = str(folder.parent.absolute())
    need("minari", "collecting a data set", "offline")
    import gymnasium as gym
    import minari
    from minari.data_collector import EpisodeBuffer

    env = gym.make(gym_id)
    played = play_episodes(env, gym_id, how, episodes)
    buffers = [
        EpisodeBuffer(
            id=number,
            observations=episode.observations,
            actions=episode.actions,
            rewards=episode.rewards,
            terminations=[False] * (len(episode.rewards) - 1) + [episode.terminated],
            truncations=[False] * (len(episode.rewards) - 1) + [not episode.terminated],
            infos={},
        )
        for number, episode in enumerate(played)
    ]
    dataset = f"{folder.name}-v0"
    minari.create_dataset_from_buffers(
        dataset_id=dataset,
        buffer=buffers,
        env=env,
        algorithm_name=f"{how} policy of this project",
        code_permalink=None,
        author="AMAGO Suite",
        author_email=None,
        description=f"{episodes} episodes of {gym_id}",
    )
    (folder.parent / dataset).rename(folder)
    return folder / "data" / "main_data.hdf5"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("environment", choices=sorted(SKILLED))
    parser.add_argument("policy", choices=PLAYED)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    print(collect(options.environment, options.policy, options.folder))


if __name__ == "__main__":
    main()
