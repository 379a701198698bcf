"""Networks; the modules, and the two bases that users extend most, are imported on first use."""

from __future__ import annotations

import importlib
from typing import Any

_MODULES = (
    "actor_critic",
    "cnn",
    "ff",
    "goal_embedders",
    "policy_dists",
    "traj_encoders",
    "transformer",
    "tstep_encoders",
    "utils",
)
_WHERE = {"TstepEncoder": "tstep_encoders", "TrajEncoder": "traj_encoders"}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"amago.nets.{name}")
    if name in _WHERE:
        return getattr(importlib.import_module(f"amago.nets.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'amago.nets' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted((*_MODULES, *_WHERE))
