"""N actors behind one interface, whatever runs their environments.

``SyncActors`` steps single environments one after another, ``AsyncActors`` in worker processes,
``VectorActors`` calls one environment that steps many instances itself. Resets are always
explicit and seeded, and the observation that a step returns is always the one that the action
led to, also at an episode's end.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode

from amago.envs.amago_env import AMAGOEnv, logged_metrics
from amago.envs.spaces import action_size
from amago.errors import ConfigurationError, EnvironmentFailure
from amago.storage import ActionFormat

MakeEnv = Callable[[], AMAGOEnv]
ObsDict = dict[str, np.ndarray]
ENV_MODES = ("sync", "async", "already_vectorized", "vectorized")

#: A worker that does not answer for this long (seconds) is taken for dead.
WORKER_TIMEOUT = 600.0


@dataclass
class Step:
    """What one step of all actors gave.

    Attributes:
        obs: each (N, ...): where the actions led, also for episodes that ended.
        rewards: (N,) float32.
        terminated, truncated: (N,) bool.
        metrics: name -> (values (N,), reporting actors (N,) bool).
    """

    obs: ObsDict
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    metrics: dict[str, tuple[np.ndarray, np.ndarray]]


class Actors(ABC):
    """N actors that step together. Exploration and rollouts see this as one batched environment."""

    batched_envs: int
    observation_space: Any  # always a gymnasium.spaces.Dict
    action_space: Any
    action_size: int
    takes_task_index: bool = False
    #: whether the environments show actions in a form of their own, which is then also what replay keeps
    makes_own_action_rep: bool = False

    @property
    def action_format(self) -> ActionFormat:
        """What the replay keeps of an action."""
        return ActionFormat(self.discrete and not self.makes_own_action_rep, self.action_size)

    @property
    def discrete(self) -> bool:
        return isinstance(self.action_space, spaces.Discrete)

    @property
    def multibinary(self) -> bool:
        return isinstance(self.action_space, spaces.MultiBinary)

    @property
    @abstractmethod
    def env_names(self) -> list[str]:
        """The environment's (or task's) name for each actor, as of its last reset."""

    @abstractmethod
    def reset(
        self, mask: np.ndarray, seeds: list[int | None], task_index: np.ndarray | None = None
    ) -> ObsDict:
        """Reset the actors of ``mask``.

        Args:
            mask: (N,) bool.
            seeds: one for each actor; read where ``mask`` is true.
            task_index: (N,) which fixed task each actor gets, for environments that offer it.

        Returns:
            Current observations of all actors, each (N, ...).
        """

    @abstractmethod
    def step(self, actions: np.ndarray) -> Step:
        """Step all actors with (N, 1) integers or (N, A) floats."""

    @abstractmethod
    def make_action_rep(self, actions: np.ndarray) -> np.ndarray:
        """(N, action_size) float32: how the policy sees its previous actions, those of the last step."""

    @abstractmethod
    def render(self) -> Any:
        """Show the first environment (one that steps many instances shows what it will); returns its picture."""

    @abstractmethod
    def close(self) -> None:
        """Free environments and workers."""


class VectorActors(Actors):
    """All actors inside one `AMAGOEnv`."""

    def __init__(self, env: AMAGOEnv) -> None:
        self.env = env
        self.batched_envs = env.batched_envs
        self.observation_space, self.action_space = env.observation_space, env.action_space
        self.action_size = env.action_size
        self.takes_task_index = env.takes_task_index
        self.makes_own_action_rep = env.makes_own_action_rep
        self._resets_itself = env.autoreset is AutoresetMode.SAME_STEP
        self._obs: ObsDict | None = None

    @property
    def env_names(self) -> list[str]:
        return self.env.env_names

    def reset(
        self, mask: np.ndarray, seeds: list[int | None], task_index: np.ndarray | None = None
    ) -> ObsDict:
        if self._resets_itself and self._obs is not None and not mask.all():
            return self._obs  # the environment has begun the next episodes already
        options: dict[str, Any] = {"reset_mask": mask} if self.env.is_vector and not mask.all() else {}
        if task_index is not None and self.takes_task_index:
            options["task_index"] = task_index
        use = None if seeds[int(np.argmax(mask))] is None else [s if s is not None else 0 for s in seeds]
        own_seed = use if self.env.is_vector or self.batched_envs == 1 or use is None else use[0]
        self._obs, _ = self.env.reset(seed=own_seed, options=options or None)
        return self._obs

    def step(self, actions: np.ndarray) -> Step:
        obs, rewards, terminated, truncated, info = self.env.step(actions)
        self._obs = obs
        if self._resets_itself:
            obs = self.env.with_final_observations(obs, terminated | truncated, info)
            # What the ended episodes logged; the rest of ``info`` is the next ones' already.
            info = info.get("final_info", info)
        return Step(obs, rewards, terminated, truncated, logged_metrics(info, self.batched_envs))

    def make_action_rep(self, actions: np.ndarray) -> np.ndarray:
        return self.env.make_action_rep(actions)

    def render(self) -> Any:
        return self.env.render()

    def close(self) -> None:
        self.env.close()


class SyncActors(Actors):
    """Single environments, stepped one after another in this process."""

    def __init__(self, envs: list[AMAGOEnv]) -> None:
        if any(e.batched_envs != 1 for e in envs):
            raise ConfigurationError(
                "env_mode='sync' needs environments of one actor each; use env_mode='vectorized' for batched ones"
            )
        _check_same_spaces(envs)
        self.envs = envs
        self.batched_envs = len(envs)
        first = envs[0]
        self.observation_space, self.action_space = first.observation_space, first.action_space
        self.action_size = first.action_size
        self.takes_task_index = all(e.takes_task_index for e in envs)
        self.makes_own_action_rep = any(e.makes_own_action_rep for e in envs)
        self._obs = {
            k: np.zeros((len(envs), *s.shape), s.dtype) for k, s in self.observation_space.spaces.items()
        }

    @property
    def env_names(self) -> list[str]:
        return [e.env_names[0] for e in self.envs]

    def _put(self, i: int, obs: ObsDict) -> None:
        for k, v in obs.items():
            self._obs[k][i] = v[0]

    def reset(
        self, mask: np.ndarray, seeds: list[int | None], task_index: np.ndarray | None = None
    ) -> ObsDict:
        for i in np.flatnonzero(mask):
            options = None
            if task_index is not None and self.takes_task_index:
                options = {"task_index": int(task_index[i])}
            obs, _ = self.envs[i].reset(seed=seeds[i], options=options)
            self._put(int(i), obs)
        return self._obs

    def step(self, actions: np.ndarray) -> Step:
        n = self.batched_envs
        rewards = np.zeros(n, np.float32)
        terminated, truncated = np.zeros(n, bool), np.zeros(n, bool)
        metrics: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for i, env in enumerate(self.envs):
            obs, reward, term, trunc, info = env.step(actions[i : i + 1])
            self._put(i, obs)
            rewards[i], terminated[i], truncated[i] = reward[0], term[0], trunc[0]
            for name, (values, _) in logged_metrics(info, 1).items():
                slot = metrics.setdefault(name, (np.zeros(n), np.zeros(n, bool)))
                slot[0][i], slot[1][i] = values[0], True
        return Step(self._obs, rewards, terminated, truncated, metrics)

    def make_action_rep(self, actions: np.ndarray) -> np.ndarray:
        return np.concatenate([e.make_action_rep(actions[i : i + 1]) for i, e in enumerate(self.envs)])

    def render(self) -> Any:
        return self.envs[0].render()

    def close(self) -> None:
        for env in self.envs:
            env.close()


#: `info` key under which workers send their actions' own form.
_ACTION_REP = "amago_action_rep"


class _Unbatched(gym.Env):
    """One `AMAGOEnv` in the single-environment form that gymnasium's workers expect.

    Args:
        make_env: builds it.
        index: which of the actors it is.
    """

    def __init__(self, make_env: MakeEnv, index: int) -> None:
        self.env, self.index = _amago_env(make_env()), index
        if self.env.batched_envs != 1:
            raise ConfigurationError("env_mode='async' needs environments of one actor each")
        self.observation_space = self.env.observation_space
        self.action_space = self.env.action_space

    @property
    def takes_task_index(self) -> bool:
        return self.env.takes_task_index

    @property
    def makes_own_action_rep(self) -> bool:
        return self.env.makes_own_action_rep

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[ObsDict, dict]:
        super().reset(seed=seed)
        if options is not None and "task_index" in options:  # all workers get the same options
            options = options | {"task_index": int(options["task_index"][self.index])}
        obs, _ = self.env.reset(seed=seed, options=options)
        return {k: v[0] for k, v in obs.items()}, {"amago_env_name": self.env.env_names[0]}

    def step(self, action: Any) -> tuple[ObsDict, float, bool, bool, dict]:
        own = np.atleast_1d(np.asarray(action))[None]
        obs, reward, terminated, truncated, info = self.env.step(own)
        logged: dict[str, Any] = {
            f"AMAGO_LOG_METRIC {k}": float(v[0]) for k, (v, _) in logged_metrics(info, 1).items()
        }
        if self.makes_own_action_rep:
            logged[_ACTION_REP] = np.asarray(self.env.make_action_rep(own), np.float32)[0]
        return (
            {k: v[0] for k, v in obs.items()},
            float(reward[0]),
            bool(terminated[0]),
            bool(truncated[0]),
            logged,
        )

    def render(self) -> Any:
        return self.env.render()

    def close(self) -> None:
        self.env.close()


class AsyncActors(Actors):
    """Single environments in worker processes: one round trip a step for all of them."""

    def __init__(
        self, make_envs: list[MakeEnv], context: str | None, timeout: float = WORKER_TIMEOUT
    ) -> None:
        def worker(make_env: MakeEnv, index: int) -> Callable[[], gym.Env]:
            return lambda: _Unbatched(make_env, index)

        self.timeout = timeout
        self._closed = False
        try:
            with _killing_new_workers_after(timeout):
                self.envs = AsyncVectorEnv(
                    [worker(m, i) for i, m in enumerate(make_envs)],
                    context=context,
                    copy=False,
                    autoreset_mode=AutoresetMode.DISABLED,
                )
                self.takes_task_index = all(self.envs.get_attr("takes_task_index"))
                self.makes_own_action_rep = any(self.envs.get_attr("makes_own_action_rep"))
        except (EOFError, OSError) as error:
            raise EnvironmentFailure(
                f"an environment worker died or did not start within {timeout:g} s (Experiment.worker_timeout); "
                "its own output is above; env_mode='sync' shows the traceback"
            ) from error
        except RuntimeError as error:
            if "spaces" not in str(error) and "action space" not in str(error):
                raise
            raise ConfigurationError(
                "the environments that the functions build have different spaces; actors of one run must share "
                "observation and action spaces"
            ) from error
        self.batched_envs = len(make_envs)
        single = self.envs.single_observation_space
        assert isinstance(single, spaces.Dict)
        self.observation_space, self.action_space = single, self.envs.single_action_space
        self.action_size = action_size(self.action_space)
        self._names = ["" for _ in make_envs]
        self._action_reps: np.ndarray | None = None

    @property
    def env_names(self) -> list[str]:
        return list(self._names)

    def reset(
        self, mask: np.ndarray, seeds: list[int | None], task_index: np.ndarray | None = None
    ) -> ObsDict:
        options: dict[str, Any] = {} if mask.all() else {"reset_mask": mask.copy()}
        if task_index is not None and self.takes_task_index:
            options["task_index"] = [int(i) for i in task_index]
        try:
            self.envs.reset_async(seed=list(seeds), options=options or None)
            obs, info = self.envs.reset_wait(timeout=self.timeout)
        except Exception as error:  # a worker's own errors come through as they are
            raise self._failure("reset", error) from error
        for i in np.flatnonzero(mask):
            self._names[i] = str(info["amago_env_name"][i])
        return dict(obs)

    def step(self, actions: np.ndarray) -> Step:
        own = actions.reshape(len(actions)) if self.discrete else actions
        try:
            self.envs.step_async(own)
            obs, rewards, terminated, truncated, info = self.envs.step_wait(timeout=self.timeout)
        except Exception as error:
            raise self._failure("step", error) from error
        n = self.batched_envs
        self._action_reps = info.get(_ACTION_REP)
        return Step(dict(obs), rewards.astype(np.float32), terminated, truncated, logged_metrics(info, n))

    def _failure(self, call: str, error: Exception) -> EnvironmentFailure:
        if isinstance(error, (EOFError, OSError)):
            for process in self.envs.processes:  # a worker that has just died may not look it yet
                process.join(0.1)
        dead = [i for i, p in enumerate(self.envs.processes) if p.exitcode]
        ended = self.envs.closed  # gymnasium ended the others after one worker's own error
        exit_code = self.envs.processes[dead[0]].exitcode if dead else None
        self._kill()
        if isinstance(error, multiprocessing.TimeoutError):
            return EnvironmentFailure(
                f"an environment worker did not answer in {call} for {self.timeout:g} s (Experiment.worker_timeout); "
                "its environment hangs, or needs a longer time (the last checkpoint is intact)"
            )
        if dead and not ended:
            return EnvironmentFailure(
                f"environment worker {dead[0]} died in {call} (exit code {exit_code}); "
                "its own output is above; env_mode='sync' shows the traceback"
            )
        said = " ".join(str(error).split())
        return EnvironmentFailure(f"an environment worker failed in {call}: {type(error).__name__}: {said}")

    def make_action_rep(self, actions: np.ndarray) -> np.ndarray:
        if self._action_reps is not None:
            return self._action_reps
        if not self.discrete:
            return actions.astype(np.float32)
        rep = np.zeros((len(actions), self.action_size), np.float32)
        rep[np.arange(len(actions)), actions.reshape(len(actions))] = 1.0
        return rep

    def render(self) -> Any:
        return self.envs.call("render")[0]

    def close(self) -> None:
        if self._closed:
            return
        if all(p.is_alive() for p in self.envs.processes):
            with _killing_after(self.timeout, self.envs.processes), contextlib.suppress(EOFError, OSError):
                self.envs.close()
        self._kill()

    def _kill(self) -> None:
        """End the workers, whatever they are doing; gymnasium's own close would wait for the dead."""
        self._closed = self.envs.closed = True
        _end(self.envs.processes)
        for pipe in self.envs.parent_pipes:
            if pipe is not None:
                pipe.close()


