"""Small tasks that need memory or exploration."""

from amago.envs.builtin import forward

__getattr__, __all__ = forward(
    __name__, {"MetaFrozenLake": "envs_suite.frozen_lake", "RoomKeyDoor": "envs_suite.key_door"}
)
