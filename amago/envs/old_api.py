"""Environments written for gym before 0.26: no seed in ``reset``, one ``done`` instead of two ends, gym's own spaces."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces

#: ``info`` key by which the old time-limit wrapper says that an end was no terminal state.
TRUNCATED = "TimeLimit.truncated"


def takes(function: Callable[..., Any], name: str) -> bool:
    """Whether a function has a parameter of this name, or takes any keyword."""
    try:
        found = inspect.signature(function).parameters
    except (TypeError, ValueError):  # built in: it cannot be asked
        return True
    return name in found or any(p.kind is inspect.Parameter.VAR_KEYWORD for p in found.values())


def reset(env: Any, seed: Any, options: dict[str, Any] | None) -> Any:
    """``env.reset`` with what it takes of the two; a seed goes to ``env.seed`` where ``reset`` takes none."""
    given: dict[str, Any] = {}
    if takes(env.reset, "seed"):
        given["seed"] = seed
    elif seed is not None and hasattr(env, "seed"):
        env.seed(seed)
    if takes(env.reset, "options"):
        given["options"] = options
    return env.reset(**given)


def with_info(result: Any) -> tuple[Any, dict[str, Any]]:
    """What a reset gave, as (observation, info)."""
    if isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict):
        return result
    return result, {}


def with_two_ends(result: tuple[Any, ...]) -> tuple[Any, Any, Any, Any, Any]:
    """What a step gave, as (observation, reward, terminated, truncated, info)."""
    if len(result) == 5:
        return result
    obs, reward, done, info = result
    done = np.asarray(done, dtype=bool)
    truncated = done & np.asarray(info.get(TRUNCATED, False), dtype=bool)
    return obs, reward, done & ~truncated, truncated, info


def current_space(space: Any) -> Any:
    """A space of gym as one of gymnasium; any other as it is."""
    if type(space).__module__.partition(".")[0] != "gym":
        return space
    kind = type(space).__name__
    if kind == "Box":
        return spaces.Box(space.low, space.high, space.shape, space.dtype)
    if kind == "Discrete":
        return spaces.Discrete(int(space.n), start=int(getattr(space, "start", 0)))
    if kind == "MultiDiscrete":
        return spaces.MultiDiscrete(space.nvec)
    if kind == "MultiBinary":
        return spaces.MultiBinary(space.n)
    if kind == "Dict":
        return spaces.Dict({k: current_space(v) for k, v in space.spaces.items()})
    return space
