"""A trained cell as something that acts."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from amago.envs import AMAGOEnv
from amago.errors import ConfigurationError
from amago_suite.build import environment_maker
from amago_suite.cell import read_cell
from amago_suite.evaluate import load_experiment


class Policy:
    """The final policy of a cell. Remembers its episode: call `reset` when one begins.

    Args:
        folder: of the cell.

    Example::

        policy = load("results/quick/tmaze-passive/rnn/seed_0")
        env = policy.make_env()
        policy.reset()
        obs, _ = env.reset(seed=7)
        action = policy.act(obs)
        obs, reward, terminated, truncated, info = env.step(action)
        action = policy.act(obs, action, reward)
    """

    def __init__(self, folder: Path) -> None:
        self.cell = read_cell(folder)
        if not self.cell.policy.is_file():
            raise ConfigurationError(f"{folder} has no trained policy: `amago-suite train {folder}`")
        with tempfile.TemporaryDirectory(prefix="amago-policy-") as work:
            experiment = load_experiment(self.cell, Path(work))
            experiment.close()
        #: The `amago.Agent` itself, in evaluation mode.
        self.agent: Any = experiment.policy.eval()
        self.greedy = self.cell.evaluation.greedy
        self._device = experiment.DEVICE
        self._action_size = experiment.train_envs.action_size
        self._env: AMAGOEnv | None = None
        self.reset()

    def make_env(self) -> AMAGOEnv:
        """A new environment of the cell, one instance, with the tasks of evaluation."""
        return environment_maker(self.cell, "eval", 1)()

    def reset(self) -> None:
        """Forget the episode so far."""
        self._hidden = self.agent.traj_encoder.init_hidden_state(1, self._device)
        self._time = 0

    @torch.inference_mode()
    def act(
        self, obs: dict[str, np.ndarray], action: np.ndarray | None = None, reward: float | np.ndarray = 0.0
    ) -> np.ndarray:
        """The next action.

        Args:
            obs: each (1, ...), as `AMAGOEnv` gives it.
            action: (1, 1) or (1, A), the action before it; None at an episode's first step.
            reward: what that action earned.

        Returns:
            (1, 1) int64 for discrete actions, else (1, A).
        """
        if action is None:
            representation = np.zeros((1, self._action_size), np.float32)
        else:
            self._env = self._env or self.make_env()
            representation = self._env.make_action_rep(action)
        rl2 = np.concatenate([np.reshape(reward, (1, 1)).astype(np.float32), representation], axis=1)
        actions, self._hidden = self.agent.get_actions(
            obs={key: self._tensor(np.asarray(value)) for key, value in obs.items()},
            rl2s=self._tensor(rl2),
            time_idxs=self._tensor(np.array([[self._time]])),
            hidden_state=self._hidden,
            sample=not self.greedy,
        )
        self._time += 1
        return actions[:, 0].cpu().numpy()

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.tensor(array, device=self._device).unsqueeze(1)
