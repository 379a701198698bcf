"""Acting: one network call a step for all actors, trajectories recorded as batched arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from amago.envs.actors import Actors, ObsDict, Step
from amago.envs.exploration import ExplorationWrapper, NoExploration
from amago.errors import EnvironmentFailure
from amago.storage import Rows

#: (actor, episode) -> seed of that episode's reset, or None for the environment's own choice.
SeedFor = Callable[[int, int], int | None]


@dataclass
class Episode:
    """One finished episode.

    Attributes:
        metrics: what the environment logged for it, by name.
    """

    actor: int
    index: int
    env_name: str
    total_return: float
    length: int
    metrics: dict[str, float] = field(default_factory=dict)


class Recorder:
    """Keeps every actor's current trajectory in preallocated arrays ``(N, capacity, ...)``.

    Args:
        actors: for the shapes.
        save_length: draws the number of transitions after which a trajectory is cut.
    """

    def __init__(self, actors: Actors, save_length: Callable[[], int]) -> None:
        n = actors.batched_envs
        self._save_length = save_length
        self._limits = np.array([save_length() for _ in range(n)])
        self._rows = np.zeros(n, np.int64)
        kept = actors.action_format
        width = 1 if kept.discrete else kept.size
        self._specs: dict[str, tuple[tuple[int, ...], Any]] = {
            f"obs.{k}": (tuple(s.shape or ()), s.dtype) for k, s in actors.observation_space.spaces.items()
        }
        self._specs |= {
            "actions": ((width,), np.int32 if kept.discrete else np.float32),
            "rewards": ((), np.float32),
            "dones": ((), np.bool_),
            "time_idxs": ((), np.int64),
        }
        self._capacity = 64
        self._arrays = {k: np.zeros((n, self._capacity, *s), d) for k, (s, d) in self._specs.items()}
        self.finished: list[Rows] = []
        self.names: list[str] = []

    def _write(self, where: np.ndarray, row: dict[str, Any]) -> None:
        """One row for the actors of ``where`` (indices); ``row`` values are (len(where), ...)."""
        if self._rows[where].max(initial=0) >= self._capacity:
            self._arrays = {k: np.concatenate([a, np.zeros_like(a)], axis=1) for k, a in self._arrays.items()}
            self._capacity *= 2
        at = self._rows[where]
        for key, value in row.items():
            self._arrays[key][where, at] = value
        self._rows[where] += 1

    def begin(self, where: np.ndarray, obs: ObsDict) -> None:
        """The first row of new episodes."""
        row: dict[str, Any] = {f"obs.{k}": v[where] for k, v in obs.items()}
        self._write(where, row | {"actions": 0, "rewards": 0.0, "dones": False, "time_idxs": 0})

    def add(self, step: Step, actions: np.ndarray, time_idxs: np.ndarray, names: list[str]) -> None:
        """The row that a step of all actors led to; full trajectories are cut here."""
        everyone = np.arange(len(self._rows))
        row: dict[str, Any] = {f"obs.{k}": v for k, v in step.obs.items()}
        row |= {"actions": actions, "rewards": step.rewards, "dones": step.terminated, "time_idxs": time_idxs}
        self._write(everyone, row)
        ended = step.terminated | step.truncated
        for i in np.flatnonzero(ended | (self._rows > self._limits)):
            self.cut(int(i), names[i], go_on=not ended[i])

    def cut(self, i: int, name: str, go_on: bool) -> None:
        """Finish actor i's trajectory; if the episode goes on, the next begins with its last row."""
        rows = int(self._rows[i])
        if rows > 1:
            own = {k: a[i, :rows].copy() for k, a in self._arrays.items()}
            obs = {k[4:]: v for k, v in own.items() if k.startswith("obs.")}
            self.finished.append(Rows(obs, own["actions"], own["rewards"], own["dones"], own["time_idxs"]))
            self.names.append(name)
        self._rows[i] = 0
        self._limits[i] = self._save_length()
        if go_on and rows > 0:
            for a in self._arrays.values():
                a[i, 0] = a[i, rows - 1]
            self._rows[i] = 1

    def take(self) -> tuple[list[Rows], list[str]]:
        """Finished trajectories since the last call, and their environments' names."""
        out = (self.finished, self.names)
        self.finished, self.names = [], []
        return out