def _end(workers: Iterable[Any]) -> None:
    """SIGTERM, and SIGKILL for those that do not listen."""
    processes = list(workers)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(1.0)
        if process.is_alive():
            process.kill()
            process.join(1.0)


@contextlib.contextmanager
def _killing_after(seconds: float, processes: Iterable[Any]) -> Iterator[None]:
    """Whoever waits for ``processes`` inside gets an EOFError when it takes longer than ``seconds``."""
    timer = threading.Timer(seconds, _end, [processes])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextlib.contextmanager
def _killing_new_workers_after(seconds: float) -> Iterator[None]:
    """`_killing_after` for workers that are only being started."""
    before = {p.pid for p in multiprocessing.active_children()}

    class New:
        def __iter__(self) -> Iterator[Any]:
            return iter([p for p in multiprocessing.active_children() if p.pid not in before])

    with _killing_after(seconds, New()):
        try:
            yield
        except BaseException:
            _end(New())
            raise


def make_actors(
    make_env: MakeEnv | Iterable[MakeEnv],
    count: int,
    env_mode: str,
    context: str | None = None,
    timeout: float = WORKER_TIMEOUT,
) -> Actors:
    """Build ``count`` actors.

    Args:
        make_env: builds one environment; or one such function for each actor.
        count: number of actors.
        env_mode: ``sync``, ``async`` (worker processes), ``already_vectorized`` or ``vectorized``.
        context: multiprocessing start method of ``async``.
        timeout: seconds that a worker of ``async`` may take for one call.

    Raises:
        ConfigurationError: an unknown mode, or a number of functions or actors that does not fit.
    """
    if env_mode not in ENV_MODES:
        raise ConfigurationError(
            f"Experiment.env_mode must be one of {', '.join(ENV_MODES)}, got {env_mode!r}"
        )
    functions = [make_env] * count if callable(make_env) else list(make_env)
    if env_mode in ("already_vectorized", "vectorized"):
        env = _amago_env(functions[0]())
        if env.batched_envs != count:
            raise ConfigurationError(
                f"env_mode={env_mode!r}: the environment has batched_envs={env.batched_envs}, "
                f"but Experiment.parallel_actors is {count}; make them equal"
            )
        return VectorActors(env)
    if len(functions) != count:
        raise ConfigurationError(
            f"{len(functions)} environment functions for Experiment.parallel_actors={count}; "
            "give one function, or one for each actor"
        )
    if env_mode == "async":
        return AsyncActors(functions, context, timeout)
    return SyncActors([_amago_env(f()) for f in functions])


def _amago_env(env: Any) -> AMAGOEnv:
    if not hasattr(env, "batched_envs"):
        raise ConfigurationError(
            f"make_train_env and its like must build an AMAGOEnv, not a {type(env).__name__}; return AMAGOEnv(env)"
        )
    return env


def _check_same_spaces(envs: list[AMAGOEnv]) -> None:
    for env in envs[1:]:
        if env.observation_space != envs[0].observation_space or env.action_space != envs[0].action_space:
            raise ConfigurationError(
                f"environments {envs[0].env_name!r} and {env.env_name!r} have different spaces; "
                "actors of one run must share observation and action spaces"
            )
