"""From a suite file to its grid of cells."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amago.errors import ConfigurationError
from amago.registry import nearest
from amago_suite.cell import Cell, Checkpoints, Evaluation, cell_folder, hash_cell
from amago_suite.configuration.resources import Resources, merge
from amago_suite.configuration.schema import defaults, load_yaml, validate
from amago_suite.configuration.site import read_site
from amago_suite.folders.files import read_json, write_json
from amago_suite.paths import ARCHITECTURES, BASE_GIN, ENVIRONMENTS, RESULTS, SUITES, shown

if TYPE_CHECKING:
    from amago_suite.configuration.gin_layers import Layer

#: Folders of results/{suite}/ that are not environments.
RESERVED_NAMES = ("tables", "partial", "logs", "report")

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_MOST_ACTORS = 25
_MOST_CELLS = 100_000


@dataclass(frozen=True, slots=True)
class Score:
    """How an environment is scored, as its registry entry says."""

    metric: str  #: a column of episodes.csv: "return", "success" or a logged metric
    direction: str  #: "higher" or "lower" is better
    low: float  #: becomes 0 when normalised
    high: float  #: becomes 1 when normalised
    source: str  #: where the bounds come from


@dataclass(frozen=True, slots=True)
class Environment:
    """A row of the grid: an environment of the suite, with its parameters."""

    name: str  #: unique in the suite; folder and column
    id: str  #: registry id
    params: dict[str, Any]
    family: str
    horizon: int  #: longest episode, in steps
    budget_epochs: int
    score: Score


@dataclass(frozen=True, slots=True)
class Grid:
    """A planned suite: its axes and all of its cells, in the order environment, architecture, seed."""

    suite: str
    title: str
    description: str
    environments: tuple[Environment, ...]
    architectures: tuple[str, ...]
    seeds: tuple[int, ...]
    cells: tuple[Cell, ...]
    folder: Path  #: results/{suite}
    file: Path  #: the suite file that it was planned from
    tuning: dict[str, str] = field(default_factory=dict)  #: architecture -> how it was tuned, where stated

    def __iter__(self) -> Iterator[Cell]:
        return iter(self.cells)

    def __len__(self) -> int:
        return len(self.cells)

    def environment(self, name: str) -> Environment:
        """The environment called ``name``; KeyError where there is none."""
        for environment in self.environments:
            if environment.name == name:
                return environment
        raise KeyError(name)

    @property
    def typed(self) -> str:
        """The suite as a person types it after `amago-suite run`."""
        ours = self.file.parent.parts[-2:] == SUITES.parts[-2:]
        name = self.file.stem if ours else shlex.quote(str(self.file))
        return f"{name} --smoke" if self.suite != self.file.stem else name

    @property
    def plan_file(self) -> Path:
        """Where `write_plan` leaves the grid for jobs that must not plan it again."""
        return self.folder / "plan.json"


def suite_file(suite: str) -> Path:
    """The file of a suite given by name, or by a path that ends in .yaml.

    Raises:
        ConfigurationError: no such suite (with the nearest names), or a name that is none.
    """
    if suite.endswith((".yaml", ".yml")) or "/" in suite:
        path = Path(suite)
        if not path.is_file():
            raise ConfigurationError(f"there is no suite file {suite}")
    else:
        path = SUITES / f"{suite}.yaml"
        known = sorted(file.stem for file in SUITES.glob("*.yaml"))
        if suite not in known:
            raise ConfigurationError(
                f"unknown suite {suite!r}; {nearest(suite, known)} (or give a path to a .yaml file)"
            )
    if not _NAME.fullmatch(path.stem) or len(path.stem) > 64 or path.suffix not in (".yaml", ".yml"):
        raise ConfigurationError(
            f"{path.name!r} cannot name a suite: lower-case letters, digits and single hyphens, then .yaml"
        )
    return path


def plan(suite: str, *, smoke: bool = False, results: Path = RESULTS) -> Grid:
    """Read a suite file, merge all layers, and lay out its cells.

    Args:
        suite: name in config/suites/, or a path to a YAML file.
        smoke: the small size of the same suite.
        results: folder for the results of all suites.

    Raises:
        ConfigurationError: anything wrong in the suite or gin files, in one line.
    """
    from amago_suite.configuration.gin_layers import register_configurables

    file = suite_file(suite)
    content = load_yaml(file)
    validate(content, "suite", file)
    if smoke and "smoke" not in content:
        raise ConfigurationError(f"{shown(file)}: has no `smoke:` section, so there is no small size of it")
    register_configurables()
    try:
        return _Planner(file, content, smoke, results).grid()
    except ConfigurationError as error:
        # Registry and layer errors know their own place; the suite is where a person starts to look.
        message = str(error)
        if not message.startswith((shown(file), "config/")):
            message = f"{shown(file)}: {message}"
        raise ConfigurationError(message) from error


class _Planner:
    """One pass over a validated suite file."""

    def __init__(self, file: Path, content: dict[str, Any], smoke: bool, results: Path) -> None:
        self.file = file
        self.content = content
        self.smoke: dict[str, Any] = content.get("smoke", {}) if smoke else {}
        self.suite = f"{file.stem}-smoke" if smoke else file.stem
        self.results = results
        self.site = read_site()
        self._layers: dict[tuple[str, str], Layer] = {}

    def setting(self, key: str, default: Any = None) -> Any:
        return self.smoke.get(key, self.content.get(key, default))

    def entries(self, key: str) -> list[dict[str, Any]]:
        """The suite's entries, each with a name; for the small size those that it keeps."""
        entries = _entries(self.content[key], key)
        kept = self.smoke.get(key)
        if kept is None:
            return entries
        named = {entry["name"]: entry for entry in entries}
        for name in kept:
            if name not in named:
                raise ConfigurationError(
                    f"smoke.{key}: the suite has no {name!r}; {nearest(name, list(named))}"
                )
        return [named[name] for name in dict.fromkeys(kept)]

    def grid(self) -> Grid:
        environment_entries = self.entries("environments")
        architecture_entries = self.entries("architectures")
        for entry in environment_entries:
            if entry["name"] in RESERVED_NAMES:
                raise ConfigurationError(
                    f"environments: the name {entry['name']!r} is taken by a folder of the results; choose another"
                )
        environments = [self.environment(entry) for entry in environment_entries]
        seeds = tuple(self.setting("seeds"))
        count = len(environments) * len(architecture_entries) * len(seeds)
        if count > _MOST_CELLS:
            raise ConfigurationError(
                f"a grid of {count:,} cells; at most {_MOST_CELLS:,} are planned at once"
            )
        cells: list[Cell] = []
        for environment, entry in zip(environments, environment_entries, strict=True):
            for architecture in architecture_entries:
                template = self.template(environment, entry, architecture)
                cells.extend(self.cell(template, seed) for seed in seeds)
        return Grid(
            suite=self.suite,
            title=" ".join(self.content.get("title", self.suite).split()) or self.suite,
            description=self.content.get("description", ""),
            environments=tuple(environments),
            architectures=tuple(entry["name"] for entry in architecture_entries),
            seeds=seeds,
            cells=tuple(cells),
            folder=self.results / self.suite,
            file=self.file,
            tuning={
                entry["name"]: told
                for entry in architecture_entries
                if (told := entry.get("tuning", self.content.get("tuning", "")))
            },
        )

    def environment(self, entry: dict[str, Any]) -> Environment:
        import envs_suite

        spec = envs_suite.get(entry["id"])
        params = spec.check(entry.get("params", {}))
        score = spec.score_for(params)
        budget = self.smoke.get("budget") or entry.get("budget") or self.content["budget"]
        return Environment(
            name=entry["name"],
            id=spec.id,
            params=params,
            family=spec.family,
            horizon=spec.horizon(params),
            budget_epochs=budget["epochs"],
            score=Score(score.metric, score.direction, score.low, score.high, score.source),
        )

    def template(self, environment: Environment, entry: dict[str, Any], architecture: dict[str, Any]) -> Cell:
        """The cell of this pair but for its seed: gin is resolved once per pair."""
        from amago_suite.configuration.gin_layers import Bindings

        bindings = Bindings(self.layers(environment, entry, architecture))
        collected = bindings.value("Experiment", "train_timesteps_per_epoch")
        if type(collected) is not int or collected < 1:
            raise ConfigurationError(
                "`Experiment.train_timesteps_per_epoch` must be an integer and at least 1"
            )
        segment = self.content.get("segment_epochs", -(-environment.horizon // collected))
        return Cell(
            suite=self.suite,
            environment=environment.name,
            env_id=environment.id,
            env_params=environment.params,
            family=environment.family,
            architecture=architecture["name"],
            seed=0,
            gin=bindings.text(),
            threads=self.setting("threads", defaults("suite")["threads"]),
            segment_epochs=segment,
            budget_epochs=environment.budget_epochs,
            checkpoints=Checkpoints(
                **{**defaults("suite", "checkpoint"), **self.content.get("checkpoint", {})}
            ),
            evaluation=_evaluation(self.setting("evaluation", {})),
            train_hash="",
            evaluation_hash="",
            folder=Path(),
            imports=bindings.imports,
            deterministic=self.content.get("deterministic", defaults("suite")["deterministic"]),
            resources=merge(
                [
                    *self.site.layers(environment.family),
                    *(given.get("resources", {}) for given in (self.content, entry, architecture)),
                ]
            ),
        )

    def cell(self, template: Cell, seed: int) -> Cell:
        trained, evaluated = hash_cell(
            env_id=template.env_id,
            env_params=template.env_params,
            seed=seed,
            gin=template.gin,
            threads=template.threads,
            segment_epochs=template.segment_epochs,
            budget_epochs=template.budget_epochs,
            evaluation=template.evaluation,
            imports=template.imports,
        )
        return replace(
            template,
            seed=seed,
            train_hash=trained,
            evaluation_hash=evaluated,
            folder=cell_folder(self.results, self.suite, template.environment, template.architecture, seed),
        )

    def layers(
        self, environment: Environment, entry: dict[str, Any], architecture: dict[str, Any]
    ) -> Iterator[Layer]:
        """All layers of a pair; later ones win."""
        macros = f"horizon = {environment.horizon}\ntime_indices = {environment.horizon + 1}"
        yield self.layer(macros, "the registry")
        yield self.layer_of(BASE_GIN)
        for name in dict.fromkeys((environment.family, environment.id)):
            path = ENVIRONMENTS / f"{name}.gin"
            if path.is_file():
                yield self.layer_of(path)
        path = ARCHITECTURES / f"{architecture['id']}.gin"
        if not path.is_file():
            known = architecture_names()
            raise ConfigurationError(
                f"unknown architecture {architecture['id']!r}; {nearest(architecture['id'], known)}"
            )
        yield self.layer_of(path)
        suite = shown(self.file)
        yield self.layer(self.content.get("gin", ""), f"{suite}: gin")
        yield self.layer(entry.get("gin", ""), f"{suite}: environments.{environment.name}.gin")
        yield self.layer(architecture.get("gin", ""), f"{suite}: architectures.{architecture['name']}.gin")
        yield self.layer(self.smoke.get("gin", ""), f"{suite}: smoke.gin")

    def layer_of(self, path: Path) -> Layer:
        try:
            return self.layer(path.read_text(encoding="utf-8"), shown(path))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"cannot read {shown(path)}: {error}") from error

    def layer(self, text: str, source: str) -> Layer:
        """Each text is parsed once, however many pairs it is part of."""
        from amago_suite.configuration.gin_layers import parse_layer

        key = (text, source)
        if key not in self._layers:
            self._layers[key] = parse_layer(text, source)
        return self._layers[key]


def architecture_names() -> list[str]:
    """The files of config/architectures/, without .gin."""
    return sorted(file.stem for file in ARCHITECTURES.glob("*.gin"))


def _entries(given: list[str | dict[str, Any]], key: str) -> list[dict[str, Any]]:
    """Entries as mappings with a name, each name once."""
    entries = [{"id": entry} if isinstance(entry, str) else entry for entry in given]
    named = [{"name": entry["id"], **entry} for entry in entries]
    twice = [name for name, count in Counter(entry["name"] for entry in named).items() if count > 1]
    if twice:
        raise ConfigurationError(f"{key}: {twice[0]!r} is there twice; give one of them a `name` of its own")
    return named


def _evaluation(given: dict[str, Any]) -> Evaluation:
    settings = {**defaults("suite", "evaluation"), **given}
    episodes = settings["episodes"]
    if "actors" not in settings:
        settings["actors"] = max(n for n in range(1, min(episodes, _MOST_ACTORS) + 1) if episodes % n == 0)
    if episodes % settings["actors"]:
        raise ConfigurationError(
            f"evaluation.actors: {settings['actors']} does not divide the {episodes} episodes; leave it out"
        )
    return Evaluation(**settings)


def write_plan(grid: Grid, path: Path | None = None) -> None:
    """Leave the grid as JSON for jobs, which need neither torch nor the gin files to read it.

    Args:
        grid: planned.
        path: where, if not in its own folder.
    """
    path = grid.plan_file if path is None else path
    texts = list(dict.fromkeys(cell.gin for cell in grid))
    number = {text: index for index, text in enumerate(texts)}
    cells = []
    for cell in grid:
        content = asdict(cell)
        del content["folder"], content["suite"], content["imports"]
        if cell.imports:
            content["imports"] = list(cell.imports)
        cells.append({**content, "gin": number[cell.gin]})
    content = {
        "suite": grid.suite,
        "title": grid.title,
        "description": grid.description,
        "file": str(grid.file),
        "environments": [asdict(environment) for environment in grid.environments],
        "architectures": list(grid.architectures),
        "seeds": list(grid.seeds),
        "tuning": grid.tuning,
        "gin": texts,
        "cells": cells,
    }
    if read_json(path) != content:
        write_json(path, content, durable=False)


def read_plan(path: Path, folder: Path | None = None) -> Grid:
    """The grid that `write_plan` left in results/{suite}/plan.json.

    Args:
        path: of the plan.
        folder: results/{suite}, where the plan does not lie in it.

    Raises:
        ConfigurationError: there is none.
    """
    content = read_json(path)
    if content is None:
        raise ConfigurationError(f"there is no plan {path}: `amago-suite run` writes it")
    try:
        return _grid_of(content, path.parent if folder is None else folder)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ConfigurationError(
            f"{path}: not a plan of this version ({error!r}): `amago-suite run` writes it anew"
        ) from error


def _grid_of(content: dict[str, Any], folder: Path) -> Grid:
    """The grid of a plan's content; any of Python's errors where it is none."""
    suite = content["suite"]
    cells = []
    for entry in content["cells"]:
        names = (suite, entry["environment"], entry["architecture"])
        if not all(_NAME.fullmatch(name) for name in names) or type(entry["seed"]) is not int:
            raise ValueError(f"{names} cannot name folders")
        entry["gin"] = content["gin"][entry["gin"]]
        entry["imports"] = tuple(entry.get("imports", ()))
        entry["checkpoints"] = Checkpoints(**entry["checkpoints"])
        entry["evaluation"] = Evaluation(**entry["evaluation"])
        entry["resources"] = {rule: Resources(**given) for rule, given in entry["resources"].items()}
        place = cell_folder(folder.parent, suite, entry["environment"], entry["architecture"], entry["seed"])
        cells.append(Cell(suite=suite, folder=place, **entry))
    return Grid(
        suite=suite,
        title=content["title"],
        description=content["description"],
        environments=tuple(
            Environment(**{**entry, "score": Score(**entry["score"])}) for entry in content["environments"]
        ),
        architectures=tuple(content["architectures"]),
        seeds=tuple(content["seeds"]),
        cells=tuple(cells),
        folder=folder,
        file=Path(content["file"]),
        tuning=dict(content.get("tuning", {})),
    )
