"""What environments there are: one `EnvSpec` per id.

An entry is only a description until `EnvSpec.make` is called, so that a suite file can be
checked, and horizons and scores can be read, on a machine that lacks the environment's packages.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from amago.errors import ConfigurationError
from amago.registry import nearest
from envs_suite.optional import BY_HAND, install_command, need

if TYPE_CHECKING:
    from amago.envs import AMAGOEnv

Value = bool | int | float | str
Params = Mapping[str, Any]
Split = Literal["train", "eval"]
#: Builds the environment that `AMAGOEnv` wraps: (checked parameters, number of instances, split).
Factory = Callable[[dict[str, Any], int, Split], Any]

_MAX_INT = 1_000_000


@dataclass(frozen=True)
class Param:
    """One parameter of an environment.

    Attributes:
        default: also fixes the type: bool, int, float or str.
        low, high: allowed range of a number, both ends included.
        choices: allowed values of a string.
        free: a string may be anything (a path, say).
        doc: one sentence, with units.
    """

    default: Value
    doc: str
    low: float = 0
    high: float = _MAX_INT
    choices: tuple[str, ...] = ()
    free: bool = False

    @property
    def allowed(self) -> str:
        """The allowed values, in words."""
        if isinstance(self.default, bool):
            return "true or false"
        if isinstance(self.default, str):
            # A text that reads as a number is quoted, as it must be in a suite file.
            words = (repr(c) if c.isdigit() else c for c in self.choices)
            return "a text" if self.free else "one of " + ", ".join(words)
        kind = "an integer" if isinstance(self.default, int) else "a number"
        return f"{kind} from {self.low:g} to {self.high:g}"

    def accepts(self, value: object) -> bool:
        """Whether ``value`` has the right type and lies in range."""
        if isinstance(self.default, bool):
            return isinstance(value, bool)
        if isinstance(self.default, str):
            return isinstance(value, str) and (self.free or value in self.choices)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        if isinstance(self.default, int) and not isinstance(value, int):
            return False
        # The comparison is last among numbers: an integer may be beyond what a float holds.
        return self.low <= value <= self.high and math.isfinite(value)


@dataclass(frozen=True)
class Score:
    """The number that tables report for an environment.

    Attributes:
        metric: "return", "success", or a logged metric: a column of episodes.csv.
        direction: whether higher or lower is better.
        low, high: the values between which a score is normalised: the worse of them becomes 0, the better 1.
        source: where ``low`` and ``high`` come from.
    """

    metric: str
    direction: Literal["higher", "lower"]
    low: float
    high: float
    source: str


@dataclass(frozen=True)
class Measured:
    """A mean over episodes that was measured here, with the default parameters.

    Attributes:
        mean: mean of ``Score.metric`` over ``episodes`` episodes.
        standard_error: of that mean.
        episodes: how many.
        seed: of `benchmarks/random_policies.py`, which prints the figure again.
    """

    mean: float
    standard_error: float
    episodes: int
    seed: int


#: Where the public architecture study's numbers are from, and its protocol.
RSM = "RSM-ICLR repository: AMAGO v3.4, 8M steps, 3 seeds, 256 held-out tasks, greedy final policy"


@dataclass(frozen=True)
class Published:
    """A number that others published for this environment (setting included in ``what``).

    Attributes:
        source: where it was published, and how that differs from here.
        interval: of 95 %, or the range that is given.
        unconfirmed: it was taken second-hand, and not seen at its source.
    """

    what: str
    metric: str
    value: float
    source: str
    interval: tuple[float, float] | None = None
    unconfirmed: bool = False

    @property
    def cited(self) -> str:
        """The source, and whether the number was seen there."""
        return (
            f"{self.source} (unconfirmed: taken second-hand, check before quoting)"
            if self.unconfirmed
            else self.source
        )


def _unlimited(params: Params) -> None:
    """Nothing to check."""


@dataclass(frozen=True)
class EnvSpec:
    """An entry of the registry.

    Attributes:
        id: what suite files call it.
        family: ids of one family share one container image.
        description: a sentence for `amago-suite envs`.
        parameters: name -> `Param`.
        score: what tables report; with the bounds of the default parameters.
        bounds_of: for parameters that move the bounds: low, high and their source, or None for those of ``score``.
        best_possible: value of ``score.metric`` for the best policy, where it is known.
        random_score: of uniformly random actions, where measured.
        yardsticks: who -> mean of ``score.metric``, measured here: policies that were written, not trained.
        published: other people's numbers.
        samples_tasks: each episode draws a task, and those of the "eval" split never occur in "train".
        vectorised: ``make`` accepts ``num_envs > 1``.
        licence: of what this entry installs or is.
        check_files: raises ConfigurationError where a file that these parameters need is missing or of no use.
        files_are_in_family: whether ``check_files`` needs the family's packages to look into the files.
        data: writes finished episodes to learn from, in the agent's format, into a folder.
        requires: modules that must be importable; the family's lock brings them.
    """

    id: str
    family: str
    description: str
    licence: str
    score: Score
    horizon_of: Callable[[Params], int]
    factory: Factory
    parameters: Mapping[str, Param] = field(default_factory=dict)
    check_together: Callable[[Params], None] = _unlimited
    vectorised: bool = False
    samples_tasks: bool = False
    best_possible: float | None = None
    random_score: Measured | None = None
    yardsticks: Mapping[str, Measured] = field(default_factory=dict)
    published: tuple[Published, ...] = ()
    requires: tuple[str, ...] = ()
    check_files: Callable[[Params], None] = _unlimited
    files_are_in_family: Callable[[Params], bool] = lambda p: False
    data: Callable[[Params, Path], None] | None = None
    bounds_of: Callable[[Params], tuple[float, float, str] | None] | None = None

    @property
    def install(self) -> str:
        """The command that installs what the environment needs."""
        return self.by_hand or install_command(self.family)

    @property
    def by_hand(self) -> str:
        """The command that installs a package which is on no index, or nothing where a family has all."""
        return next((BY_HAND[module] for module in self.requires if module in BY_HAND), "")

    @property
    def params(self) -> dict[str, Value]:
        """Parameter name -> default."""
        return {name: p.default for name, p in self.parameters.items()}

    def check(self, params: Params | None = None) -> dict[str, Any]:
        """All parameters, defaults filled in.

        Raises:
            ConfigurationError: an unknown name or a value outside its range, in one line.
        """
        for name, value in (params or {}).items():
            if name not in self.parameters:
                hint = nearest(name, sorted(self.parameters)) if self.parameters else "it takes none"
                raise ConfigurationError(f"environment {self.id!r} has no parameter {name!r}; {hint}")
            parameter = self.parameters[name]
            if not parameter.accepts(value):
                raise ConfigurationError(
                    f"environment {self.id!r}: parameter {name!r} must be {parameter.allowed}, got {value!r}"
                )
        full = {**self.params, **(params or {})}
        self.check_together(full)
        return full

    def horizon(self, params: Params | None = None) -> int:
        """The most steps that one episode can last."""
        return self.horizon_of(self.check(params))

    def score_for(self, params: Params | None = None) -> Score:
        """The score with the bounds of these parameters."""
        bounds = None if self.bounds_of is None else self.bounds_of(self.check(params))
        if bounds is None:
            return self.score
        low, high, source = bounds
        return replace(self.score, low=low, high=high, source=source)

    def name(self, params: Params | None = None) -> str:
        """The id, followed by the parameters that are not at their defaults."""
        full = self.check(params)
        changed = [f"{k}={v}" for k, v in full.items() if v != self.parameters[k].default]
        return f"{self.id}[{','.join(changed)}]" if changed else self.id

    def make(
        self, params: Params | None = None, num_envs: int = 1, split: Split = "train", name: str | None = None
    ) -> AMAGOEnv:
        """Build the environment.

        Args:
            params: see ``parameters``.
            num_envs: instances that one ``step`` moves; must be 1 unless ``vectorised``.
            split: "train", or "eval" for the tasks that training never sees.
            name: what metrics call it; ``self.name(params)`` by default.

        Raises:
            ConfigurationError: bad parameters, or a package that is not installed.
        """
        full = self.check(params)
        if split not in ("train", "eval"):
            raise ConfigurationError(f"split must be 'train' or 'eval', got {split!r}")
        if num_envs < 1 or (num_envs > 1 and not self.vectorised):
            allowed = "at least 1" if self.vectorised else "1 (it is not vectorised; make several)"
            raise ConfigurationError(f"environment {self.id!r}: num_envs must be {allowed}, got {num_envs}")
        self.check_installed()
        from amago.envs import AMAGOEnv

        env = self.factory(full, num_envs, split)
        label = name or self.name(params)
        if isinstance(env, AMAGOEnv):
            env._env_name = label
            return env
        return AMAGOEnv(env, env_name=label, batched_envs=num_envs)

    def check_installed(self) -> None:
        """See that this Python can make the environment.

        Raises:
            ConfigurationError: a package is missing; the message has the command.
        """
        for module in self.requires:
            need(module, f"environment {self.id!r}", self.family)


#: Modules that register entries when they are imported.
_CATALOGUES = (
    "catalogue",
    "catalogue_alchemy",
    "catalogue_atari",
    "catalogue_control",
    "catalogue_jax",
    "catalogue_metaworld",
    "catalogue_minigrid",
    "catalogue_nethack",
    "catalogue_offline",
    "catalogue_popgym",
    "catalogue_procgen",
)

_entries: dict[str, EnvSpec] = {}
_loaded = False


def register(spec: EnvSpec) -> EnvSpec:
    """Enter ``spec`` under its id.

    Raises:
        ConfigurationError: the id is taken.
    """
    if spec.id in _entries:
        raise ConfigurationError(f"the environment id {spec.id!r} is taken; choose another")
    _entries[spec.id] = spec
    return spec


def _table() -> dict[str, EnvSpec]:
    global _loaded
    if not _loaded:
        _loaded = True
        for name in _CATALOGUES:
            importlib.import_module(f"envs_suite.{name}")
    return _entries


def get(env_id: str) -> EnvSpec:
    """The entry called ``env_id``.

    Raises:
        ConfigurationError: there is none; the message suggests the nearest ids.
    """
    table = _table()
    if env_id not in table:
        raise ConfigurationError(
            f"unknown environment {env_id!r}; {nearest(env_id, sorted(table))} (`amago-suite envs` lists all)"
        )
    return table[env_id]


def ids() -> list[str]:
    """All ids, sorted."""
    return sorted(_table())
