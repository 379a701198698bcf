"""Finished episodes to learn from: read from Minari's and D4RL's files, or played by the policies below.

Both are HDF5. Minari's (``main_data.hdf5`` of a data set, or the data set's folder) has a group for every episode;
D4RL's has flat arrays with ``terminals`` and ``timeouts``. What was read or played becomes one file of the agent's
own format, which its replay keeps for ever beside what the run itself collects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces

from amago.errors import ConfigurationError
from envs_suite.optional import need

if TYPE_CHECKING:
    import gymnasium as gym

#: Episodes that are not in a file: what plays them. "mixed" takes turns.
PLAYED = ("random", "skilled", "mixed")
#: Episodes that are played, and the seed of the first one.
EPISODES, FIRST_SEED = 100, 20240229
#: Arrays of D4RL's format, one row a transition.
_D4RL = ("observations", "actions", "rewards", "terminals")
#: What every HDF5 file has at one of these places.
_HDF5, _HDF5_AT = b"\x89HDF\r\n\x1a\n", (0, 512, 1024, 2048)
#: The file in the agent's format.
SHARD = "offline.safetensors"


@dataclass(frozen=True)
class Episode:
    """T transitions: observations (T + 1, ...) and actions as the environment's own, rewards and ends (T,)."""

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminated: bool


# -- reading -----------------------------------------------------------------------------------------


def data_file(data: str, played: bool = True) -> Path:
    """The HDF5 file that a user means: itself, or the one of a Minari data set's folder.

    Args:
        data: a path.
        played: whether episodes could be played instead, which the message then offers.

    Raises:
        ConfigurationError: it is not there, or is no HDF5 file.
    """
    path = Path(data).expanduser()
    for found in (path, path / "data" / "main_data.hdf5", path / "main_data.hdf5"):
        if data and found.is_file():
            with found.open("rb") as file:
                head = file.read(_HDF5_AT[-1] + len(_HDF5))
            if not any(head.startswith(_HDF5, place) for place in _HDF5_AT):
                raise ConfigurationError(
                    f"parameter 'data': {str(found)!r} is no HDF5 file; name one of D4RL, or a Minari data set"
                )
            return found
    what = f"there is no data file {data!r} (looked in {path.absolute().parent})"
    ways = ["an HDF5 file of D4RL", "the folder or main_data.hdf5 of a Minari data set"]
    ways += [f"one of {', '.join(PLAYED)}"] if played else []
    raise ConfigurationError(
        f"parameter 'data': {what if data else 'no data file is named'}; "
        f"name {', '.join(ways[:-1])} or {ways[-1]}"
    )


def read_episodes(path: Path) -> list[Episode]:
    """All episodes of a Minari or D4RL file.

    Raises:
        ConfigurationError: not such a file, or its arrays do not fit together.
    """
    h5py = need("h5py", f"the data file {path}", "offline")
    try:
        with h5py.File(path, "r") as file:
            if "episode_0" in file:
                groups = sorted((k for k in file if k.startswith("episode_")), key=lambda k: int(k[8:]))
                episodes = [_minari_episode(file[name]) for name in groups]
            elif set(_D4RL) <= file.keys():
                episodes = list(
                    _d4rl_episodes({k: file[k][()] for k in file if isinstance(file[k], h5py.Dataset)})
                )
            else:
                raise ConfigurationError(
                    f"{path}: neither Minari's format (groups episode_0, ...) nor D4RL's (observations, actions, "
                    f"rewards, terminals); it has {', '.join(sorted(file)[:5]) or 'nothing'}"
                )
    except (OSError, KeyError, ValueError, TypeError, IndexError) as error:
        raise ConfigurationError(
            f"{path}: not a readable data file ({str(error).splitlines()[0]})"
        ) from error
    whole = [episode for episode in episodes if len(episode.rewards)]
    if not whole:
        raise ConfigurationError(f"{path}: holds no episode")
    return whole


