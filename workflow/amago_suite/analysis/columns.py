"""The schema of every table: name, type and meaning of each column.

``results/README.md`` says the same in prose and a test holds the two together; the writer
refuses a row that does not fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from amago.errors import DataError

Row = dict[str, Any]
_PYTHON = {"text": str, "integer": int, "number": float, "flag": bool}


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        name: in the header.
        kind: ``text``, ``integer``, ``number`` or ``flag`` (true or false).
        doc: what it says, with its unit.
        optional: whether a cell may be empty.
    """

    name: str
    kind: str
    doc: str
    optional: bool = False

    def check(self, value: object, table: str) -> Any:
        """``value`` as the column's Python type; ``None`` where it is empty and may be.

        Raises:
            DataError: another type, an empty cell that may not be, or NaN or infinity.
        """
        if value is None or value != value:
            if self.optional:
                return None
            raise DataError(f"{table}: column {self.name!r} may not be empty")
        if self.kind == "number" and isinstance(value, (int, float)) and not isinstance(value, bool):
            number = float(value)
            if number in (float("inf"), float("-inf")):
                raise DataError(f"{table}: column {self.name!r} is infinite")
            return number
        expected = _PYTHON[self.kind]
        if not isinstance(value, expected) or (self.kind == "integer" and isinstance(value, bool)):
            raise DataError(f"{table}: column {self.name!r} holds {value!r}, which is not {self.kind}")
        return value


@dataclass(frozen=True, slots=True)
class Table:
    """A table: its file's stem, what a row is, and its columns.

    Attributes:
        open_ended: further numeric columns may follow (logged metrics).
    """

    name: str
    row: str
    columns: tuple[Column, ...]
    open_ended: bool = False

    @property
    def header(self) -> list[str]:
        return [c.name for c in self.columns]

    def check(self, rows: list[Row]) -> list[Row]:
        """Rows with exactly these columns, in order, of these types.

        Raises:
            DataError: see ``Column.check``; also a missing or unknown column.
        """
        names = set(self.header)
        checked = []
        for row in rows:
            if row.keys() != names:
                wrong = ", ".join(sorted(row.keys() ^ names))
                raise DataError(f"{self.name}: these columns are missing or unknown: {wrong}")
            checked.append({c.name: c.check(row[c.name], self.name) for c in self.columns})
        return checked


def _text(name: str, doc: str, optional: bool = False) -> Column:
    return Column(name, "text", doc, optional)


def _integer(name: str, doc: str, optional: bool = False) -> Column:
    return Column(name, "integer", doc, optional)


def _number(name: str, doc: str, optional: bool = False) -> Column:
    return Column(name, "number", doc, optional)


def _flag(name: str, doc: str) -> Column:
    return Column(name, "flag", doc)


_ENVIRONMENT = _text("environment", "name of the environment in the suite")
_ARCHITECTURE = _text("architecture", "name of the architecture in the suite")
_SEED = _integer("seed", "seed of the run")
_CI = (
    _number("ci_low", "lower end of the 95 % interval", optional=True),
    _number("ci_high", "upper end of the 95 % interval", optional=True),
    _text("ci_method", "how the interval was made, or why there is none"),
)

EPISODES = Table(
    "episodes",
    "one evaluation episode",
    (
        _text("suite", "name of the suite"),
        _ENVIRONMENT,
        _text("task", "name of the task that was played"),
        _ARCHITECTURE,
        _SEED,
        _integer("actor", "which of the environments stepped side by side"),
        _integer("episode", "count of episodes of that actor, from 0"),
        _number("return", "sum of the rewards of the episode"),
        _integer("length", "steps of the episode"),
        _number("success", "1 for success, 0 for failure, or a share; empty where undefined", optional=True),
    ),
    open_ended=True,
)

RUNS = Table(
    "runs",
    "one run: the unit of replication in every statistic",
    (
        _ENVIRONMENT,
        _text("environment_id", "id of the environment in the registry"),
        _text("family", "environments of one family share a container image"),
        _ARCHITECTURE,
        _SEED,
        _text("metric", "column of episodes.csv that is the score"),
        _number("score", "mean of the metric over the run's evaluation episodes, final policy"),
        _text("direction", "whether a higher or a lower score is better"),
        _number("low", "value of the score that is 0 when normalised"),
        _number("high", "value of the score that is 1 when normalised"),
        _number("normalised", "the score on the scale of these bounds, not clipped"),
        _number(
            "best", "best validation of the same metric over training (MMER for a return)", optional=True
        ),
        _integer("episodes", "evaluation episodes"),
        _number("return", "mean return of the evaluation episodes"),
        _number("success", "mean success of the evaluation episodes", optional=True),
        _number("length", "mean length of the evaluation episodes, steps"),
        _flag("diverged", "training ended in NaN or infinity; the score is of its last policy"),
        _integer("epochs", "epochs trained", optional=True),
        _integer("env_steps", "environment steps trained", optional=True),
        _integer("gradient_steps", "gradient updates", optional=True),
        _integer("parameters", "trainable parameters of the agent", optional=True),
        _text("tuning", "how much tuning the architecture had, as its suite says", optional=True),
        _integer("attempts", "times the training was started", optional=True),
        _number("wall_seconds", "training time over all attempts, s", optional=True),
        _number("gpu_seconds", "GPU time over all attempts, s", optional=True),
        _number("peak_memory_mb", "peak resident memory of training, MiB", optional=True),
        _number("peak_gpu_memory_mb", "peak GPU memory of training, MiB", optional=True),
        _text("engine", "host, docker, podman or apptainer", optional=True),
        _text(
            "image", "id of the container image; of all, where a run went on in another one", optional=True
        ),
        _text("hardware", "CPU and GPU model", optional=True),
        _text("torch", "torch version and build", optional=True),
        _text("git_commit", "commit of the code, '+dirty' where the tree had changes", optional=True),
        _text("train_hash", "identity of the training"),
        _text("evaluation_hash", "identity of the evaluation"),
    ),
)

