"""What every trajectory encoder offers, and the registry of their short names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from amago.errors import ConfigurationError
from amago.registry import Registry

_registry: Registry[type[TrajEncoder]] = Registry("trajectory encoder")


def register_traj_encoder(name: str) -> Callable[[Any], Any]:
    """Class decorator: make a trajectory encoder known to ``switch_traj_encoder`` by ``name``."""
    return _registry.register(name)


def get_traj_encoder_cls(name: str) -> type[TrajEncoder]:
    """The encoder registered as ``name``; an unknown name is an error with the nearest ones."""
    return _registry.get(name)


def list_registered_traj_encoders() -> list[str]:
    """Names of all registered trajectory encoders, sorted."""
    return _registry.names()


def at_least_one(cls: str, **sizes: int) -> None:
    for name, value in sizes.items():
        if value < 1:
            raise ConfigurationError(f"{cls}.{name} is {value}; use 1 or more")


class TrajEncoder(nn.Module, ABC):
    """Base: a subclass defines :meth:`forward` and :attr:`emb_dim`, and a hidden state if it has memory.

    Args:
        tstep_dim: width of the input.
        max_seq_len: longest sequence of a training batch in transitions, and longest memory of a rollout
            where that must be bounded.
    """

    def __init__(self, tstep_dim: int, max_seq_len: int) -> None:
        super().__init__()
        self.tstep_dim = tstep_dim
        self.max_seq_len = max_seq_len

    @property
    @abstractmethod
    def emb_dim(self) -> int:
        """Size D of the output."""

    def init_hidden_state(self, batch_size: int, device: torch.device | str) -> Any:
        """The state of ``batch_size`` actors before their first timestep; ``None`` without memory."""
        return None

    def reset_hidden_state(self, hidden_state: Any, dones: Tensor) -> Any:
        """The state after the actors where ``dones`` (B,) bool is True start over; the old one is used up."""
        return hidden_state

    @abstractmethod
    def forward(
        self,
        seq: Tensor,
        time_idxs: Tensor,
        hidden_state: Any = None,
        log_dict: dict[str, Any] | None = None,
    ) -> tuple[Tensor, Any]:
        """Encode; an output depends on no later input.

        Args:
            seq: (B, L, tstep_dim) float.
            time_idxs: (B, L, 1) int64, timesteps since each actor's reset.
            hidden_state: ``None`` for whole sequences (training); otherwise what came before, in
                rollouts, where L is 1. It may be changed in place: go on with the one that is returned.
            log_dict: filled with metrics when given.

        Returns:
            (B, L, D), and the next hidden state (``None`` for whole sequences).
        """
