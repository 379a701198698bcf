"""HalfCheetah with a hidden target velocity."""

from amago.envs.builtin import forward

__getattr__, __all__ = forward(__name__, {"HalfCheetahV4_MetaVelocity": "envs_suite.half_cheetah"})
