"""The environment suite: a registry of environments, and those that are written here.

Importing this package imports no environment, nor what goes with one (exploration, relabelling): each is imported
when it is first used, and then gin knows its name. So a class of one's own may have the same.
"""

from envs_suite.registry import EnvSpec, Measured, Param, Published, Score, get, ids, register

__all__ = ["EnvSpec", "Measured", "Param", "Published", "Score", "get", "ids", "register"]
