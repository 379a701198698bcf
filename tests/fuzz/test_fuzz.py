"""Hostile files for every reader, a few of each: one clear error at most, and nothing runs.

`make fuzz` feeds a hundred thousand.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.fuzz import fuzz
from tests.fuzz.kinds import Target
from tests.fuzz.targets import targets
from tests.fuzz.watch import bounded_memory

NAMES = [
    *(
        "suite file (YAML)",
        "plan.json",
        "gin layer",
        "cell.yaml",
        "gin of a cell",
        "lock",
        "owner of a suite",
    ),
    *(
        "provenance.json",
        "evaluation.json",
        "identity.json",
        "episodes.csv",
        "progress.csv",
        "attempts.jsonl",
    ),
    *("failed.json", "metrics.jsonl", "runs.csv", "checkpoint state.json", "checkpoint COMPLETE"),
    *("checkpoint policy.safetensors", "checkpoint optimizer.pt", "replay shard", "replay .npz"),
    *("policy.safetensors", "policy .pt"),
]


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Target]]:
    """The targets, by name, in a folder of their own."""
    before = Path.cwd()
    found = {t.name: t for t in targets(tmp_path_factory.mktemp("fuzz") / "work")}
    assert list(found) == NAMES
    yield found
    assert not list(Path.cwd().rglob("canary*"))
    os.chdir(before)


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_file_is_refused_in_one_line(known: dict[str, Target], name: str) -> None:
    """Guards every reader: no crash but AmagoError, no execution, no hang, bounded memory."""
    with bounded_memory():
        count = fuzz(known[name], max(int(60 * known[name].share), 20), number=7)
    assert count.inputs >= 15


@pytest.mark.parametrize("name", NAMES)
def test_a_valid_file_is_accepted(known: dict[str, Target], name: str) -> None:
    """Guards the fuzzing itself: hostile files are changed from one that the reader takes to the end."""
    if known[name].valid:
        known[name].read(known[name].valid)
