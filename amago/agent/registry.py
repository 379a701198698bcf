"""Short names for agents (``switch_agent``) and the list of extra discounts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gin

from amago.registry import Registry

if TYPE_CHECKING:
    from amago.agent.base import BaseAgent

_agents: Registry[type[BaseAgent]] = Registry("agent")

_DEFAULT_GAMMAS = (0.1, 0.9, 0.95, 0.97, 0.99, 0.995)


def register_agent(name: str) -> Any:
    """Class decorator: make an agent known to ``switch_agent`` by ``name``."""
    return _agents.register(name)


def get_agent_cls(name: str) -> type[BaseAgent]:
    """The agent registered as ``name``; an unknown name is an error with the nearest ones."""
    return _agents.get(name)


def list_registered_agents() -> list[str]:
    """Names of all registered agents, sorted."""
    return _agents.names()


@gin.configurable(module="amago.agent")
class Multigammas:
    """Discounts learned beside the one that acts (AMAGO, arXiv 2310.09971, section 3).

    Args:
        discrete: extra discounts of agents with a discrete action space.
        continuous: extra discounts of all other agents.
    """

    def __init__(
        self,
        discrete: Sequence[float] = _DEFAULT_GAMMAS,
        continuous: Sequence[float] = _DEFAULT_GAMMAS,
    ) -> None:
        self.discrete = list(discrete)
        self.continuous = list(continuous)
