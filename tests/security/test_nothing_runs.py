"""Files that would like to run something, in every place that is read. A canary shows whether one did."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from amago import resume
from amago.checkpoints import Checkpoint
from amago.errors import AmagoError, ConfigurationError
from amago.loading import load_traj_from_disk
from amago.storage import Shard
from amago_suite.build import apply_gin
from amago_suite.cell import cell_text, hash_cell, read_cell
from amago_suite.configuration import imports
from amago_suite.configuration.gin_layers import parse_layer
from amago_suite.configuration.schema import load_yaml
from amago_suite.grid import Grid, plan
from tests.unit.core.small_run import configure, experiment

SUITE = """
environments: [{ id: tmaze-passive, params: { corridor: 3 } }]
architectures: [ff]
seeds: [0]
budget: { epochs: 2 }
"""


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Its path; the test fails when it exists at the end."""
    monkeypatch.delenv(imports.VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "something ran"


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.command = f"touch {canary}"

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


def test_the_canary_sings(tmp_path: Path) -> None:
    """Guards these tests: the payload does run where a pickle is loaded as one."""
    pickle.loads(pickle.dumps(Payload(tmp_path / "canary")))
    assert (tmp_path / "canary").exists()


def pickles(canary: Path) -> dict[str, bytes]:
    """The payload as a bare pickle, in torch's own files, and in numpy's."""
    torch_file, old_torch, npy, npz = io.BytesIO(), io.BytesIO(), io.BytesIO(), io.BytesIO()
    torch.save({"weights": Payload(canary)}, torch_file)
    torch.save({"weights": Payload(canary)}, old_torch, _use_new_zipfile_serialization=False)
    np.save(npy, np.array([Payload(canary)], dtype=object), allow_pickle=True)
    np.savez(npz, obs=np.array([Payload(canary)], dtype=object), rews=np.zeros((3, 1)))
    hidden = io.BytesIO()
    with zipfile.ZipFile(hidden, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Payload(canary)))
        archive.writestr("archive/version", "3")
        archive.writestr("archive/code/__torch__.py", "import os; os.system('touch canary')")
        archive.writestr("archive/constants.pkl", pickle.dumps(Payload(canary)))
    return {
        "bare": pickle.dumps(Payload(canary)),
        "torch": torch_file.getvalue(),
        "old torch": old_torch.getvalue(),
        "npy": npy.getvalue(),
        "npz": npz.getvalue(),
        "torchscript": hidden.getvalue(),
    }


@pytest.mark.parametrize("kind", ["bare", "torch", "old torch", "npy", "npz", "torchscript"])
def test_pickles(canary: Path, tmp_path: Path, kind: str) -> None:
    """Guards every reader of binary files: policies, checkpoints, optimisers, shards, trajectories."""
    data = pickles(canary)[kind]
    configure()
    run = experiment(tmp_path / "run", epochs=1)
    run.learn()
    whole = run.store.newest()
    assert whole is not None

    def put(name: str) -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    readers: list[Callable[[], Any]] = [
        lambda: run.load_policy(put("policy.pt")),
        lambda: run.load_policy(put("policy.safetensors")),
        lambda: run.load_checkpoint_from_path(put("old.pth"), is_accelerate_state=False),
        lambda: Shard(put("shard.safetensors")),
        lambda: load_traj_from_disk(put("one.npz")),
        lambda: load_traj_from_disk(put("one.traj")),
        lambda: load_traj_from_disk(put("one.safetensors")),
    ]
    for name in (resume.OPTIMIZER, resume.POLICY):
        place = tmp_path / f"with {name}"
        shutil.copytree(whole.folder, place)
        (place / name).write_bytes(data)
        found = Checkpoint(whole.position, place, whole.state)
        readers.append(lambda found=found: resume.restore(run, found))
    for read in readers:
        with pytest.raises(AmagoError):
            read()
    (tmp_path / "run/replay/buffer/protected/x.npz").write_bytes(data)
    with pytest.raises(AmagoError):
        experiment(tmp_path / "run", epochs=2)


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch canary']",
        "seeds: !!python/object/apply:subprocess.check_output [[touch, canary]]",
        "a: !!python/object/new:os.system [touch canary]",
        "a: !!python/name:os.system",
        "a: !!python/module:os",
        '!!python/object/apply:builtins.exec [\'open("canary", "w")\']',
        "a: !!python/object/apply:builtins.eval [\"__import__('os').system('touch canary')\"]",
    ],
)
def test_yaml(canary: Path, tmp_path: Path, text: str) -> None:
    """Guards suite and cell files: tags of Python are refused, in one line."""
    path = tmp_path / "evil.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError):
        load_yaml(path)
    with pytest.raises(ConfigurationError):
        plan(str(path), results=tmp_path / "results")
    (tmp_path / "cell.yaml").write_text(text)
    with pytest.raises(ConfigurationError):
        read_cell(tmp_path)


