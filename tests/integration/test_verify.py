"""`amago-suite verify`: says "same" of what is untouched, and names whatever is not."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors.torch import load_file, save_file

from amago.files import sha256
from amago_suite.commands.verify_cell import first_difference, verify_cell

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(make_desk) -> Any:
    """A desk with one finished grid of two cells."""
    desk = make_desk("verify")
    desk.write(architectures="[ff, rnn]")
    assert desk.type("run", "tiny.yaml").returncode == 0
    return desk


@pytest.fixture
def cell(trained: Any, tmp_path: Path) -> Path:
    """A copy of a finished cell, to be tampered with."""
    folder = tmp_path / "tiny" / "tmaze-passive" / "rnn" / "seed_0"
    shutil.copytree(trained.cell("rnn"), folder)
    return folder


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file with its time of change."""
    return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()}


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(bytes(raw))


def other_weights(cell: Path) -> None:
    """Weights that are not the run's, with every hash made to fit."""
    path = cell / "policy.safetensors"
    tensors = load_file(path)
    tensors["actor.base.layers.0.weight"] = tensors["actor.base.layers.0.weight"] + 1e-6
    save_file(tensors, path, metadata={"amago_training_version": "1"})
    for name in ("provenance.json", "evaluation.json"):
        change_json(cell / name, policy_sha256=sha256(path))


def other_return(cell: Path) -> None:
    """A better number in the results, with its hash made to fit."""
    path = cell / "episodes.csv"
    lines = path.read_text().splitlines()
    fields = lines[3].split(",")
    fields[7] = "1.25"
    lines[3] = ",".join(fields)
    path.write_text("\n".join(lines) + "\n")
    change_json(cell / "evaluation.json", episodes_sha256=sha256(path))


TAMPERED: dict[str, tuple[Callable[[Path], object], str]] = {
    "weights": (lambda c: flip(c / "policy.safetensors"), "policy.safetensors: its sha256 is"),
    "no weights": (
        lambda c: (c / "policy.safetensors").unlink(),
        "policy.safetensors: its sha256 is not there",
    ),
    "curves": (lambda c: flip(c / "progress.csv"), "progress.csv: its sha256"),
    "metrics": (lambda c: flip(c / "metrics.jsonl"), "metrics.jsonl: its sha256"),
    "gin": (lambda c: flip(c / "config.txt"), "config.txt: its sha256"),
    "episodes": (lambda c: flip(c / "episodes.csv"), "episodes.csv: its sha256"),
    "a number": (other_return, "episodes.csv: line 4, return: stored '1.25', again"),
    "cell.yaml": (
        lambda c: (c / "cell.yaml").write_text(
            (c / "cell.yaml").read_text().replace("gamma = 0.9999", "gamma = 0.9")
        ),
        "cell.yaml: .*the hashes do not belong to the content",
    ),
    "train hash": (
        lambda c: change_json(c / "provenance.json", train_hash="0"),
        "provenance.json: its train_hash is 0",
    ),
    "budget": (
        lambda c: change_json(c / "provenance.json", budget={"epochs": 9}),
        "provenance.json: its budget is",
    ),
    "evaluation hash": (
        lambda c: change_json(c / "evaluation.json", evaluation_hash="0"),
        "evaluation.json: its evaluation_hash is 0",
    ),
}


def test_an_untouched_cell_is_the_same_and_stays_untouched(cell: Path) -> None:
    """All checks are made, and nothing in the folder is written."""
    before = contents(cell)
    report = verify_cell(cell)
    assert (report.result, report.differences, report.notes) == ("same", [], [])
    assert report.checks == ["hashes", "configuration", "image", "episodes"]
    assert contents(cell) == before


@pytest.mark.parametrize("what", TAMPERED)
def test_what_was_changed_is_named(cell: Path, what: str) -> None:
    """Every artefact and record, changed one at a time."""
    tamper, said = TAMPERED[what]
    tamper(cell)
    report = verify_cell(cell)
    assert report.result == "DIFFERS"
    assert re.match(said, report.differences[0]), report.differences


def test_an_older_record_without_hashes_is_noted(cell: Path) -> None:
    """What cannot be checked is said, and is no difference."""
    record = json.loads((cell / "provenance.json").read_text())
    del record["config_sha256"]
    (cell / "provenance.json").write_text(json.dumps(record))
    report = verify_cell(cell)
    assert report.result == "same"
    assert report.notes == [
        "config.txt: provenance.json has no config_sha256 (written by an earlier version)"
    ]