class Rollout:
    """N actors in the middle of their episodes.

    Args:
        actors: what acts.
        exploration: noise on the actions; none by default.
    """

    def __init__(self, actors: Actors, exploration: ExplorationWrapper | None = None) -> None:
        self.actors = actors
        self.exploration = exploration or NoExploration(actors)
        self.recorder: Recorder | None = None
        self._begun = False

    @property
    def begun(self) -> bool:
        return self._begun

    def begin(
        self,
        policy: Any,
        device: torch.device,
        seed_for: SeedFor,
        task_for: Callable[[int, int], int] | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        """Reset every actor and forget all that was.

        Args:
            policy: the agent; gives the hidden state.
            device: where it lives.
            seed_for: seeds of this and all later resets, by (actor, episode).
            task_for: fixed tasks by (actor, episode), for environments that offer them.
            recorder: keeps trajectories; none are kept without.
        """
        n = self.actors.batched_envs
        self._seed_for, self._task_for = seed_for, task_for
        self.recorder = recorder
        self._device = device
        self._episode = np.zeros(n, np.int64)
        self._time = np.zeros(n, np.int64)
        self._returns = np.zeros(n)
        self._metrics: list[dict[str, float]] = [{} for _ in range(n)]
        self._rl2s = np.zeros((n, 1 + self.actors.action_size), np.float32)
        self.hidden_state = policy.traj_encoder.init_hidden_state(n, device)
        self._begun = True
        self._reset(np.ones(n, bool))

    def _reset(self, mask: np.ndarray) -> None:
        n = len(mask)
        seeds = [self._seed_for(i, int(self._episode[i])) if mask[i] else None for i in range(n)]
        tasks = None
        if self._task_for is not None:
            tasks = np.array([self._task_for(i, int(self._episode[i])) for i in range(n)])
        self._obs = self.actors.reset(mask, seeds, tasks)
        self._names = self.actors.env_names
        observed = list(self._obs.values())
        if not _all_finite(observed):
            raise self._not_finite("after a reset", "an observation", observed)
        self._time[mask] = 0
        self._returns[mask] = 0.0
        self._rl2s[mask] = 0.0
        self.exploration.on_reset(mask)
        if self.recorder is not None:
            self.recorder.begin(np.flatnonzero(mask), self._obs)

    def cut_trajectories(self) -> None:
        """Keep what unfinished episodes had so far as truncated trajectories."""
        if self.recorder is not None and self._begun:
            for i, name in enumerate(self._names):
                self.recorder.cut(i, name, go_on=False)
        self._begun = False

    def _choose(self, policy: Any, sample: bool) -> np.ndarray:
        """(N, 1) integers or (N, A) floats, before exploration."""
        obs = {k: self._tensor(v) for k, v in self._obs.items()}
        actions, self.hidden_state = policy.get_actions(
            obs=obs,
            rl2s=self._tensor(self._rl2s),
            time_idxs=self._tensor(self._time[:, None]),
            hidden_state=self.hidden_state,
            sample=sample,
        )
        return actions[:, 0].cpu().numpy()

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        # Copied: torch may hold on to it (a cache), numpy will write over it. Torch has no negative strides,
        # which a flipped image has.
        return torch.tensor(np.ascontiguousarray(array), device=self._device).unsqueeze(1)

    @torch.inference_mode()
    def step(self, policy: Any, sample: bool) -> list[Episode]:
        """One step of every actor; returns the episodes that it finished.

        Raises:
            EnvironmentFailure: NaN in observations or rewards.
        """
        actions = self.exploration(self._choose(policy, sample), self._time.copy())
        step = self.actors.step(actions)
        self._check(step)
        self._time += 1
        self._returns += step.rewards
        self._rl2s[:, 0] = step.rewards
        shown = self.actors.make_action_rep(actions)
        self._rl2s[:, 1:] = shown
        self._obs = step.obs
        if self.recorder is not None:
            kept = shown if self.actors.makes_own_action_rep else actions
            self.recorder.add(step, kept, self._time, self._names)
        for name, (values, mask) in step.metrics.items():
            for i in np.flatnonzero(mask):
                self._metrics[i][name] = float(values[i])
        ended = step.terminated | step.truncated
        if not ended.any():
            return []
        episodes = [self._finish(int(i)) for i in np.flatnonzero(ended)]
        self._episode[ended] += 1
        self._reset(ended)
        dones = torch.from_numpy(ended).to(self._device)
        self.hidden_state = policy.traj_encoder.reset_hidden_state(self.hidden_state, dones)
        return episodes

    def _finish(self, i: int) -> Episode:
        metrics, self._metrics[i] = self._metrics[i], {}
        return Episode(
            actor=i,
            index=int(self._episode[i]),
            env_name=self._names[i],
            total_return=float(self._returns[i]),
            length=int(self._time[i]),
            metrics=metrics,
        )

    def _check(self, step: Step) -> None:
        arrays = [*step.obs.values(), step.rewards]
        if not _all_finite(arrays):
            when = f"at step {int(self._time.max()) + 1}"
            raise self._not_finite(when, "an observation or reward", arrays)

    def _not_finite(self, when: str, what: str, arrays: list[np.ndarray]) -> EnvironmentFailure:
        """The error that names the environment of the first actor with a value that is not finite."""
        wrong = np.zeros(len(self._names), bool)
        for values in arrays:
            if values.dtype.kind == "f":
                wrong |= ~np.isfinite(values).reshape(len(wrong), -1).all(axis=1)
        return EnvironmentFailure(
            f"{self._names[int(np.argmax(wrong))]}: NaN or infinity in {what} {when}; "
            "mend the environment (the last checkpoint is intact)"
        )


def _all_finite(arrays: list[np.ndarray]) -> bool:
    # A sum is NaN or infinite when any part is, and costs one pass without a temporary.
    return all(v.dtype.kind != "f" or np.isfinite(v.sum(dtype=np.float64)) for v in arrays)
