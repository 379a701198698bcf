"""Two folders of results against each other: which scores moved, and is it more than seed noise?

For two commits, two images or two suites that share environments and architectures. Runs are
compared as independent samples, as anywhere else here: equal seed numbers promise nothing once
the code differs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from amago.errors import ConfigurationError, DataError
from amago_suite.analysis import comparisons as cmp
from amago_suite.analysis.across import interval_columns
from amago_suite.analysis.columns import MOVED, RUNS, Row
from amago_suite.presentation.layout import Cell, markdown_table, number, plural, with_interval
from amago_suite.tables import PARTIAL_FOLDER, TABLES_FOLDER, read_rows

#: Column of runs.csv -> how it is called when it differs.
_PROVENANCE = {
    "git_commit": "code",
    "image": "image",
    "engine": "engine",
    "torch": "torch",
    "hardware": "hardware",
    "environment_id": "environment",
    "train_hash": "training settings",
    "evaluation_hash": "evaluation settings",
}


@dataclass(frozen=True)
class Moved:
    """What changed from A to B.

    Attributes:
        rows: of ``columns.MOVED``: scores that both have.
        only_a, only_b: (environment, architecture) of scores that one side lacks.
        partial: folders whose tables are partial.
    """

    rows: list[Row]
    only_a: list[tuple[str, str]]
    only_b: list[tuple[str, str]]
    partial: list[Path]

    @property
    def moved(self) -> list[Row]:
        """The rows whose interval excludes zero."""
        return [r for r in self.rows if r["verdict"].startswith((cmp.BETTER, cmp.WORSE))]

    @property
    def markdown(self) -> str:
        """What a person reads."""
        rows = [
            [
                Cell(r["environment"]),
                Cell(r["architecture"]),
                Cell(r["score"]),
                Cell(f"{number(r['mean_a'])} (n={r['n_a']})"),
                Cell(f"{number(r['mean_b'])} (n={r['n_b']})"),
                Cell(with_interval(r, "difference")),
                Cell(r["verdict"]),
                Cell(r["changed"] or "nothing"),
            ]
            for r in self.rows
        ]
        header = ["environment", "architecture", "score", "A", "B", "B - A", "B is", "changed"]
        expected = 0.05 * sum(np.isfinite(r["ci_low"]) for r in self.rows if r["ci_low"] is not None)
        lines = [
            markdown_table(header, rows, left=3),
            "",
            f"{plural(len(self.moved), 'score')} of {len(self.rows)} moved by more than seed noise; "
            f"about {expected:.1f} would by chance alone. The sign is turned so that more is better.",
        ]
        for name, pairs in (("A", self.only_a), ("B", self.only_b)):
            if pairs:
                lines.append(f"Only in {name}: {', '.join(f'{e} / {a}' for e, a in pairs)}.")
        lines += [f"Partial: {folder}." for folder in self.partial]
        return "\n".join(lines) + "\n"


def compare_suites(a: Path, b: Path, margin: float = cmp.MARGIN) -> Moved:
    """Compare the tables of two suite folders.

    Args:
        a, b: ``results/{suite}``, or folders that hold a ``runs.csv`` themselves.
        margin: share of the environment's range within which a difference does not matter.

    Raises:
        ConfigurationError: a folder has no tables.
        DataError: the two score an environment differently.
    """
    folder_a, folder_b = _tables_of(a), _tables_of(b)
    runs_a, runs_b = _grouped(folder_a), _grouped(folder_b)
    rows = [_row(key, runs_a[key], runs_b[key], margin) for key in runs_a if key in runs_b]
    return Moved(
        rows=MOVED.check(rows),
        only_a=[k for k in runs_a if k not in runs_b],
        only_b=[k for k in runs_b if k not in runs_a],
        partial=[f for f in (folder_a, folder_b) if f.name == PARTIAL_FOLDER],
    )


def _tables_of(folder: Path) -> Path:
    """The folder that holds ``runs.csv``: complete tables before partial ones."""
    for candidate in (folder, folder / TABLES_FOLDER, folder / PARTIAL_FOLDER):
        if (candidate / "runs.csv").is_file():
            return candidate
    raise ConfigurationError(
        f"{folder} holds no tables; `amago-suite tables {Path(folder).name}` writes them"
    )


def _grouped(folder: Path) -> dict[tuple[str, str], list[Row]]:
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in read_rows(folder / "runs.csv", RUNS):
        groups.setdefault((row["environment"], row["architecture"]), []).append(row)
    return groups


def _row(key: tuple[str, str], a: list[Row], b: list[Row], margin: float) -> Row:
    first = a[0]
    if (first["metric"], first["direction"]) != (b[0]["metric"], b[0]["direction"]):
        raise DataError(
            f"{key[0]}: A is scored by {first['metric']} and B by {b[0]['metric']}; they cannot be compared"
        )
    sign = 1.0 if first["direction"] == "higher" else -1.0
    x, y = (np.array([r["score"] for r in side]) for side in (a, b))
    said = cmp.compare_runs(sign * y, sign * x, margin * abs(first["high"] - first["low"]))
    return {
        "environment": key[0],
        "architecture": key[1],
        "score": first["metric"],
        "n_a": len(a),
        "n_b": len(b),
        "mean_a": float(x.mean()),
        "mean_b": float(y.mean()),
        "difference": said.difference,
        **interval_columns(said.interval),
        "verdict": said.verdict,
        "changed": ", ".join(_changed(a, b)) or None,
    }


def _changed(a: list[Row], b: list[Row]) -> list[str]:
    """What the provenance of the two sides does not share.

    Hashes are of a run with its seed, so they are compared on the seeds that both have.
    """
    seeds = {r["seed"] for r in a} & {r["seed"] for r in b}
    changed = []
    for column, word in _PROVENANCE.items():
        side_a, side_b = (
            {(r["seed"] if column.endswith("hash") else None, r[column]) for r in side
             if not column.endswith("hash") or r["seed"] in seeds}
            for side in (a, b)
        )  # fmt: skip
        if side_a != side_b:
            changed.append(word)
    if "training settings" in changed and "evaluation settings" in changed:
        changed.remove("evaluation settings")  # its hash contains the other
    return changed
