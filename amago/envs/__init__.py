"""Environments as AMAGO sees them."""

from typing import Any

from amago.envs import amago_env
from amago.envs.amago_env import AMAGO_ENV_LOG_PREFIX, AMAGOEnv
from amago.envs.exploration import BilevelEpsilonGreedy, EpsilonGreedy, ExplorationWrapper


def __getattr__(name: str) -> Any:
    if name == "SequenceWrapper":
        return getattr(amago_env, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "AMAGO_ENV_LOG_PREFIX",
    "AMAGOEnv",
    "BilevelEpsilonGreedy",
    "EpsilonGreedy",
    "ExplorationWrapper",
    "SequenceWrapper",
]
