"""Writes docs/environments.md from the registry.

python docs/environments.py            write the page
python docs/environments.py --check    only say whether it is current (exit code 1 when it is not)
"""

from __future__ import annotations

import sys
from pathlib import Path

import envs_suite
from envs_suite.optional import CORE
from envs_suite.registry import EnvSpec, Measured

PAGE = Path(__file__).with_suffix(".md")
_HEAD = """# Environments

What a suite file can name. This page is written from the registry by `python docs/environments.py`; do not
edit it by hand. `amago-suite envs ID` shows one entry in the terminal.

Horizons, scores and bounds are those of the default parameters; a suite's tables use those of its own. A score
of uniformly random actions is the mean over that many episodes of training's tasks, with the standard error of
that mean (`python benchmarks/random_policies.py ID --episodes N --seed S` prints it again).
Families share one set of packages, one virtual environment and one image: `core` is part of every set-up, the
others are built with `make family-NAME`. The registry can be read without any of them.

Columns: *vectorised* environments move many instances with one call; those that *sample tasks* never train on
a task that evaluation uses. Levels that a package makes from a number (MiniGrid, Procgen, NetHack) are told apart by it,
lakes by every cell: a few of evaluation's play like one of training's, having other cells only where holes shut them off
(`envs_suite/frozen_lake.py` says how many).
"""


def _number(value: float) -> str:
    return f"{value:.6g}"


def _measured(score: Measured | None) -> str:
    if score is None:
        return "not measured"
    return f"{score.mean:.4g} ± {score.standard_error:.2g} (n = {score.episodes}, seed {score.seed})"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return lines + ["| " + " | ".join(_cell(c) for c in row) + " |" for row in rows] + [""]


def overview(specs: list[EnvSpec]) -> list[str]:
    """One row an environment, as lines."""
    rows = []
    for spec in specs:
        rows.append(
            [
                f"[{spec.id}](#{spec.id})",
                spec.family,
                str(spec.horizon()),
                f"{spec.score.metric} ({spec.score.direction})",
                "" if spec.random_score is None else _number(round(spec.random_score.mean, 4)),
                "" if spec.best_possible is None else _number(spec.best_possible),
                "yes" if spec.vectorised else "",
                "yes" if spec.samples_tasks else "",
            ]
        )
    head = ["id", "family", "horizon", "score", "random", "best possible", "vectorised", "samples tasks"]
    return _table(head, rows)


def section(spec: EnvSpec) -> list[str]:
    """Everything about one environment, as lines."""
    score = spec.score
    lines = [f"## {spec.id}", "", spec.description, ""]
    lines += [
        f"* Score: `{score.metric}`, {score.direction} is better; normalised between {_number(score.low)} and "
        f"{_number(score.high)} ({score.source}).",
        f"* Horizon: {spec.horizon()} steps.",
        f"* Uniformly random actions: {_measured(spec.random_score)}.",
    ]
    lines += [f"* Measured here, {who}: {_measured(score)}." for who, score in spec.yardsticks.items()]
    if spec.best_possible is not None:
        lines.append(f"* Best possible: {_number(spec.best_possible)}.")
    installed = f", installed with `{spec.install}`" if spec.by_hand or spec.family != CORE else ""
    lines += [f"* Family `{spec.family}`{installed}; licence: {spec.licence}.", ""]
    if spec.parameters:
        rows = [[f"`{n}`", f"`{p.default}`", p.allowed, p.doc] for n, p in spec.parameters.items()]
        lines += _table(["parameter", "default", "allowed", "meaning"], rows)
    if spec.published:
        rows = []
        for entry in spec.published:
            interval = "" if entry.interval is None else f" [{entry.interval[0]:g}, {entry.interval[1]:g}]"
            rows.append([entry.what, entry.metric, f"{entry.value:g}{interval}", entry.cited])
        lines += _table(["published result", "metric", "value", "source"], rows)
    return lines


def page() -> str:
    """The whole page."""
    specs = [envs_suite.get(env_id) for env_id in envs_suite.ids()]
    lines = [*_HEAD.splitlines(), "", *overview(specs)]
    for spec in specs:
        lines += section(spec)
    return "\n".join(lines).rstrip() + "\n"


def main(arguments: list[str]) -> int:
    """Write or check the page."""
    text = page()
    if "--check" in arguments:
        current = PAGE.exists() and PAGE.read_text(encoding="utf-8") == text
        print(f"{PAGE} is {'current' if current else 'out of date: run python docs/environments.py'}")
        return 0 if current else 1
    PAGE.write_text(text, encoding="utf-8")
    print(f"wrote {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
