"""From a suite file to cells: what is in the grid, and what identifies a run."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from amago.errors import ConfigurationError
from amago_suite.cell import cell_text, read_cell
from amago_suite.folders.files import write_text
from amago_suite.grid import Grid, plan, read_plan, suite_file, write_plan

Planner = Callable[..., Grid]

BASE = """
environments:
  - {{ id: tmaze-passive, params: {{ corridor: {corridor} }} }}
architectures: [rnn]
seeds: [0]
budget: {{ epochs: {epochs} }}
threads: {threads}
evaluation: {{ episodes: {episodes}, seed: {seed} }}
gin: |
  Agent.tau = {tau}  {comment}
"""
DEFAULTS = {"corridor": 3, "epochs": 4, "threads": 1, "episodes": 10, "seed": 0, "tau": 0.01, "comment": ""}


def hashes(grid_of: Planner, **changed: object) -> tuple[str, str]:
    (cell,) = grid_of(BASE.format(**{**DEFAULTS, **changed}))
    return cell.train_hash, cell.evaluation_hash


def test_cells_are_the_product_of_the_axes(grid_of: Planner) -> None:
    """Every (environment, architecture, seed) is there once, each in its own folder."""
    grid = grid_of()
    assert [cell.key for cell in grid] == [
        ("tmaze-passive", architecture, seed) for architecture in ("ff", "rnn") for seed in (0, 1)
    ]
    assert grid.cells[3].folder == Path("results/tiny/tmaze-passive/rnn/seed_1")
    assert len({cell.train_hash for cell in grid}) == 4


def test_bounds_are_those_of_the_parameters(grid_of: Planner) -> None:
    """A score is normalised between what its environment's own parameters allow."""
    text = (
        BASE.format(**DEFAULTS)
        .replace("tmaze-passive", "procgen-starpilot")
        .replace("corridor: 3", "mode: hard")
    )
    (environment,) = grid_of(text).environments
    assert (environment.score.low, environment.score.high) == (1.5, 35.0)
    assert "hard mode" in environment.score.source


@pytest.mark.parametrize("comment", ["# a thought", ""])
def test_a_comment_changes_no_hash(grid_of: Planner, comment: str) -> None:
    """A cosmetic edit must not retrain anything."""
    assert hashes(grid_of, comment=comment) == hashes(grid_of)


@pytest.mark.parametrize("change", [{"tau": 0.02}, {"corridor": 4}, {"threads": 2}])
def test_training_settings_change_both_hashes(grid_of: Planner, change: dict[str, object]) -> None:
    """Anything that changes the weights makes another run."""
    before, after = hashes(grid_of), hashes(grid_of, **change)
    assert before[0] != after[0]
    assert before[1] != after[1]


@pytest.mark.parametrize("change", [{"epochs": 5}, {"episodes": 20}, {"seed": 1}])
def test_budget_and_evaluation_change_only_the_evaluation(
    grid_of: Planner, change: dict[str, object]
) -> None:
    """A larger budget continues a run, and other episodes judge the same weights."""
    before, after = hashes(grid_of), hashes(grid_of, **change)
    assert before[0] == after[0]
    assert before[1] != after[1]


def test_names_and_checkpoints_change_no_hash(grid_of: Planner) -> None:
    """Renaming an environment, or saving more often, is not another run."""
    text = BASE.format(**DEFAULTS).replace("id: tmaze-passive", "id: tmaze-passive, name: short")
    (cell,) = grid_of(text + "checkpoint: { every_epochs: 1, every_minutes: 0.5, keep: 4 }\n")
    assert (cell.train_hash, cell.evaluation_hash) == hashes(grid_of)
    assert cell.environment == "short"
    assert (cell.checkpoints.every_epochs, cell.checkpoints.every_minutes, cell.checkpoints.keep) == (
        1,
        0.5,
        4,
    )


def test_layers_end_with_the_suite(grid_of: Planner) -> None:
    """Suite-wide bindings, then the environment's, then the architecture's."""
    grid = grid_of(
        """
        environments: [{ id: tmaze-passive, gin: "Agent.tau = 0.2\\nAgent.gamma = 0.5" }]
        architectures: [ff, { id: ff, name: wide, gin: "FFTrajEncoder.d_model = 99\\nAgent.gamma = 0.6" }]
        seeds: [0]
        budget: { epochs: 1 }
        gin: "Agent.tau = 0.1\\nAgent.num_critics = 3"
        """
    )
    ff, wide = (cell.gin for cell in grid)
    assert "Agent.tau = 0.2\n" in ff
    assert "Agent.gamma = 0.5\n" in ff
    assert "Agent.num_critics = 3\n" in ff
    assert "Agent.gamma = 0.6\n" in wide
    assert "FFTrajEncoder.d_model = 99\n" in wide


