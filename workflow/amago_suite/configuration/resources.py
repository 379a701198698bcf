"""What a job may use: memory, time, CPUs and GPUs. Nothing of it changes a result, so it is in no hash.

Layers, last wins: the defaults below, the site (`resources`, then `families.FAMILY`), the suite, the
environment's entry, the architecture's entry.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

#: Rules whose jobs are scheduled.
RULES = ("train", "evaluate")


@dataclass(frozen=True, slots=True)
class Resources:
    """What one job may use."""

    mem_mb: int = 4000  #: memory, MB
    runtime: int = 240  #: wall time, minutes; a run that needs more goes on in another job
    gpus: int = 0
    cpus: int = 0  #: 0: as many as the run has threads


DEFAULTS: Mapping[str, Resources] = {
    "train": Resources(),
    "evaluate": Resources(mem_mb=2000, runtime=60),
}


def merge(layers: Iterable[Mapping[str, Any]]) -> dict[str, Resources]:
    """Resources of every rule after all layers.

    Args:
        layers: each ``{rule: {name: value}}``, checked by a schema.
    """
    merged = dict(DEFAULTS)
    for layer in layers:
        for rule, given in layer.items():
            merged[rule] = replace(merged[rule], **given)
    return merged
