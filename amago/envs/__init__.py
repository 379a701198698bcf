"""Environments as AMAGO sees them."""

from amago.envs.amago_env import AMAGO_ENV_LOG_PREFIX, AMAGOEnv
from amago.envs.exploration import BilevelEpsilonGreedy, EpsilonGreedy, ExplorationWrapper

__all__ = [
    "AMAGO_ENV_LOG_PREFIX",
    "AMAGOEnv",
    "BilevelEpsilonGreedy",
    "EpsilonGreedy",
    "ExplorationWrapper",
]
