"""`amago-suite evaluate CELL_FOLDER`: the final policy on the suite's fixed episodes."""

from __future__ import annotations

import csv
import io
import math
import numbers
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amago.errors import AmagoError, ConfigurationError
from amago_suite import gpus
from amago_suite.cell import Cell, read_cell
from amago_suite.engines import box
from amago_suite.exits import DONE, FAILED, RESUMABLE
from amago_suite.folders.files import read_record, write_json, write_text
from amago_suite.locks import die_with_parent
from amago_suite.records import clear_failure, write_failure
from amago_suite.train import cell_lock

if TYPE_CHECKING:
    from amago import Experiment

#: Columns of episodes.csv that come first; the logged metrics follow, sorted.
COLUMNS = (
    "suite",
    "environment",
    "task",
    "architecture",
    "seed",
    "actor",
    "episode",
    "return",
    "length",
    "success",
)


def evaluate(folder: Path, *, parent: int | None = None, log: str | None = None) -> int:
    """Write episodes.csv and evaluation.json of the cell in ``folder``.

    Run twice on one machine, it writes the same bytes.

    Args:
        folder: with ``cell.yaml`` and the trained policy.
        parent: process to die with; given for a job of a workflow.
        log: where the output goes, for the record.

    Returns:
        Exit code.

    Raises:
        ConfigurationError: no policy, or one of another configuration or budget.
    """
    if parent is not None and box.current() is None and not die_with_parent(signal.SIGTERM, parent):
        return RESUMABLE
    cell = read_cell(folder)
    with cell_lock(cell):
        record = trained_record(cell)
        clear_failure(cell)
        try:
            with gpus.use(cell.label, cell.resources["evaluate"].gpus):
                rows = run_episodes(cell)
        except Exception as error:
            if not isinstance(error, AmagoError):
                traceback.print_exc()
            said = write_failure(cell, f"evaluation: {type(error).__name__}: {error}", "evaluate", log)
            print(f"error: {cell.label}: {said}", file=sys.stderr, flush=True)
            return FAILED
        write_results(cell, rows, record.get("diverged"))
    print(f"{cell.label}: {len(rows)} episodes, mean return {_mean(rows, 'return')}", flush=True)
    return DONE


def trained_record(cell: Cell) -> dict[str, Any]:
    """The provenance of the cell's policy.

    Raises:
        ConfigurationError: there is none, or it is of another configuration or budget.
    """
    record = read_record(cell.provenance)
    if record is None or not cell.policy.is_file():
        raise ConfigurationError(f"{cell.folder} has no trained policy: `amago-suite train {cell.folder}`")
    if (record.get("train_hash"), record.get("budget")) != (
        cell.train_hash,
        {"epochs": cell.budget_epochs},
    ):
        raise ConfigurationError(
            f"{cell.policy} is of another configuration or budget than {cell.folder / 'cell.yaml'}: "
            f"`amago-suite train {cell.folder}` first"
        )
    return dict(record)


def load_experiment(cell: Cell, work: Path) -> Experiment:
    """The cell's experiment with its final policy, for acting and not for training.

    Args:
        cell: trained.
        work: an empty folder for what an experiment writes.
    """
    from amago_suite.build import apply_gin, build_experiment
    from amago_suite.process import limit_threads

    limit_threads(cell.threads)
    apply_gin(cell)
    experiment = build_experiment(cell, state=work, log_dir=work, actors=cell.evaluation.actors)
    # Nothing is learned here, and torch's optimisers import its compiler: a second for each job.
    experiment.init_optimizer = lambda policy: None
    experiment.start()
    experiment.load_policy(cell.policy)
    return experiment


def run_episodes(cell: Cell) -> list[dict[str, Any]]:
    """The rows of the cell's evaluation, one an episode."""
    from amago_suite.build import environment_maker
    from amago_suite.process import prepare_process

    prepare_process(cell)
    settings = cell.evaluation
    with tempfile.TemporaryDirectory(prefix="amago-evaluate-") as work:
        experiment = load_experiment(cell, Path(work))
        try:
            result = experiment.evaluate_test(
                environment_maker(cell, "eval", settings.actors),
                episodes_per_actor=settings.episodes_per_actor,
                seed=settings.seed,
                greedy=settings.greedy,
            )
        finally:
            experiment.close()
    return list(result.episodes)


def episodes_text(cell: Cell, rows: list[dict[str, Any]]) -> str:
    """The content of episodes.csv."""
    columns = (*COLUMNS, *_metrics(rows))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        full = {**row, **_names(cell)}
        writer.writerow([_text(full.get(column)) for column in columns])
    return out.getvalue()


def write_results(cell: Cell, rows: list[dict[str, Any]], diverged: str | None) -> None:
    """Write both files; evaluation.json last, because it says that the episodes are whole."""
    from amago_suite import provenance

    write_text(cell.episodes, episodes_text(cell, rows))
    write_json(
        cell.evaluation_file,
        {
            **_names(cell),
            "train_hash": cell.train_hash,
            "evaluation_hash": cell.evaluation_hash,
            "budget": {"epochs": cell.budget_epochs},
            "episodes": len(rows),
            "actors": cell.evaluation.actors,
            "greedy": cell.evaluation.greedy,
            "evaluation_seed": cell.evaluation.seed,
            "means": {name: _mean(rows, name) for name in ("return", "length", "success", *_metrics(rows))},
            "diverged": diverged,
            "policy_sha256": provenance.digest(cell.policy),
            "episodes_sha256": provenance.digest(cell.episodes),
            **provenance.software(),
            "hardware": provenance.hardware(),
            "host": provenance.host(),
        },
    )


def _names(cell: Cell) -> dict[str, Any]:
    """The columns that are the same in every row of a cell."""
    return {
        "suite": cell.suite,
        "environment": cell.environment,
        "architecture": cell.architecture,
        "seed": cell.seed,
    }


def _metrics(rows: list[dict[str, Any]]) -> list[str]:
    """What the environment logged beside the fixed columns."""
    return sorted({key for row in rows for key in row} - set(COLUMNS))


def _text(value: Any) -> str:
    """A number as Python reads it back exactly; nothing for a missing one."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        return value
    return str(int(value)) if isinstance(value, numbers.Integral) else repr(float(value))


def _mean(rows: list[dict[str, Any]], name: str) -> float | None:
    values = [float(row[name]) for row in rows if row.get(name) is not None]
    finite = [value for value in values if math.isfinite(value)]
    return round(math.fsum(finite) / len(finite), 12) if finite else None