def _minari_episode(group: Any) -> Episode:
    if not hasattr(group["observations"], "shape"):
        raise ValueError("observations of several arrays are not supported")
    return _episode(
        group["observations"][()], group["actions"][()], group["rewards"][()], group["terminations"][()]
    )


def _d4rl_episodes(arrays: dict[str, np.ndarray]) -> Iterator[Episode]:
    """D4RL has no last observation of an episode, unless it stores the next ones too."""
    lengths = {k: len(arrays[k]) for k in (*_D4RL, "timeouts", "next_observations") if k in arrays}
    if len(set(lengths.values())) > 1:
        raise ValueError("arrays of different lengths: " + ", ".join(f"{k} {n}" for k, n in lengths.items()))
    terminals = _flags(arrays["terminals"])
    ends = terminals | _flags(arrays["timeouts"]) if "timeouts" in arrays else terminals
    following = arrays.get("next_observations")
    begin = 0
    for end in [*np.flatnonzero(ends).tolist(), len(ends) - 1]:
        stop = end + 1
        if stop <= begin:
            continue
        observations, last = arrays["observations"][begin:stop], stop
        if following is not None:
            observations = np.concatenate([observations, following[end : end + 1]])
        elif terminals[end]:
            # What a terminal state looks like plays no part in learning: nothing is expected of it.
            observations = np.concatenate([observations, observations[-1:]])
        else:
            last = end  # the last transition leads to an observation that is not stored
        chosen = slice(begin, last)
        yield _episode(observations, arrays["actions"][chosen], arrays["rewards"][chosen], terminals[chosen])
        begin = stop


def _flags(array: np.ndarray) -> np.ndarray:
    """(N,) bool of an array (N,) or (N, 1)."""
    return np.asarray(array, dtype=bool).reshape(-1)


def _episode(observations: Any, actions: Any, rewards: Any, terminations: Any) -> Episode:
    observations, actions = np.asarray(observations), np.asarray(actions)
    rewards = np.asarray(rewards, dtype=np.float32).reshape(-1)
    for what, array in (("observations", observations), ("actions", actions)):
        if array.dtype.kind not in "biuf":
            raise ValueError(f"{what} are no numbers")
    if not len(observations) == len(actions) + 1 == len(rewards) + 1:
        raise ValueError(
            f"an episode of {len(observations)} observations, {len(actions)} actions and {len(rewards)} rewards"
        )
    return Episode(observations, actions, rewards, bool(len(terminations) and np.asarray(terminations)[-1]))


# -- playing -----------------------------------------------------------------------------------------


def swing_up(obs: np.ndarray) -> np.ndarray:
    """Pendulum: pump energy until it is upright, then hold it there."""
    cosine, sine, speed = (float(x) for x in obs)
    angle = np.arctan2(sine, cosine)
    if cosine > 0.9:
        torque = -(12.0 * angle + 3.0 * speed)
    else:
        missing = 10.0 - (speed**2 / 6 + 5.0 * cosine + 5.0)
        torque = 2.0 * np.sign(speed if speed else 1.0) * np.sign(missing)
    return np.array([np.clip(torque, -2.0, 2.0)], dtype=np.float32)


def balance(obs: np.ndarray) -> np.int64:
    """CartPole: push towards where the pole and, a little, the cart are leaning."""
    position, velocity, angle, spin = (float(x) for x in obs)
    return np.int64(angle + 0.4 * spin + 0.05 * position + 0.1 * velocity > 0)


SKILLED: dict[str, Callable[[np.ndarray], Any]] = {"Pendulum-v1": swing_up, "CartPole-v1": balance}


