"""A cell: one (environment, architecture, seed) of a grid, resolved down to the last setting.

A cell's folder holds ``cell.yaml``, and with it the cell can be trained and evaluated anywhere,
without the suite file that it came from.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from amago.errors import ConfigurationError
from amago_suite.configuration.identity import evaluation_hash, train_hash
from amago_suite.configuration.resources import DEFAULTS, Resources, merge

CELL_FILE = "cell.yaml"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How the final policy is judged: the same fixed episodes for every cell of an environment."""

    episodes: int  #: in total, a multiple of ``actors``
    actors: int  #: environments stepped side by side
    greedy: bool  #: act with the most likely action instead of a sampled one
    seed: int  #: of the evaluation episodes; independent of the run's seed

    @property
    def episodes_per_actor(self) -> int:
        return self.episodes // self.actors


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """When training is saved. In no hash, because it never changes a result."""

    every_epochs: int
    keep: int  #: newest checkpoints that stay on disk
    every_minutes: float | None = None  #: also at the first segment's end after so long


@dataclass(frozen=True, slots=True)
class Cell:
    """Everything that training and evaluating one run needs to know."""

    suite: str
    environment: str  #: name in the suite; also a folder and a column
    env_id: str  #: registry id
    env_params: dict[str, Any]  #: complete: defaults merged with the suite's
    family: str  #: environments of one family share an image
    architecture: str  #: name in the suite; also a folder and a column
    seed: int
    gin: str  #: every layer merged, canonical text
    threads: int  #: CPU threads of torch
    segment_epochs: int  #: training environments are reset every so many epochs
    budget_epochs: int
    checkpoints: Checkpoints
    evaluation: Evaluation
    train_hash: str
    evaluation_hash: str
    folder: Path  #: results/{suite}/{environment}/{architecture}/seed_{seed}
    imports: tuple[str, ...] = ()  #: modules that the gin layers import, beyond this project's own
    deterministic: bool = False  #: kernels on a GPU; in no hash, like the machine that a run lands on
    resources: dict[str, Resources] = field(default_factory=lambda: dict(DEFAULTS))  #: of each rule's job

    @property
    def key(self) -> tuple[str, str, int]:
        return self.environment, self.architecture, self.seed

    @property
    def label(self) -> str:
        """How messages name the cell."""
        return f"{self.environment} / {self.architecture} / seed {self.seed}"

    def cpus(self, rule: str) -> int:
        """CPUs of this cell's job of a rule."""
        return self.resources[rule].cpus or self.threads

    @property
    def state(self) -> Path:
        """Checkpoints, replay and attempts: never a declared output, so that it survives failures."""
        return self.folder / "state"

    @property
    def policy(self) -> Path:
        return self.folder / "policy.safetensors"

    @property
    def provenance(self) -> Path:
        return self.folder / "provenance.json"

    @property
    def episodes(self) -> Path:
        return self.folder / "episodes.csv"

    @property
    def evaluation_file(self) -> Path:
        return self.folder / "evaluation.json"

    @property
    def progress(self) -> Path:
        return self.folder / "progress.csv"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def config(self) -> Path:
        """The gin bindings that training used."""
        return self.folder / "config.txt"

    @property
    def failed(self) -> Path:
        """Present when the last invocation met a failure that a retry cannot mend."""
        return self.state / "failed.json"

    def to_dict(self) -> dict[str, Any]:
        """The content of ``cell.yaml`` (all fields but the folder, which is where it lies)."""
        return {
            "suite": self.suite,
            "environment": {
                "name": self.environment,
                "id": self.env_id,
                "params": self.env_params,
                "family": self.family,
            },
            "architecture": self.architecture,
            "seed": self.seed,
            "threads": self.threads,
            "deterministic": self.deterministic,
            "segment_epochs": self.segment_epochs,
            "budget": {"epochs": self.budget_epochs},
            "checkpoint": {k: v for k, v in asdict(self.checkpoints).items() if v is not None},
            "evaluation": asdict(self.evaluation),
            "resources": {rule: asdict(resources) for rule, resources in self.resources.items()},
            "train_hash": self.train_hash,
            "evaluation_hash": self.evaluation_hash,
            **({"imports": list(self.imports)} if self.imports else {}),
            "gin": self.gin,
        }


def cell_folder(results: Path, suite: str, environment: str, architecture: str, seed: int) -> Path:
    """Where a cell lives below the results folder."""
    return results / suite / environment / architecture / f"seed_{seed}"


_Base: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _BlockDumper(_Base):
    """Writes text of many lines (the gin bindings) as a block that a person can read."""


def _represent_text(dumper: Any, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_BlockDumper.add_representer(str, _represent_text)


def cell_text(cell: Cell) -> str:
    """The text of ``cell.yaml``."""
    body = yaml.dump(cell.to_dict(), Dumper=_BlockDumper, sort_keys=False, allow_unicode=True, width=1000)
    return f"# Written by amago-suite from the suite file; edit that one, not this.\n{body}"


def read_cell(folder: Path) -> Cell:
    """Read and check ``folder/cell.yaml``.

    Raises:
        ConfigurationError: no such file, not a cell, or its hashes do not belong to its content.
    """
    from amago_suite.configuration.schema import load_yaml, validate

    path = Path(folder) / CELL_FILE
    if not path.is_file():
        raise ConfigurationError(
            f"{folder} has no {CELL_FILE}: give the folder of a cell, results/SUITE/ENVIRONMENT/ARCHITECTURE/seed_N"
        )
    data = load_yaml(path)
    validate(data, "cell", path)
    environment = data["environment"]
    cell = Cell(
        suite=data["suite"],
        environment=environment["name"],
        env_id=environment["id"],
        env_params=environment["params"],
        family=environment["family"],
        architecture=data["architecture"],
        seed=data["seed"],
        gin=data["gin"],
        threads=data["threads"],
        segment_epochs=data["segment_epochs"],
        budget_epochs=data["budget"]["epochs"],
        checkpoints=Checkpoints(**data["checkpoint"]),
        evaluation=Evaluation(**data["evaluation"]),
        train_hash=data["train_hash"],
        evaluation_hash=data["evaluation_hash"],
        folder=Path(folder),
        imports=tuple(data.get("imports", ())),
        deterministic=data.get("deterministic", False),
        resources=merge([data.get("resources", {})]),
    )
    expected = hash_cell(
        env_id=cell.env_id,
        env_params=cell.env_params,
        seed=cell.seed,
        gin=cell.gin,
        threads=cell.threads,
        segment_epochs=cell.segment_epochs,
        budget_epochs=cell.budget_epochs,
        evaluation=cell.evaluation,
        imports=cell.imports,
    )
    if (cell.train_hash, cell.evaluation_hash) != expected:
        raise ConfigurationError(
            f"{path}: the hashes do not belong to the content (edited by hand, or written by another version); "
            f"change the suite file and run `amago-suite run {cell.suite}`, which writes it anew"
        )
    return cell


def hash_cell(
    *,
    env_id: str,
    env_params: dict[str, Any],
    seed: int,
    gin: str,
    threads: int,
    segment_epochs: int,
    budget_epochs: int,
    evaluation: Evaluation,
    imports: tuple[str, ...] = (),
) -> tuple[str, str]:
    """(train_hash, evaluation_hash) of a cell with these settings."""
    trained = train_hash(
        env_id=env_id,
        env_params=env_params,
        seed=seed,
        gin=gin,
        threads=threads,
        segment_epochs=segment_epochs,
        imports=imports,
    )
    return trained, evaluation_hash(trained, budget_epochs, asdict(evaluation))