def test_the_context_follows_the_horizon(grid_of: Planner) -> None:
    """base.gin says %horizon, and each environment has its own."""
    (cell,) = grid_of(BASE.format(**{**DEFAULTS, "corridor": 7}))
    assert "Experiment.max_seq_len = 8\n" in cell.gin


def test_segments_last_a_whole_episode(grid_of: Planner) -> None:
    """With an epoch of 5 steps and episodes of 8, environments are reset every second epoch."""
    text = BASE.format(**{**DEFAULTS, "corridor": 7}) + "  Experiment.train_timesteps_per_epoch = 5\n"
    (cell,) = grid_of(text)
    assert cell.segment_epochs == 2


def test_smoke_is_a_suite_of_its_own(grid_of: Planner) -> None:
    """Its results never mix with the suite's."""
    text = BASE.format(**DEFAULTS) + 'smoke: { seeds: [7], budget: { epochs: 1 }, gin: "Agent.tau = 0.5" }\n'
    small, full = grid_of(text, smoke=True), grid_of(text)
    assert small.folder == Path("results/tiny-smoke")
    assert [cell.seed for cell in small] == [7]
    assert small.cells[0].budget_epochs == 1
    assert "Agent.tau = 0.5" in small.cells[0].gin
    assert "Agent.tau = 0.01" in full.cells[0].gin


def test_an_environment_has_its_own_budget(grid_of: Planner) -> None:
    """Tasks differ in how long they take; architectures on one task do not."""
    text = BASE.format(**DEFAULTS).replace("id: tmaze-passive", "id: tmaze-passive, budget: { epochs: 9 }")
    assert grid_of(text).cells[0].budget_epochs == 9


@pytest.mark.parametrize(
    ("suite", "said"),
    [
        ("quik", "did you mean quick"),
        ("../secret.yaml", "there is no suite file"),
        ("..", "unknown suite"),
        ("/etc/passwd", "cannot name a suite"),
    ],
)
def test_suite_names_that_are_none(suite: str, said: str, write_suite: Callable[..., Path]) -> None:
    """A suite's name becomes a folder, so nothing else may get through."""
    write_suite()
    with pytest.raises(ConfigurationError, match=said):
        suite_file(suite)


def test_a_suite_file_with_a_bad_name(write_suite: Callable[..., Path]) -> None:
    """The stem is the results folder."""
    path = write_suite(name="My Suite.yaml")
    with pytest.raises(ConfigurationError, match="cannot name a suite"):
        suite_file(str(path))


def test_the_cell_file_says_everything(grid_of: Planner, tmp_path: Path) -> None:
    """A cell can be trained anywhere from its cell.yaml alone."""
    cell = grid_of().cells[0]
    write_text(cell.folder / "cell.yaml", cell_text(cell))
    assert read_cell(cell.folder) == cell


def test_an_edited_cell_file_is_refused(grid_of: Planner) -> None:
    """Otherwise results would carry the hash of settings that they do not have."""
    cell = grid_of().cells[0]
    write_text(
        cell.folder / "cell.yaml", cell_text(cell).replace("seed: 0\nthreads: 1", "seed: 0\nthreads: 2")
    )
    with pytest.raises(ConfigurationError, match="hashes do not belong"):
        read_cell(cell.folder)


def test_a_folder_without_cell_file(tmp_path: Path) -> None:
    """The error says what to give instead."""
    with pytest.raises(ConfigurationError, match=r"has no cell\.yaml"):
        read_cell(tmp_path)


def test_the_plan_reads_back(grid_of: Planner) -> None:
    """Jobs see the grid that the main process planned."""
    grid = grid_of()
    write_plan(grid)
    assert read_plan(grid.plan_file) == grid


def test_ten_thousand_cells_are_planned_quickly(write_suite: Callable[..., Path]) -> None:
    """gin is resolved once for each pair, not for each seed."""
    environments = "".join(
        f"  - {{ id: tmaze-passive, name: t{n}, params: {{ corridor: {n} }} }}\n" for n in range(1, 51)
    )
    text = f"environments:\n{environments}architectures: [ff, rnn]\nseeds: {list(range(100))}\nbudget: {{ epochs: 1 }}\n"
    path = write_suite(text)
    plan(str(path))  # imports
    began = time.monotonic()
    assert len(plan(str(path))) == 10_000
    assert time.monotonic() - began < 5.0