EVIL_GIN = [
    "import evil\n",
    "import evil.deeper as fine\n",
    "from evil import thing\n",
    "import os\n",
    "import amago_evil\n",
    "include 'evil.gin'\n",
    "from __gin__ import dynamic_registration\nimport os\nAgent.tau = @os.system()\n",
    "from __gin__ import dynamic_registration\nimport evil\n",
    "Agent.tau = @os.system()\n",
    "Agent.tau = __import__('os').system('touch canary')\n",
    "Agent.tau = (lambda: open('canary', 'w'))()\n",
    "gin.singleton.constructor = @os.system\n",
]


@pytest.fixture
def grid(tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch) -> Grid:
    """A planned suite beside a module that sings when it is imported."""
    (tmp_path / "evil").mkdir()
    for place in (tmp_path / "evil/__init__.py", tmp_path / "evil/deeper.py", tmp_path / "amago_evil.py"):
        place.write_text("open('canary', 'w').close()\nthing = 1\n")
    (tmp_path / "evil.gin").write_text("import evil\n")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "tiny.yaml").write_text(SUITE)
    return plan("tiny.yaml", results=tmp_path / "results")


@pytest.mark.parametrize("text", EVIL_GIN)
def test_gin(grid: Grid, tmp_path: Path, text: str) -> None:
    """Guards gin in suite files and in cells, whose hashes anyone can compute."""
    with pytest.raises(ConfigurationError):
        parse_layer(text, "evil.gin")
    lines = "".join(f"  {line}\n" for line in text.splitlines())
    (tmp_path / "evil.yaml").write_text(f"{SUITE}gin: |\n{lines}")
    with pytest.raises(ConfigurationError):
        plan("evil.yaml", results=tmp_path / "results")
    cell = replace(grid.cells[0], gin=text)
    hashes = hash_cell(
        env_id=cell.env_id, env_params=cell.env_params, seed=cell.seed, gin=text, threads=cell.threads,
        segment_epochs=cell.segment_epochs, budget_epochs=cell.budget_epochs, evaluation=cell.evaluation,
    )  # fmt: skip
    cell = replace(cell, train_hash=hashes[0], evaluation_hash=hashes[1], folder=tmp_path / "handmade")
    cell.folder.mkdir()
    (cell.folder / "cell.yaml").write_text(cell_text(cell))
    with pytest.raises(ConfigurationError):
        apply_gin(read_cell(cell.folder))


def test_imports_of_a_cell(grid: Grid, tmp_path: Path) -> None:
    """Guards the cell's own list of imports: it needs --allow-imports like the gin file it came from."""
    with pytest.raises(ConfigurationError, match="unless --allow-imports is given"):
        apply_gin(replace(grid.cells[0], imports=("evil",)))


def test_allowed_imports_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards --allow-imports: what a gin file imports is then imported, hashed and written in the cell."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_parts.py").write_text(
        "import gin\n\n@gin.configurable\ndef own_part(size=1):\n    return size\n"
    )
    (tmp_path / "plain.yaml").write_text(SUITE)
    (tmp_path / "own.yaml").write_text(SUITE + "gin: |\n  import own_parts\n  own_part.size = 3\n")
    with pytest.raises(ConfigurationError, match="--allow-imports"):
        plan("own.yaml", results=tmp_path)
    monkeypatch.setenv(imports.VARIABLE, "1")
    (cell,) = plan("own.yaml", results=tmp_path).cells
    (plain,) = plan("plain.yaml", results=tmp_path).cells
    assert cell.imports == ("own_parts",)
    assert plain.imports == ()
    assert "imports" not in cell_text(plain)
    cell.folder.mkdir(parents=True)
    (cell.folder / "cell.yaml").write_text(cell_text(cell))
    assert read_cell(cell.folder) == cell
    apply_gin(cell)
    other = replace(cell, imports=())
    (cell.folder / "cell.yaml").write_text(cell_text(other))
    with pytest.raises(ConfigurationError, match="hashes"):
        read_cell(cell.folder)