SCORES = Table(
    "scores",
    "one environment and architecture",
    (
        _ENVIRONMENT,
        _ARCHITECTURE,
        _text("score", "metric, and whether of the final policy or the best over training"),
        _integer("n", "runs"),
        _number("mean", "mean over runs"),
        _number("se", "standard error of that mean; empty for one run", optional=True),
        _number("iqm", "interquartile mean over runs (below 4 runs: the mean)"),
        *_CI,
        _text("published", "what others report for it; source and differences in the notes", optional=True),
    ),
)

AGGREGATE = Table(
    "aggregate",
    "one statistic of one architecture over its environments, scores normalised",
    (
        _ARCHITECTURE,
        _text("statistic", "iqm, median (of environment means), mean or optimality_gap (gamma = 1)"),
        _integer("n", "runs in the environment that has fewest"),
        _integer("runs", "runs in all"),
        _integer("environments", "environments with at least one run"),
        _integer("environments_planned", "environments of the suite"),
        _number("estimate", "point estimate on the normalised scale"),
        *_CI,
        _flag("partial", "runs of the suite are missing from it"),
        _text("missing", "environments without all of their runs", optional=True),
    ),
)

COMPARISONS = Table(
    "comparisons",
    "architecture a against b: in one environment, or over those that both have",
    (
        _text(
            "scope",
            "'environment'; 'these environments' (runs resampled); 'environments like these' (both resampled)",
        ),
        _text("environment", "name of the environment; empty for the other two scopes", optional=True),
        _text("a", "architecture"),
        _text("b", "architecture"),
        _text("score", "metric of the environment, or 'normalised iqm'"),
        _integer("environments", "environments compared"),
        _integer("n_a", "runs of a (fewest in any environment)"),
        _integer("n_b", "runs of b (fewest in any environment)"),
        _number("difference", "a - b, turned so that more is better"),
        *_CI,
        _number("margin", "differences inside +-margin do not matter; unit of the difference"),
        _text("verdict", "better, worse, comparable, inconclusive, or too few runs"),
        _text(
            "seeds_needed",
            "further seeds that would settle it: 0 when settled, or 'none: the environments dominate'",
            optional=True,
        ),
        _number("power", "chance that a true difference of twice the margin is found", optional=True),
        _number("improvement", "probability that a run of a beats one of b (ties one half)", optional=True),
        _number("improvement_low", "lower end of its 95 % interval", optional=True),
        _number("improvement_high", "upper end of its 95 % interval", optional=True),
    ),
)

COSTS = Table(
    "costs",
    "what training cost: a run; then all runs of an environment and architecture; last, all runs, '(all)'",
    (
        _ENVIRONMENT,
        _ARCHITECTURE,
        _integer("seed", "seed of the run; empty in sums", optional=True),
        _integer("runs", "runs in the row"),
        _integer("attempts", "times a training was started", optional=True),
        _integer("env_steps", "environment steps", optional=True),
        _integer("gradient_steps", "gradient updates", optional=True),
        _number("wall_seconds", "training time, s; measured by the trainer", optional=True),
        _number("gpu_hours", "time that training held a GPU, h; measured by the trainer", optional=True),
        _number("cpu_hours", "CPU time that training used, h; measured by the trainer", optional=True),
        _number(
            "env_steps_per_second", "environment steps over wall seconds, learning included", optional=True
        ),
        _number(
            "peak_memory_mb", "largest peak of resident memory, MiB; measured by the trainer", optional=True
        ),
        _number(
            "peak_gpu_memory_mb", "largest peak of GPU memory, MiB; measured by the trainer", optional=True
        ),
        _integer("jobs", "SLURM jobs that trained; from the cluster's accounts", optional=True),
        _number("queue_hours", "time that those jobs waited, h; from the accounts", optional=True),
        _number(
            "allocated_gpu_hours",
            "GPUs that they held times their time, h; from the accounts; a shared job counts in parts",
            optional=True,
        ),
        _number(
            "allocated_cpu_hours",
            "CPUs that they held times their time, h; from the accounts; a shared job counts in parts",
            optional=True,
        ),
        _number(
            "job_peak_memory_mb",
            "largest memory of a job's step, MiB; from the accounts, which look every few seconds",
            optional=True,
        ),
    ),
)

MISSING = Table(
    "missing",
    "a run of the grid that is in no table",
    (
        _ENVIRONMENT,
        _ARCHITECTURE,
        _SEED,
        _text("reason", "not started, running, interrupted, failed, not evaluated, stale or damaged"),
        _text("detail", "why, and what to do", optional=True),
        _text("log", "log of the last attempt, relative to the suite's folder", optional=True),
    ),
)

MOVED = Table(
    "moved",
    "a score of suite A against the same one of suite B",
    (
        _ENVIRONMENT,
        _ARCHITECTURE,
        _text("score", "metric"),
        _integer("n_a", "runs in A"),
        _integer("n_b", "runs in B"),
        _number("mean_a", "mean over the runs of A"),
        _number("mean_b", "mean over the runs of B"),
        _number("difference", "B - A, turned so that more is better"),
        *_CI,
        _text("verdict", "better, worse, comparable, inconclusive or too few runs: of B against A"),
        _text("changed", "what differs in provenance: code, image, torch, training, evaluation", True),
    ),
)

TABLES: Mapping[str, Table] = {
    t.name: t for t in (EPISODES, RUNS, SCORES, AGGREGATE, COMPARISONS, COSTS, MISSING)
}
