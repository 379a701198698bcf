"""The environment suite: a registry of environments, and those that are written here.

Importing this package imports no environment: each is imported when it is first made. Only the
exploration strategy "tmaze" is, so that gin files and ``switch_exploration`` know its name.
"""

from envs_suite import tmaze_exploration as tmaze_exploration
from envs_suite.registry import EnvSpec, Measured, Param, Published, Score, get, ids, register

__all__ = ["EnvSpec", "Measured", "Param", "Published", "Score", "get", "ids", "register"]
