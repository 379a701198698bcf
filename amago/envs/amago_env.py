"""`AMAGOEnv`: one face for single and vectorised environments.

Whatever is inside, the outside is a batch of ``batched_envs`` actors: observations are a
dict of arrays ``(N, ...)``, rewards and ends are ``(N,)``, and the agent's actions are
``(N, 1)`` integers or ``(N, A)`` floats in [-1, 1].
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv

from amago.envs import old_api
from amago.envs.old_api import current_space, with_info, with_two_ends
from amago.envs.spaces import action_size, convert_action_space, convert_observation_space
from amago.errors import ConfigurationError, EnvironmentFailure

#: An environment logs a number for its episode by an ``info`` key that begins with this.
AMAGO_ENV_LOG_PREFIX = "AMAGO_LOG_METRIC"


class AMAGOEnv(gym.Env):
    """Wraps a gymnasium environment for AMAGO.

    Args:
        env: a ``gymnasium.Env`` (one actor), a ``gymnasium.vector.VectorEnv`` that does not reset
            itself between steps (``AutoresetMode.DISABLED`` or ``SAME_STEP``), or any environment
            whose arrays already have a leading dimension of ``batched_envs``. Environments of gym before
            0.26 (no seed in ``reset``, four results of ``step``, gym's spaces) are adapted.
        env_name: what metrics call this environment; the default is its id or class name.
        batched_envs: number of actors inside ``env``.

    Raises:
        ConfigurationError: unsupported spaces, a wrong number of actors, or next-step autoreset.
    """

    def __init__(self, env: Any, env_name: str | None = None, batched_envs: int = 1) -> None:
        self.env = env
        self.is_vector = isinstance(env, VectorEnv)
        if self.is_vector and env.num_envs != batched_envs:
            raise ConfigurationError(
                f"AMAGOEnv(batched_envs={batched_envs}) wraps a vectorised environment of {env.num_envs} "
                f"instances; pass batched_envs={env.num_envs}"
            )
        self._batched = self.is_vector or batched_envs > 1
        self.batched_envs = batched_envs
        self._env_name = env_name
        self.metadata = dict(getattr(env, "metadata", None) or {})
        self.render_mode = getattr(env, "render_mode", None)
        own_observations = env.single_observation_space if self.is_vector else env.observation_space
        own_actions = env.single_action_space if self.is_vector else env.action_space
        own_observations, own_actions = current_space(own_observations), current_space(own_actions)
        self.observation_space, self._convert_obs = convert_observation_space(own_observations)
        self._obs_shapes = {
            k: (batched_envs, *(s.shape or ())) for k, s in self.observation_space.spaces.items()
        }
        self._obs_is_dict = isinstance(own_observations, spaces.Dict)
        self.action_space, self._to_env_action = convert_action_space(own_actions)
        self.action_size = action_size(self.action_space)
        self.autoreset = self._autoreset_mode()
        self._reset_is_old = not all(old_api.takes(env.reset, name) for name in ("seed", "options"))

    # -- what kind of environment this is ---------------------------------------------------

    @property
    def env_name(self) -> str:
        """The name under which metrics of this environment are reported."""
        if self._env_name is not None:
            return self._env_name
        spec = getattr(self.env, "spec", None)
        return spec.id if spec is not None else type(self.unwrapped).__name__

    @property
    def env_names(self) -> list[str]:
        """What each actor's present episode is of: ``env_name``, and after a slash the task where it has a name.

        The environment names it by its ``task_name`` (a text, or ``None``), a batched one by its
        ``task_names`` (one for each actor); both may change with every reset.
        """
        inner, own = self.unwrapped, self.env_name
        if self._batched:
            tasks = getattr(inner, "task_names", None) or [None] * self.batched_envs
        else:
            tasks = [getattr(inner, "task_name", None)]
        return [own if task is None else f"{own}/{task}" for task in tasks]

    @property
    def unwrapped(self) -> Any:  # the innermost environment, whatever wraps it
        return getattr(self.env, "unwrapped", self.env)

    @property
    def discrete(self) -> bool:
        return isinstance(self.action_space, spaces.Discrete)

    @property
    def multibinary(self) -> bool:
        return isinstance(self.action_space, spaces.MultiBinary)

    @property
    def takes_task_index(self) -> bool:
        """Whether ``reset`` understands ``options["task_index"]`` (fixed evaluation tasks)."""
        return bool(getattr(self.unwrapped, "takes_task_index", False))

    @property
    def makes_own_action_rep(self) -> bool:
        """Whether a subclass shows (and stores) actions in a form of its own."""
        return type(self).make_action_rep is not AMAGOEnv.make_action_rep

    def _autoreset_mode(self) -> AutoresetMode:
        mode = self.metadata.get("autoreset_mode")
        if mode is None:
            # A single environment waits for a reset; an AMAGO-style batched one resets itself.
            return AutoresetMode.SAME_STEP if self._batched else AutoresetMode.DISABLED
        mode = AutoresetMode(mode)
        if mode is AutoresetMode.NEXT_STEP:
            raise ConfigurationError(
                f"{self.env_name} resets itself on the step after an episode's end, which inserts a step whose "
                "action is ignored; build it with autoreset_mode=AutoresetMode.DISABLED"
            )
        return mode

    # -- what a user may override --------------------------------------------------------------

    def inner_reset(self, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        """The wrapped environment's reset, in its own observation format."""
        if self._reset_is_old:
            return old_api.reset(self.env, seed, options)
        return self.env.reset(seed=seed, options=options)

    def inner_step(self, action: Any) -> tuple[Any, Any, Any, Any, dict]:
        """The wrapped environment's step, in its own action and observation format."""
        return self.env.step(action)

    def make_action_rep(self, action: np.ndarray) -> np.ndarray:
        """How an action is shown to the policy at the next step, and kept in the replay.

        Args:
            action: (N, 1) integers when discrete, else (N, A).

        Returns:
            float32 (N, ``action_size``): one-hot when discrete.
        """
        if self.discrete:
            rep = np.zeros((len(action), self.action_size), dtype=np.float32)
            rep[np.arange(len(action)), action.reshape(len(action))] = 1.0
            return rep
        return action.astype(np.float32)

    # -- batched interaction -----------------------------------------------------------------

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict]:
        """Reset all actors, or those of ``options["reset_mask"]`` where the environment can.

        Args:
            seed: an int, or one int for each actor.
            options: passed on; see the class.

        Returns:
            observations: dict of arrays (N, ...); info.
        """
        if not self._batched and isinstance(seed, (list, tuple, np.ndarray)):
            seed = None if seed[0] is None else int(seed[0])
        obs, info = with_info(self.inner_reset(seed=seed, options=options))
        return self._obs(obs), info

    def step(  # type: ignore[override]
        self, action: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict]:
        """One step of every actor.

        Args:
            action: (N, 1) integers when discrete, else (N, A).

        Returns:
            observations, float32 rewards (N,), terminated (N,), truncated (N,), info.
        """
        own: Any = self._to_env_action(np.asarray(action))
        if not self._batched:
            own = int(own[0]) if self.discrete and own.ndim == 1 else own[0]
        obs, reward, terminated, truncated, info = with_two_ends(self.inner_step(own))
        n = self.batched_envs
        return (
            self._obs(obs),
            np.asarray(reward, dtype=np.float32).reshape(n),
            np.asarray(terminated, dtype=bool).reshape(n),
            np.asarray(truncated, dtype=bool).reshape(n),
            info,
        )

    def _obs(self, obs: Any) -> dict[str, np.ndarray]:
        if not self._obs_is_dict:
            obs = {"observation": obs}
        missing = self._convert_obs.keys() - obs.keys()
        if missing:
            raise EnvironmentFailure(f"{self.env_name}: an observation has no {', '.join(sorted(missing))}")
        if self._batched:
            return {k: self._fitted(k, f(np.asarray(obs[k]))) for k, f in self._convert_obs.items()}
        return {k: self._fitted(k, f(np.asarray(obs[k])[None])) for k, f in self._convert_obs.items()}

    def _fitted(self, key: str, values: np.ndarray) -> np.ndarray:
        """``values`` in the shape that the space says; numpy would spread too few over the row."""
        want = self._obs_shapes[key]
        if values.shape == want:
            return values
        if values.size != math.prod(want):
            raise EnvironmentFailure(
                f"{self.env_name}: observation {key!r} has shape {values.shape[1:]}, but its space says {want[1:]}"
            )
        return values.reshape(want)

    def with_final_observations(
        self, obs: dict[str, np.ndarray], ended: np.ndarray, info: Mapping[str, Any]
    ) -> dict[str, np.ndarray]:
        """``obs`` (N, ...) with the rows of ``ended`` replaced by their episodes' last observations.

        Needed where ended instances were reset within the same step. An environment that does not
        report ``info["final_obs"]`` leaves ``obs`` as it is.
        """
        final = info.get("final_obs")
        if final is None or not ended.any():
            return obs
        out = {k: v.copy() for k, v in obs.items()}
        for i in np.flatnonzero(ended):
            own = {k: v[i] for k, v in final.items()} if isinstance(final, Mapping) else final[i]
            parts = own if self._obs_is_dict else {"observation": own}
            for key, convert in self._convert_obs.items():
                out[key][i] = convert(np.asarray(parts[key])[None])[0]
        return out

    def render(self) -> Any:
        return self.env.render()

    def close(self) -> None:
        if hasattr(self.env, "close"):
            self.env.close()


def logged_metrics(info: Mapping[str, Any], n: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Metrics in an ``info``: name -> (values (N,), which actors reported it (N,) bool).

    Keys begin with ``AMAGO_ENV_LOG_PREFIX``; the name is what follows. Vectorised environments
    mark the reporting actors by gymnasium's ``_key`` convention; without one all report.
    """
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for key, value in info.items():
        if not key.startswith(AMAGO_ENV_LOG_PREFIX):
            continue
        try:
            values = np.broadcast_to(np.asarray(value, dtype=np.float64), (n,))
        except (TypeError, ValueError) as error:
            raise EnvironmentFailure(
                f"the environment logs {key!r} as {value!r}, which is not a number of each of its {n} actors"
            ) from error
        mask = np.broadcast_to(np.asarray(info.get("_" + key, True), dtype=bool), (n,))
        found[key[len(AMAGO_ENV_LOG_PREFIX) :].strip(" _:")] = (values, mask)
    return found


def __getattr__(name: str) -> Any:
    if name == "SequenceWrapper":  # it wraps the class above, so it is imported on first use
        from amago.envs.sequence_wrapper import SequenceWrapper

        return SequenceWrapper
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
