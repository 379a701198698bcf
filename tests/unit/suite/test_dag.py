"""What the Snakefile is given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from amago_suite import dag
from amago_suite.grid import Grid, write_plan

Planner = Callable[..., Grid]


def test_jobs_read_the_plan(grid_of: Planner) -> None:
    """A job that parses the Snakefile again must get the same grid without planning it."""
    grid = grid_of()
    write_plan(grid)
    Path("tiny.yaml").write_text("no suite any more: [")
    assert dag.load_grid({"suite": "tiny.yaml"}, main=False) == grid


def test_smoke_may_be_spelled_as_in_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Snakemake leaves `smoke=true` as text."""
    monkeypatch.chdir(tmp_path)
    assert dag.load_grid({"suite": "quick", "smoke": "true"}, main=True).suite == "quick-smoke"


def test_parameters_of_a_rule(grid_of: Planner) -> None:
    """Every job gets the values of its own cell."""
    grid = grid_of()
    of = dag.reader(grid)
    wildcards = SimpleNamespace(environment="tmaze-passive", architecture="rnn", seed="1")
    assert of(lambda cell: cell.train_hash)(wildcards) == grid.cells[3].train_hash


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"suite": "quik"}, "error: unknown suite 'quik'"),
        ({"siute": "quick"}, "error: --config: unknown key 'siute'; did you mean suite"),
        ({"suite": "quick", "smoke": "yes"}, "error: --config: smoke: must be true or false"),
    ],
)
def test_wrong_config_ends_with_one_line(
    config: dict[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Snakemake itself would print a traceback and exit with 1."""
    with pytest.raises(SystemExit) as ended:
        dag.load_grid(config, main=True)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(said)


def test_the_tables_follow_the_grid(grid_of: Planner) -> None:
    """Another evaluation means other tables, the same grid means the same ones."""
    base = {
        "environments": "[tmaze-passive]",
        "architectures": "[ff]",
        "seeds": "[0]",
        "budget": "{ epochs: 1 }",
    }
    text = "\n".join(f"{key}: {value}" for key, value in base.items())
    assert dag.grid_digest(grid_of(text)) == dag.grid_digest(grid_of(text + "\n# a comment"))
    assert dag.grid_digest(grid_of(text)) != dag.grid_digest(grid_of(text + "\nevaluation: { episodes: 7 }"))


def test_a_plan_from_elsewhere_is_not_made_again(grid_of: Planner, monkeypatch, tmp_path: Path) -> None:
    """A dry run gets its plan by a file outside of the results, where it leaves no trace."""
    grid = grid_of()
    path = tmp_path / "elsewhere" / "plan.json"
    write_plan(grid, path)
    monkeypatch.setenv(dag.PLAN_VARIABLE, str(path))
    Path("tiny.yaml").write_text("no suite any more: [")
    assert dag.load_grid({"suite": "tiny.yaml"}, main=True) == grid
    assert not grid.folder.exists()
