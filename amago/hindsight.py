"""Trajectories as a user's code sees them, and rewriting them in hindsight.

Rollouts and storage work on batched arrays. The classes here are views, built at the edge: a
`Relabeler` gets a whole trajectory as a `FrozenTraj` when it is sampled, and `Timestep` and
`Trajectory` serve code that was written step by step.
"""

from __future__ import annotations

import inspect
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from amago.errors import ConfigurationError, DataError
from amago.files import write_atomic

if TYPE_CHECKING:
    from amago.loading import RLData

#: How AMAGO's .npz files name the array of an observation key.
OBS_PREFIX = "_OBS_KEY_"
#: Compressed zeros are a thousandth of what they unpack to.
_MOST_BYTES = 4 * 2**30
_ARRAYS = ("rl2s", "time_idxs", "rews", "dones", "actions")


@dataclass
class FrozenTraj:
    """A whole trajectory of T transitions as arrays.

    Args:
        obs: each (T + 1, ...).
        rl2s: (T + 1, 1 + A) float32: previous reward and action.
        time_idxs: (T + 1, 1) int: steps since the episode's reset.
        rews: (T, 1) float32.
        dones: (T, 1) bool; true only where the episode terminated.
        actions: (T, A); one-hot when discrete.

    Raises:
        DataError: arrays whose lengths do not fit together.
    """

    obs: dict[str, np.ndarray]
    rl2s: np.ndarray
    time_idxs: np.ndarray
    rews: np.ndarray
    dones: np.ndarray
    actions: np.ndarray

    def __post_init__(self) -> None:
        for name in _ARRAYS:
            if getattr(self, name).ndim != 2:
                raise DataError(
                    f"FrozenTraj.{name} has shape {getattr(self, name).shape}; it needs (rows, size)"
                )
        steps = len(self.actions)
        rows = {
            "rl2s": self.rl2s,
            "time_idxs": self.time_idxs,
            **{f"obs[{k!r}]": v for k, v in self.obs.items()},
        }
        wrong = [f"{k} ({len(v)})" for k, v in rows.items() if len(v) != steps + 1]
        wrong += [
            f"{k} ({len(v)})" for k, v in (("rews", self.rews), ("dones", self.dones)) if len(v) != steps
        ]
        if self.rl2s.shape[1] != 1 + self.actions.shape[1]:
            wrong.append(f"rl2s (width {self.rl2s.shape[1]})")
        if steps < 1 or wrong:
            raise DataError(
                f"FrozenTraj of {steps} actions of size {self.actions.shape[1]} does not fit with: "
                f"{', '.join(wrong) or 'at least 1 is needed'}"
            )

    def __len__(self) -> int:
        """Number of transitions."""
        return len(self.actions)

    def with_rewards(self, rews: np.ndarray) -> FrozenTraj:
        """The same trajectory with other rewards (T, 1), also where the policy sees them."""
        rl2s = self.rl2s.copy()
        rl2s[1:, :1] = rews
        return replace(self, rews=np.asarray(rews, np.float32), rl2s=rl2s)

    def first(self, transitions: int) -> FrozenTraj:
        """Only its first ``transitions`` transitions."""
        n = transitions
        return FrozenTraj(
            {k: v[: n + 1] for k, v in self.obs.items()},
            self.rl2s[: n + 1],
            self.time_idxs[: n + 1],
            self.rews[:n],
            self.dones[:n],
            self.actions[:n],
        )

    # -- other forms ------------------------------------------------------------------------

    @staticmethod
    def from_rldata(data: RLData) -> FrozenTraj:
        """Copies, which a relabeller may write to."""
        assert data.rl2s is not None
        return FrozenTraj(
            {k: v.numpy().copy() for k, v in data.obs.items()},
            *(x.numpy().copy() for x in (data.rl2s, data.time_idxs, data.rews, data.dones, data.actions)),
        )

    def to_rldata(self) -> RLData:
        """The sequence that batches are made of."""
        from amago.loading import RLData  # which imports the datasets, and they this module

        def tensor(x: np.ndarray, dtype: Any = None) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(x, dtype))

        return RLData(
            obs={k: tensor(v) for k, v in self.obs.items()},
            rews=tensor(self.rews, np.float32),
            dones=tensor(self.dones, np.bool_),
            actions=tensor(self.actions, np.float32),
            time_idxs=tensor(self.time_idxs, np.int64),
            rl2s=tensor(self.rl2s, np.float32),
        )

    def to_dict(self) -> dict[str, np.ndarray]:
        """Flat names, as in AMAGO's .npz files."""
        return {OBS_PREFIX + k: v for k, v in self.obs.items()} | {k: getattr(self, k) for k in _ARRAYS}

    @staticmethod
    def from_dict(arrays: Mapping[str, np.ndarray]) -> FrozenTraj:
        """The inverse of :meth:`to_dict`.

        Raises:
            DataError: an array is missing, or they do not fit together.
        """
        missing = [k for k in _ARRAYS if k not in arrays]
        obs = {k[len(OBS_PREFIX) :]: v for k, v in arrays.items() if k.startswith(OBS_PREFIX)}
        if missing or not obs:
            raise DataError(f"no trajectory: it has no {', '.join(missing) or 'observations'}")
        return FrozenTraj(obs, *(arrays[k] for k in _ARRAYS))

    def save(self, path: str | Path, compressed: bool = False) -> None:
        """Write AMAGO's .npz file, whole or not at all."""
        write = np.savez_compressed if compressed else np.savez

        def to(temporary: Path) -> None:
            with open(temporary, "wb") as handle:
                write(handle, **self.to_dict())  # type: ignore[arg-type]

        write_atomic(Path(path), to, durable=False)

    @staticmethod
    def load(path: str | Path) -> FrozenTraj:
        """Read AMAGO's .npz file; pickled content is refused.

        Raises:
            DataError: torn, foreign or pickled; names the file.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                if sum(entry.file_size for entry in archive.infolist()) > _MOST_BYTES:
                    raise DataError("it unpacks to more than any trajectory")
            with np.load(path, allow_pickle=False) as arrays:
                return FrozenTraj.from_dict(dict(arrays))
        except Exception as error:
            # numpy and zipfile follow the bytes, and raise whatever they lead them to.
            raise DataError(
                f"{path}: not a readable .npz trajectory ({error}); remove it from the buffer"
            ) from error


@dataclass
class Timestep:
    """One moment of ``batched_envs`` actors (N).

    Args:
        obs: each (N, ...).
        prev_action: (N, A) float32, what led here; zeros after a reset.
        reward: (N,) float32, the reward before.
        time_idx: (N,) int64, steps since the reset.
        terminal: (N,) bool, whether the step before ended in a terminal state.
        batched_envs: N.
    """

    obs: dict[str, np.ndarray]
    prev_action: np.ndarray
    reward: np.ndarray
    time_idx: np.ndarray
    terminal: np.ndarray
    batched_envs: int

    def as_input(self) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """Observations, rl2s (N, 1 + A) float32 and time indices (N, 1): what a policy sees."""
        rl2s = np.concatenate([self.reward[:, None], self.prev_action], axis=-1).astype(np.float32)
        return self.obs, rl2s, self.time_idx[:, None]

    def split(self) -> list[Timestep]:
        """One timestep for each actor, each with ``batched_envs=1``."""
        return [
            Timestep(
                {k: v[i : i + 1] for k, v in self.obs.items()},
                self.prev_action[i : i + 1],
                self.reward[i : i + 1],
                self.time_idx[i : i + 1],
                self.terminal[i : i + 1],
                batched_envs=1,
            )
            for i in range(self.batched_envs)
        ]


class Trajectory:
    """Timesteps of one actor, in order.

    Args:
        timesteps: of one actor each.
    """

    def __init__(self, timesteps: Iterable[Timestep] | None = None) -> None:
        self.timesteps: list[Timestep] = []
        for timestep in timesteps or ():
            self.add_timestep(timestep)

    def add_timestep(self, timestep: Timestep) -> None:
        """Append one.

        Raises:
            DataError: it is of several actors (`Timestep.split` takes them apart).
        """
        if timestep.batched_envs != 1:
            raise DataError(
                f"a Trajectory is of one actor, the timestep of {timestep.batched_envs}; split it first"
            )
        self.timesteps.append(timestep)

    @property
    def total_return(self) -> float:
        """Sum of rewards after the first timestep."""
        return float(sum(float(t.reward[0]) for t in self.timesteps[1:]))

    def __len__(self) -> int:
        """Number of timesteps (one more than transitions)."""
        return len(self.timesteps)

    def __getitem__(self, i: int) -> Timestep:
        return self.timesteps[i]

    def freeze(self) -> FrozenTraj:
        """As arrays.

        Raises:
            DataError: fewer than two timesteps.
        """
        steps = self.timesteps
        if len(steps) < 2:
            raise DataError(f"a trajectory of {len(steps)} timesteps has no transition")
        inputs = [t.as_input() for t in steps]
        return FrozenTraj(
            obs={k: np.concatenate([o[k] for o, _, _ in inputs]) for k in steps[0].obs},
            rl2s=np.concatenate([rl2 for _, rl2, _ in inputs]),
            time_idxs=np.concatenate([time for _, _, time in inputs]).astype(np.int64),
            rews=np.stack([t.reward for t in steps[1:]]).astype(np.float32),
            dones=np.stack([t.terminal for t in steps[1:]]).astype(np.bool_),
            actions=np.concatenate([t.prev_action for t in steps[1:]]).astype(np.float32),
        )

    def save_to_disk(self, path: str | Path, save_as: str = "npz") -> None:
        """Write ``{path}.npz``.

        Args:
            path: without its ending.
            save_as: ``npz`` or ``npz-compressed``.

        Raises:
            ConfigurationError: another form; pickles are refused.
        """
        if save_as not in ("npz", "npz-compressed"):
            raise ConfigurationError(
                f"save_as={save_as!r}: trajectories are written as 'npz' or 'npz-compressed', never as pickles"
            )
        self.freeze().save(f"{path}.npz", compressed=save_as == "npz-compressed")


class Relabeler(ABC):
    """Rewrites trajectories as they are sampled: other goals, other rewards.

    A subclass implements ``relabel(traj)`` or ``relabel(traj, rng)``. With the second form every
    draw comes from the sampler's own stream, so that training stays exactly reproducible.
    """

    @abstractmethod
    def relabel(self, traj: FrozenTraj, *args: Any) -> FrozenTraj:
        """The trajectory to learn from; ``traj`` is a copy and may be changed."""

    def __call__(self, traj: FrozenTraj, rng: np.random.Generator) -> FrozenTraj:
        return self.relabel(traj, rng) if takes_generator(self.relabel, after=1) else self.relabel(traj)


class NoOpRelabeler(Relabeler):
    """Leaves trajectories as they are."""

    def relabel(self, traj: FrozenTraj) -> FrozenTraj:
        return traj


def takes_generator(function: Callable[..., Any], after: int) -> bool:
    """Whether ``function`` has a positional place for a generator after ``after`` arguments."""
    kinds = inspect.Parameter
    places = [
        p
        for p in inspect.signature(function).parameters.values()
        if p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
    ]
    return len(places) > after or any(
        p.kind is kinds.VAR_POSITIONAL for p in inspect.signature(function).parameters.values()
    )