def play_episodes(env: gym.Env, gym_id: str, how: str, episodes: int = EPISODES) -> list[Episode]:
    """Episodes of a policy that is written, not trained; always the same ones."""
    rng = np.random.default_rng(FIRST_SEED)
    space = env.action_space
    played = []
    for number in range(episodes):
        skilled = how == "skilled" or (how == "mixed" and number % 2 == 1)
        obs, _ = env.reset(seed=FIRST_SEED + number)
        observations, actions, rewards = [obs], [], []
        terminated = truncated = False
        while not (terminated or truncated):
            if skilled:
                action = SKILLED[gym_id](obs)
            elif isinstance(space, spaces.Discrete):
                action = rng.integers(space.n)
            else:
                assert isinstance(space, spaces.Box)
                action = rng.uniform(space.low, space.high).astype(space.dtype)
            obs, reward, terminated, truncated, _ = env.step(action)
            observations.append(obs)
            actions.append(action)
            rewards.append(reward)
        played.append(_episode(np.stack(observations), np.stack(actions), rewards, [terminated]))
    return played


# -- into the agent's format ---------------------------------------------------------------------------


def check_episodes(episodes: list[Episode], env: gym.Env, name: str) -> None:
    """See that episodes are ones of ``env``.

    Raises:
        ConfigurationError: observations or actions are not those of ``env``, or a number is none.
    """
    for episode in episodes:
        _actions(episode, env, name)


def _size(env: gym.Env) -> int:
    """Numbers of an action, or how many there are where it is one of several."""
    acting = env.action_space
    return int(acting.n) if isinstance(acting, spaces.Discrete) else int(np.prod(acting.shape or ()))


def _actions(episode: Episode, env: gym.Env, name: str) -> np.ndarray:
    """An episode's actions (T, A) as the agent has them: integers from 0, or numbers in [-1, 1].

    Raises:
        ConfigurationError: see `check_episodes`.
    """
    observed, acting, size = env.observation_space.shape or (), env.action_space, _size(env)
    who = env.spec.id if env.spec else env
    actions = episode.actions.reshape(len(episode.actions), -1)
    width = 1 if isinstance(acting, spaces.Discrete) else size
    if episode.observations.shape[1:] != observed or actions.shape[1] != width:
        raise ConfigurationError(
            f"{name}: observations of shape {episode.observations.shape[1:]} and {actions.shape[1]} numbers an action "
            f"are not those of {who} ({observed} and {width})"
        )
    every = {"observations": episode.observations, "actions": actions, "rewards": episode.rewards}
    for what, numbers in every.items():
        if not np.isfinite(numbers).all():
            raise ConfigurationError(f"{name}: {what} that are not finite numbers; leave such episodes out")
    if isinstance(acting, spaces.Discrete):
        first = int(acting.start)
        chosen = actions.astype(np.int64) - first
        if (chosen != actions - first).any() or chosen.min() < 0 or chosen.max() >= size:
            raise ConfigurationError(
                f"{name}: actions from {actions.min():g} to {actions.max():g} are not all among the {size} of {who}, "
                f"whole numbers from {first}"
            )
        return chosen
    assert isinstance(acting, spaces.Box)
    low, high = acting.low.reshape(-1), acting.high.reshape(-1)
    return np.clip(2.0 * (actions - low) / (high - low) - 1.0, -1.0, 1.0).astype(np.float32)


def write_shard_of(episodes: list[Episode], env: gym.Env, folder: Path, name: str) -> Path:
    """One file of the agent's format with all episodes, in ``folder``.

    Raises:
        ConfigurationError: see `check_episodes`.
    """
    from amago.storage import ActionFormat, Rows, write_shard

    trajectories = []
    for episode in episodes:
        actions = _actions(episode, env, name)
        steps = len(actions)
        dones = np.zeros(steps + 1, dtype=bool)
        dones[-1] = episode.terminated
        trajectories.append(
            Rows(
                obs={"observation": episode.observations.astype(np.float32)},
                actions=np.concatenate([np.zeros_like(actions[:1]), actions]),
                rewards=np.concatenate([np.zeros(1, np.float32), episode.rewards]),
                dones=dones,
                time_idxs=np.arange(steps + 1, dtype=np.int64),
            )
        )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / SHARD
    form = ActionFormat(isinstance(env.action_space, spaces.Discrete), _size(env))
    write_shard(path, trajectories, [name] * len(trajectories), form)
    return path
