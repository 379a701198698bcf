"""AMAGO: off-policy, in-context reinforcement learning on long sequences.

The public names and modules are imported on first use, so that ``import amago`` alone is quick.
"""

from __future__ import annotations

import importlib
from typing import Any

from amago.version import TRAINING_VERSION

_WHERE = {
    "Experiment": "amago.experiment",
    "TstepEncoder": "amago.nets.tstep_encoders",
    "FFTstepEncoder": "amago.nets.tstep_encoders",
    "CNNTstepEncoder": "amago.nets.tstep_encoders",
    "TrajEncoder": "amago.nets.traj_encoders",
    "FFTrajEncoder": "amago.nets.traj_encoders",
    "GRUTrajEncoder": "amago.nets.traj_encoders",
    "TformerTrajEncoder": "amago.nets.traj_encoders",
    "MambaTrajEncoder": "amago.nets.traj_encoders",
    "BaseAgent": "amago.agent",
    "Agent": "amago.agent",
    "MultiTaskAgent": "amago.agent",
    "AMAGOEnv": "amago.envs.amago_env",
    "SequenceWrapper": "amago.envs.amago_env",
    "RLDataset": "amago.loading",
    "DiskTrajDataset": "amago.loading",
    "AmagoError": "amago.errors",
    "TrainingInterrupted": "amago.errors",
}

#: Modules that a script finds with ``import amago`` alone.
_MODULES = ("agent", "cli_utils", "envs", "experiment", "hindsight", "loading", "nets")

__all__ = ["TRAINING_VERSION", *_WHERE]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"amago.{name}")
    if name not in _WHERE:
        raise AttributeError(f"module 'amago' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted((*__all__, *_MODULES))
