"""Agents: what is learned from a batch, and how to act."""

from amago.agent.agent import Agent
from amago.agent.base import BaseAgent
from amago.agent.filters import binary_filter, exp_filter, leaky_relu_filter
from amago.agent.import_v3 import convert_v3_state_dict
from amago.agent.multitask import MultiTaskAgent
from amago.agent.registry import Multigammas, get_agent_cls, list_registered_agents, register_agent
from amago.agent.targets import n_step_targets

__all__ = [
    "Agent",
    "BaseAgent",
    "MultiTaskAgent",
    "Multigammas",
    "binary_filter",
    "convert_v3_state_dict",
    "exp_filter",
    "get_agent_cls",
    "leaky_relu_filter",
    "list_registered_agents",
    "n_step_targets",
    "register_agent",
]
