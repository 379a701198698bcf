"""The wrapper around `snakemake --lint` that `make lint` runs."""

from __future__ import annotations

import runpy
from pathlib import Path

LINT = runpy.run_path(str(Path(__file__).parents[3] / ".ci" / "lint_workflow.py"))

CONTAINER = """Lints for rule train (line 6, rules/train.smk):
    * Specify a conda environment or container for each rule.:
      This way, the used software for each specific step is documented.
"""
NO_LOG = """Lints for rule train (line 6, rules/train.smk):
    * Specify a conda environment or container for each rule.:
      This way, the used software for each specific step is documented.
    * No log directive defined:
      Without a log directive, all output will be printed to the terminal.
"""


def test_the_demand_for_a_container_is_allowed() -> None:
    """The linter exits 1 for it, the check must not."""
    assert LINT["verdict"](CONTAINER, 1) == (0, "snakemake --lint: clean")
    assert LINT["verdict"]("Congratulations, your workflow is in a good condition!\n", 0)[0] == 0


def test_any_other_finding_fails_and_names_its_place() -> None:
    """Allowing one finding must not hide another of the same rule."""
    code, message = LINT["verdict"](NO_LOG, 1)
    assert code == 1
    assert "rule train (line 6, rules/train.smk): No log directive defined" in message
    assert "container" not in message


def test_a_workflow_that_cannot_be_read_fails() -> None:
    """A linter that stopped early found nothing, which is not the same as clean."""
    assert LINT["verdict"]("TokenError: EOF in multi-line statement\n", 1)[0] == 2
