"""`SequenceWrapper`: an environment in AMAGO's older, step-by-step form."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from amago.envs.amago_env import AMAGOEnv
from amago.errors import ConfigurationError
from amago.hindsight import Timestep, Trajectory


class SequenceWrapper(gym.Wrapper):
    """Gives `Timestep` objects and writes what happened as .npz files.

    The Experiment does not need it: it records batched arrays itself. This is for code that steps an
    environment on its own (a data set from a scripted policy, say).

    Args:
        env: of any number of actors, which are reset explicitly.
        save_trajs_to: folder of the files, or ``None`` to write none.
        save_every: also write a trajectory after this many transitions of it.
        save_trajs_as: ``npz`` or ``npz-compressed``.
    """

    env: AMAGOEnv

    def __init__(
        self,
        env: AMAGOEnv,
        save_trajs_to: str | Path | None,
        save_every: int | None = None,
        save_trajs_as: str = "npz",
    ) -> None:
        super().__init__(env)
        if save_trajs_as not in ("npz", "npz-compressed"):
            raise ConfigurationError(
                f"SequenceWrapper.save_trajs_as={save_trajs_as!r} would write pickles, which can run code "
                "when read; use 'npz'"
            )
        if save_every is not None and save_every < 1:
            raise ConfigurationError(
                f"SequenceWrapper.save_every must be None or at least 1, got {save_every}"
            )
        self.save_trajs_to = Path(save_trajs_to) if save_trajs_to is not None else None
        self.save_every, self.save_trajs_as = save_every, save_trajs_as
        self.active_trajs = [Trajectory() for _ in range(self.batched_envs)]
        self._written = 0

    @property
    def batched_envs(self) -> int:
        return self.env.batched_envs

    @property
    def env_name(self) -> str:
        return self.env.env_name

    @property
    def total_return(self) -> np.ndarray:
        """(N,) rewards of the trajectories that are not written yet."""
        return np.array([t.total_return for t in self.active_trajs])

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Timestep, dict]:
        """Begin new trajectories, for the actors of ``options["reset_mask"]`` or all."""
        obs, info = self.env.reset(seed=seed, options=options)
        n = self.batched_envs
        mask = np.asarray((options or {}).get("reset_mask", np.ones(n, bool)))
        if mask.all():
            zeros = np.zeros(n)
            self._now = Timestep(
                obs, np.zeros((n, self.env.action_size), np.float32), zeros.astype(np.float32),
                zeros.astype(np.int64), zeros.astype(bool), n,
            )  # fmt: skip
        else:
            fresh = ~mask
            now = self._now
            self._now = Timestep(
                obs, now.prev_action * fresh[:, None], now.reward * fresh, now.time_idx * fresh,
                now.terminal & fresh, n,
            )  # fmt: skip
        for i, (begins, own) in enumerate(zip(mask, self._now.split(), strict=True)):
            if begins:
                self._write(i)
                self.active_trajs[i] = Trajectory([_copied(own)])
        return self._now, info

    def step(self, action: np.ndarray) -> tuple[Timestep, np.ndarray, np.ndarray, np.ndarray, dict]:  # type: ignore[override]
        """As `AMAGOEnv.step`, with a `Timestep` for the observation."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        self._now = Timestep(
            obs,
            self.env.make_action_rep(np.asarray(action)),
            reward,
            self._now.time_idx + 1,
            terminated,
            self.batched_envs,
        )
        for i, own in enumerate(self._now.split()):
            self.active_trajs[i].add_timestep(_copied(own))
            if terminated[i] or truncated[i]:
                self._write(i)
            elif self.save_every is not None and len(self.active_trajs[i]) > self.save_every:
                self._write(i)
                self.active_trajs[i].add_timestep(_copied(own))  # the next part begins where this one ends
        return self._now, reward, terminated, truncated, info

    def _write(self, i: int) -> None:
        done, self.active_trajs[i] = self.active_trajs[i], Trajectory()
        if self.save_trajs_to is None or len(done) < 2:
            return
        self.save_trajs_to.mkdir(parents=True, exist_ok=True)
        self._written += 1
        # Later files sort later; two processes never share a name.
        name = f"{time.time_ns()}_{os.getpid()}_{self._written:06d}_{i}"
        done.save_to_disk(self.save_trajs_to / name, self.save_trajs_as)


def _copied(t: Timestep) -> Timestep:
    """Environments reuse their arrays."""
    return Timestep(
        {k: v.copy() for k, v in t.obs.items()},
        t.prev_action.copy(),
        t.reward.copy(),
        t.time_idx.copy(),
        t.terminal.copy(),
        t.batched_envs,
    )
