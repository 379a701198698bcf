"""Names that would lead out of the results folder are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from amago.errors import AmagoError, CheckpointError, ConfigurationError
from amago_suite.cell import cell_text, read_cell
from amago_suite.grid import plan, read_plan, write_plan
from tests.unit.core.small_run import configure, experiment

BAD = [
    "..",
    "../x",
    "/etc",
    "a/b",
    "a\\b",
    "a\nb",
    "a\n",
    "a b",
    "",
    ".",
    "A",
    "a--b",
    "-a",
    "x" * 65,
    "\u0430",
    "a\0b",
]
SUITE = {
    "environments": [{"id": "tmaze-passive", "params": {"corridor": 3}}],
    "architectures": ["ff"],
    "seeds": [0],
    "budget": {"epochs": 2},
}


@pytest.mark.parametrize("name", BAD)
def test_names_in_a_suite(tmp_path: Path, name: str) -> None:
    """Guards environment and architecture names, ids, and the suite's own name."""
    suite = tmp_path / "tiny.yaml"
    for change in (
        {"environments": [{"id": "tmaze-passive", "name": name}]},
        {"environments": [{"id": name}]},
        {"environments": [name]},
        {"architectures": [{"id": "ff", "name": name}]},
        {"architectures": [name]},
    ):
        suite.write_text(yaml.safe_dump({**SUITE, **change}))
        with pytest.raises(ConfigurationError) as caught:
            plan(str(suite), results=tmp_path / "results")
        assert "\n" not in str(caught.value)
    if name and not set(name) & set("/\0") and name not in (".", ".."):
        named = tmp_path / f"{name}.yaml"
        named.write_text(yaml.safe_dump(SUITE))
        with pytest.raises(ConfigurationError):
            plan(str(named), results=tmp_path / "results")
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("name", BAD)
def test_names_in_cells_and_plans(tmp_path: Path, name: str) -> None:
    """Guards files that a person may pass on: cell.yaml and plan.json."""
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(SUITE))
    grid = plan(str(tmp_path / "tiny.yaml"), results=tmp_path / "results")
    data = yaml.safe_load(cell_text(grid.cells[0]))
    for key in ("suite", "architecture"):
        (tmp_path / "cell.yaml").write_text(yaml.safe_dump({**data, key: name}))
        with pytest.raises(ConfigurationError):
            read_cell(tmp_path)
    write_plan(grid)
    content = json.loads(grid.plan_file.read_text())
    for key in ("environment", "architecture"):
        changed = {**content, "cells": [{**content["cells"][0], key: name}]}
        if name in ("a--b", "x" * 65):
            continue  # harmless, and only the suite's schema minds
        grid.plan_file.write_text(json.dumps(changed))
        with pytest.raises(ConfigurationError):
            read_plan(grid.plan_file)


@pytest.mark.parametrize("name", ["..", "../x", "/etc/x", "a/b", "a\\b", "a\nb", "", ".", "a\0b"])
def test_run_and_dataset_names(tmp_path: Path, name: str) -> None:
    """Guards Experiment.run_name and DiskTrajDataset.dset_name."""
    from amago.loading import DiskTrajDataset

    configure()
    with pytest.raises(ConfigurationError, match="run_name"):
        experiment(tmp_path / "here", run_name=name)
    with pytest.raises(ConfigurationError, match="dset_name"):
        DiskTrajDataset(tmp_path / "here" / "data", name, 5)


@pytest.mark.parametrize("name", ["../../policy.safetensors", "/etc/passwd", "a/b", "..", "."])
def test_files_that_a_checkpoint_names(tmp_path: Path, name: str) -> None:
    """Guards state.json and COMPLETE: replay files and checkpoint files are names, not paths."""
    configure()
    run = experiment(tmp_path, epochs=1)
    run.learn()
    state = {"fifo": [{"file": name, "sha256": "0" * 64, "skip": 0}]}
    with pytest.raises(CheckpointError):
        run.dataset.load_state_dict(state)
    (position,) = run.store.positions()
    folder = run.store.folder / position.folder_name
    sums = json.loads((folder / "COMPLETE").read_text())
    (folder / "COMPLETE").write_text(json.dumps({"files": {**sums["files"], name: "0" * 64}}))
    with pytest.raises(AmagoError):
        run.store.read(position)