def test_retraining_comes_back_and_finds_planted_weights(cell: Path) -> None:
    """From nothing to the same weights, curves and episodes; weights from elsewhere do not survive it."""
    report = verify_cell(cell, retrain=True)
    assert (report.result, report.differences) == ("same", [])
    assert report.checks[-1] == "retrained"
    other_weights(cell)
    lines = (cell / "progress.csv").read_text().splitlines()
    fields = lines[2].split(",")
    fields[6] = "0.5"  # the loss
    (cell / "progress.csv").write_text("\n".join([*lines[:2], ",".join(fields), *lines[3:]]) + "\n")
    change_json(cell / "provenance.json", progress_sha256=sha256(cell / "progress.csv"))
    found = verify_cell(cell, retrain=True).differences
    assert "retrained: policy.safetensors: actor.base.layers.0.weight differs" in found
    assert any(text.startswith("retrained: progress.csv: line 3, loss: stored '0.5'") for text in found)


def test_the_command(trained: Any) -> None:
    """A row for each cell, exit codes, JSON, and the first difference by name."""
    done = trained.type("verify", "tiny.yaml", "--cores", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("same") == 2
    assert "tiny: 2 runs checked, 0 differ" in done.stdout
    assert trained.type("verify", "tiny.yaml", "--retrain", "tmaze-passive/rm/seed_0").returncode == 2

    kept = (trained.cell("rnn") / "episodes.csv").read_bytes()
    flip(trained.cell("rnn") / "episodes.csv")
    done = trained.type("verify", "tiny.yaml", "--json")
    (trained.cell("rnn") / "episodes.csv").write_bytes(kept)
    assert done.returncode == 1
    content = json.loads(done.stdout)
    assert (content["checked"], content["differing"]) == (2, 1)
    assert [c["result"] for c in content["cells"]] == ["same", "DIFFERS"]
    assert done.stderr.startswith("error: tmaze-passive / rnn / seed 0: episodes.csv: its sha256")
    assert content["first_difference"] in done.stderr

    retrained = trained.type("verify", "tiny.yaml", "--retrain", str(trained.cell("rnn")))
    assert retrained.returncode == 0, retrained.stdout + retrained.stderr
    assert "retrained" in retrained.stdout
    assert "tiny: 1 run checked, 0 differ" in retrained.stdout


def test_nothing_finished(desk) -> None:
    """The input is wrong, not the results."""
    desk.write()
    done = desk.type("verify", "tiny.yaml")
    assert done.returncode == 2
    assert "no run is finished yet" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_leaves_nothing_behind(trained: Any, tmp_path: Path, monkeypatch, number: int) -> None:
    """Ctrl-C: no process, no temporary folder, no traceback."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    process = trained.start("verify", "tiny.yaml", "--retrain", "tmaze-passive/rnn/seed_0")
    deadline = time.monotonic() + 60
    while not any("cell.yaml" in files for _, _, files in os.walk(tmp_path)):  # folders come and go meanwhile
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.send_signal(number)
    assert process.wait(30) == 75
    assert not any(child.is_running() for child in children)
    assert not list(tmp_path.glob("amago-*"))
    assert (trained.folder / "output.txt").read_text() == "interrupted\n"


def test_the_records_are_documented(trained: Any) -> None:
    """results/README.md explains every key of provenance.json and evaluation.json."""
    text = (Path(__file__).parents[2] / "results" / "README.md").read_text()
    for name in ("provenance.json", "evaluation.json"):
        section = text.split(f"### `{name}`\n", 1)[1].split("\n## ", 1)[0].split("\n### ", 1)[0]
        explained = set(re.findall(r"`(\w+)`", section))
        assert set(json.loads((trained.cell() / name).read_text())) <= explained


def test_first_difference() -> None:
    """Values, missing rows and columns are told apart."""
    assert first_difference("a,b\n1,2\n", "a,b\n1,3\n") == "line 2, b: stored '2', again '3'"
    assert first_difference("a\n1\n", "a\n1\n2\n") == "line 3: only in the new one"
    assert first_difference("a\n1\n2\n", "a\n1\n") == "line 3: only in the stored one"
    assert first_difference("a\n1\n", "a\r\n1\r\n") == "the values are equal, the bytes are not"
