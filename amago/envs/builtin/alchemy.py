"""Symbolic Alchemy."""

from amago.envs.builtin import forward

__getattr__, __all__ = forward(__name__, {"SymbolicAlchemy": "envs_suite.alchemy"})
