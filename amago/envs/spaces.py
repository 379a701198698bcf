"""What the agent may see and do, and how an environment's own spaces are turned into that.

Observations become a ``Dict`` of boxes (discrete parts one-hot). Actions become one of
``Discrete``, ``MultiBinary`` or a ``Box`` over [-1, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from amago.errors import ConfigurationError

#: A MultiDiscrete action space is offered as one Discrete of all combinations, up to this many.
MAX_JOINT_ACTIONS = 4096

Convert = Callable[[np.ndarray], np.ndarray]


def _as_is(x: np.ndarray) -> np.ndarray:
    return np.asarray(x)


def _float32(x: np.ndarray) -> np.ndarray:
    return np.asarray(x, dtype=np.float32)


def convert_observation_space(space: gym.Space) -> tuple[spaces.Dict, dict[str, Convert]]:
    """The ``Dict`` space an agent sees and, for each key, a function on a batch ``(N, ...)``.

    Raises:
        ConfigurationError: a space that has no array form (text, graphs, sequences).
    """
    parts = space.spaces if isinstance(space, spaces.Dict) else {"observation": space}
    converted: dict[str, gym.Space] = {}
    functions: dict[str, Convert] = {}
    for key, part in parts.items():
        converted[key], functions[key] = _convert_part(key, part)
    return spaces.Dict(converted), functions


def _convert_part(key: str, part: gym.Space) -> tuple[spaces.Box, Convert]:
    if isinstance(part, spaces.Box):
        if part.dtype == np.uint8:
            return part, _as_is
        low = np.broadcast_to(part.low, part.shape).astype(np.float32)
        high = np.broadcast_to(part.high, part.shape).astype(np.float32)
        return spaces.Box(low, high, dtype=np.float32), _float32
    if isinstance(part, spaces.Discrete):
        sizes, starts = np.array([part.n]), np.array([part.start])
    elif isinstance(part, spaces.MultiDiscrete):
        sizes, starts = part.nvec.reshape(-1), np.asarray(part.start).reshape(-1)
    elif isinstance(part, spaces.MultiBinary):
        return spaces.Box(0.0, 1.0, part.shape, dtype=np.float32), _float32
    else:
        raise ConfigurationError(
            f"observation {key!r} has the unsupported space {part}; "
            "wrap the environment so that it gives Box, Discrete, MultiDiscrete, MultiBinary, or a Dict of these"
        )
    offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    width = int(sizes.sum())

    def one_hot(x: np.ndarray) -> np.ndarray:
        digits = np.asarray(x).reshape(len(x), len(sizes)) - starts + offsets
        out = np.zeros((len(x), width), dtype=np.float32)
        np.put_along_axis(out, digits.astype(np.int64), 1.0, axis=1)
        return out

    return spaces.Box(0.0, 1.0, (width,), dtype=np.float32), one_hot


def convert_action_space(space: gym.Space) -> tuple[gym.Space, Convert]:
    """The space an agent acts in, and the way back to the environment's own actions.

    The returned function takes the agent's actions as a batch: ``(N, 1)`` integers for
    ``Discrete``, ``(N, A)`` otherwise; and gives what the environment's ``step`` takes for a
    batch: ``(N,)`` integers or ``(N, ...)`` arrays.

    Raises:
        ConfigurationError: an unsupported space, or too many joint actions.
    """
    if isinstance(space, spaces.Discrete):
        start = int(space.start)
        return spaces.Discrete(int(space.n)), lambda a: a.reshape(len(a)).astype(np.int64) + start
    if isinstance(space, spaces.MultiDiscrete):
        nvec = tuple(int(n) for n in space.nvec.reshape(-1))
        joint = math.prod(nvec)  # numpy's product would wrap around
        if joint > MAX_JOINT_ACTIONS:
            raise ConfigurationError(
                f"MultiDiscrete({list(nvec)}) has {joint} joint actions, more than {MAX_JOINT_ACTIONS}; "
                "factor the action space or offer MultiBinary"
            )
        starts = np.asarray(space.start).reshape(-1)

        def unravel(a: np.ndarray) -> np.ndarray:
            digits = np.stack(np.unravel_index(a.reshape(len(a)).astype(np.int64), nvec), axis=-1)
            return (digits + starts).reshape(len(a), *space.shape).astype(space.dtype)

        return spaces.Discrete(joint), unravel
    if isinstance(space, spaces.MultiBinary):
        size = int(np.prod(space.shape))
        return spaces.MultiBinary(size), lambda a: a.reshape(len(a), *space.shape).astype(np.int8)
    if isinstance(space, spaces.Box):
        size = int(np.prod(space.shape))
        low = np.broadcast_to(space.low, space.shape).astype(np.float64)
        high = np.broadcast_to(space.high, space.shape).astype(np.float64)
        bounded = bool(np.all(np.isfinite(low)) and np.all(np.isfinite(high)))

        def rescale(a: np.ndarray) -> np.ndarray:
            action = a.reshape(len(a), *space.shape).astype(np.float64)
            if bounded:
                action = np.clip(low + (action + 1.0) * 0.5 * (high - low), low, high)
            return action.astype(space.dtype)

        return spaces.Box(-1.0, 1.0, (size,), dtype=np.float32), rescale
    raise ConfigurationError(
        f"unsupported action space {space}; use Discrete, MultiDiscrete, MultiBinary or Box"
    )


def action_size(space: gym.Space) -> int:
    """Length of the vector that represents one action (one-hot when discrete)."""
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    return int(np.prod(space.shape or ()))
