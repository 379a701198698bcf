"""A suite file to its tables, with real training: what a person sees and what is left on disk."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from amago_suite import load

pytestmark = pytest.mark.slow


def stamps(folder: Path) -> dict[str, int]:
    """Time of last change of the outputs of every cell below ``folder``."""
    names = ("policy.safetensors", "episodes.csv")
    return {
        str(path): path.stat().st_mtime_ns for name in names for path in folder.glob(f"*/*/seed_*/{name}")
    }


def test_a_suite_from_file_to_tables_and_on(desk) -> None:
    """One grid through its life: run, nothing to do, a comment, a seed, an evaluation, a budget, settings."""
    desk.write(architectures="[ff, rnn]")
    done = desk.type("run", "tiny.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| tmaze-passive | success |" in done.stdout
    results = desk.folder / "results" / "tiny"
    for architecture in ("ff", "rnn"):
        left = {path.name for path in desk.cell(architecture).iterdir()}
        assert {
            "cell.yaml",
            "config.txt",
            "progress.csv",
            "state",
            "policy.safetensors",
            "provenance.json",
            "episodes.csv",
            "evaluation.json",
        } <= left
    for name in ("runs.csv", "scores.csv", "missing.csv", "scores.md"):
        assert (results / "tables" / name).is_file()
    assert (results / "report.html").is_file()
    with (desk.cell() / "episodes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20
    assert list(rows[0]) == [
        *("suite", "environment", "task", "architecture", "seed"),
        *("actor", "episode", "return", "length", "success"),
    ]
    record = json.loads((desk.cell() / "provenance.json").read_text())
    assert (record["epochs"], record["engine"], record["image"], record["attempts"]) == (4, "host", None, 1)
    assert not list(results.rglob("lock"))

    before = stamps(results)
    dry = desk.type("run", "tiny.yaml", "-n")
    assert dry.returncode == 0
    assert "Nothing to be done" in dry.stdout + dry.stderr

    # A comment is no change.
    desk.write(architectures="[ff, rnn]", comment="# another thought")
    dry = desk.type("run", "tiny.yaml", "-n")
    assert "Nothing to be done" in dry.stdout + dry.stderr

    # Another seed: only the new cell runs. (One architecture from here on, to be quick.)
    desk.write(seeds="[0, 1]")
    assert desk.type("run", "tiny.yaml").returncode == 0
    after = stamps(results)
    assert {path: after[path] for path in before} == before
    assert len(after) == len(before) + 2

    # Other evaluation episodes: no training.
    desk.write(episodes=10)
    assert desk.type("run", "tiny.yaml").returncode == 0
    evaluated = stamps(results)
    cell = str(desk.cell())
    assert evaluated[f"{cell}/policy.safetensors"] == after[f"{cell}/policy.safetensors"]
    assert evaluated[f"{cell}/episodes.csv"] != after[f"{cell}/episodes.csv"]

    # A larger budget continues.
    desk.write(episodes=10, epochs=6)
    assert desk.type("run", "tiny.yaml").returncode == 0
    record = json.loads((desk.cell() / "provenance.json").read_text())
    assert (record["epochs"], record["attempts"]) == (6, 2)
    assert len((desk.cell() / "progress.csv").read_text().splitlines()) == 1 + 6

    # ... and ends where a fresh run of that budget ends, bit for bit.
    desk.write("fresh", episodes=10, epochs=6)
    assert desk.type("run", "fresh.yaml").returncode == 0
    fresh = desk.cell(suite="fresh")
    assert (fresh / "policy.safetensors").read_bytes() == (desk.cell() / "policy.safetensors").read_bytes()
    assert (fresh / "episodes.csv").read_text() == (desk.cell() / "episodes.csv").read_text().replace(
        "tiny,", "fresh,"
    )

    # A smaller one is refused before anything starts.
    desk.write(episodes=10, epochs=5)
    refused = desk.type("run", "tiny.yaml")
    assert refused.returncode == 2
    assert "a budget can only grow" in refused.stderr

    # Other settings: the old results are kept aside and the cell is trained anew.
    desk.write(episodes=10, epochs=4, batches=2)
    assert desk.type("run", "tiny.yaml").returncode == 0
    (old,) = (desk.folder / "results" / ".superseded" / "tiny" / "tmaze-passive" / "ff").iterdir()
    assert (old / "policy.safetensors").is_file()
    assert json.loads((desk.cell() / "provenance.json").read_text())["attempts"] == 1


def test_by_hand_is_the_same(desk) -> None:
    """`train` and `evaluate` need only cell.yaml, say what they found, and repeat to the byte."""
    desk.write()
    assert desk.type("run", "tiny.yaml").returncode == 0
    cell = desk.cell()
    first = {
        name: (cell / name).read_bytes() for name in ("policy.safetensors", "episodes.csv", "evaluation.json")
    }
    again = desk.type("train", str(cell))
    assert again.returncode == 0
    assert "already trained for 4 epochs" in again.stdout

    assert desk.type("evaluate", str(cell)).returncode == 0
    assert (cell / "episodes.csv").read_bytes() == first["episodes.csv"]
    assert (cell / "evaluation.json").read_bytes() == first["evaluation.json"]

    # `load` gives the policy, ready to act.
    policy = load(cell)
    env = policy.make_env()
    obs, _ = env.reset(seed=3)
    action, reward = None, 0.0
    for step in range(4):
        action = policy.act(obs, action, reward)
        assert action.shape == (1, 1)
        obs, reward, terminated, truncated, _ = env.step(action)
        assert bool(terminated | truncated) == (step == 3)

    # Anywhere else, from cell.yaml alone.
    other = desk.folder / "elsewhere"
    other.mkdir()
    (other / "cell.yaml").write_bytes((cell / "cell.yaml").read_bytes())
    assert desk.type("evaluate", str(other)).returncode == 2
    assert desk.type("train", str(other)).returncode == 0
    assert (other / "policy.safetensors").read_bytes() == first["policy.safetensors"]

    # The state of another configuration is not continued.
    (cell / "state" / "identity.json").write_text('{"train_hash": "another"}')
    (cell / "policy.safetensors").unlink()
    refused = desk.type("train", str(cell))
    assert refused.returncode == 2
    assert "belongs to another configuration" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_one_failing_cell(desk) -> None:
    """The others finish, the tables say what is missing and why, and the next run tries it again."""
    desk.write(architectures='[ff, { id: rnn, name: broken, gin: "Experiment.learning_rate = -1.0" }]')
    done = desk.type("run", "tiny.yaml")
    assert done.returncode == 1
    assert "Experiment.learning_rate must be positive" in done.stderr
    assert "1 of 2 runs failed" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    results = desk.folder / "results" / "tiny"
    assert (desk.cell() / "evaluation.json").is_file()
    assert not (results / "tables").exists()
    missing = (results / "partial" / "missing.csv").read_text()
    assert "broken" in missing
    assert "learning_rate must be positive" in missing
    assert (results / "partial" / "report.html").is_file()

    status = json.loads(desk.type("status", "tiny.yaml", "--json").stdout)
    assert status["counts"] == {"done": 1, "failed": 1}

    log = desk.cell("broken") / "state" / "attempts.jsonl"
    attempts = len(log.read_text().splitlines())
    assert desk.type("run", "tiny.yaml").returncode == 1
    assert len(log.read_text().splitlines()) > attempts
