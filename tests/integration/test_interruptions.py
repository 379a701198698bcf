"""Killed at bad moments, the suite goes on: no orphan, no lock to clear, no lost record, the same weights."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from amago_suite.paths import SNAKEFILE

pytestmark = pytest.mark.slow

LONG = {"epochs": 40, "batches": 6, "architectures": "[rnn]"}


def wait_for(condition, seconds: float, what: str) -> None:
    """Poll until ``condition()`` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.05)


def epochs(cell: Path) -> int:
    try:
        return len((cell / "progress.csv").read_text().splitlines()) - 1
    except FileNotFoundError:
        return 0


def trainers(folder: Path) -> list[psutil.Process]:
    """Training processes whose working folder is ours."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        try:
            if "train" in (process.info["cmdline"] or []) and process.cwd() == str(folder):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture(scope="module")
def undisturbed(make_desk) -> bytes:
    """The weights of the same cell, trained without interruption."""
    desk = make_desk("calm")
    desk.write(**LONG)
    assert desk.type("run", "tiny.yaml").returncode == 0
    return (desk.cell("rnn") / "policy.safetensors").read_bytes()


def test_sigkill_of_the_whole_run(desk, undisturbed: bytes) -> None:
    """`make run`, SIGKILL, `make run`: it goes on where it was."""
    desk.write(**LONG)
    cell = desk.cell("rnn")
    run = desk.start("run", "tiny.yaml")
    wait_for(lambda: epochs(cell) >= 10, 60, "ten epochs")
    run.send_signal(signal.SIGKILL)
    run.wait()
    wait_for(lambda: not trainers(desk.folder), 30, "the trainer to follow its launcher")
    assert list((desk.folder / ".snakemake" / "locks").iterdir())
    assert not (cell / "policy.safetensors").exists()

    done = desk.type("run", "tiny.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "its lock is removed" in done.stdout
    records = [json.loads(line) for line in (cell / "state" / "attempts.jsonl").read_text().splitlines()]
    last = {record["attempt"]: record for record in records}
    assert len(last) == 2
    assert last[1]["reason"] in ("interrupted", "lost")
    assert last[1]["end"] is not None
    assert (last[2]["reason"], last[2]["epoch_end"]) == ("finished", 40)
    assert last[2]["epoch_start"] >= 10
    assert (cell / "policy.safetensors").read_bytes() == undisturbed


def test_sigkill_of_a_trainer(desk, undisturbed: bytes) -> None:
    """A trainer that is killed (out of memory, say) is started again and resumes, in the same run."""
    desk.write(**LONG)
    cell = desk.cell("rnn")
    run = desk.start("run", "tiny.yaml")
    wait_for(lambda: epochs(cell) >= 10, 60, "ten epochs")
    (trainer,) = trainers(desk.folder)
    trainer.kill()
    assert run.wait(120) == 0
    records = [json.loads(line) for line in (cell / "state" / "attempts.jsonl").read_text().splitlines()]
    assert [r["reason"] for r in records if r["end"] is not None] == ["lost", "finished"]
    assert (cell / "policy.safetensors").read_bytes() == undisturbed


def test_ctrl_c(desk, undisturbed: bytes) -> None:
    """Running cells write a checkpoint, the exit code says that it can go on, and it does."""
    desk.write(**LONG)
    cell = desk.cell("rnn")
    run = desk.start("run", "tiny.yaml", "--cores", "2", "--config", "results=results")
    wait_for(lambda: epochs(cell) >= 10, 60, "ten epochs")
    run.send_signal(signal.SIGINT)
    assert run.wait(60) == 75
    said = (desk.folder / "output.txt").read_text().replace("\n", " ")
    assert "`amago-suite run tiny.yaml --cores 2 --config results=results` goes on from here" in said
    assert not trainers(desk.folder)
    assert not (cell / "state" / "failed.json").exists()
    assert desk.type("run", "tiny.yaml").returncode == 0
    assert (cell / "policy.safetensors").read_bytes() == undisturbed


def test_two_trainers_of_one_cell(desk) -> None:
    """The second waits for the first and finds the work done."""
    desk.write(**LONG)
    run = desk.start("run", "tiny.yaml")
    cell = desk.cell("rnn")
    wait_for(lambda: epochs(cell) >= 3, 60, "three epochs")
    second = desk.type("train", str(cell))
    assert second.returncode == 0, second.stdout + second.stderr
    assert "waiting for process" in second.stdout
    assert "already trained" in second.stdout
    assert run.wait(120) == 0


def test_a_second_run_of_a_suite_is_refused(desk) -> None:
    """Two Snakemakes in one folder would fight; the second says who is there."""
    desk.write(**LONG)
    run = desk.start("run", "tiny.yaml")
    wait_for(lambda: epochs(desk.cell("rnn")) >= 1, 60, "an epoch")
    second = desk.type("run", "tiny.yaml")
    assert second.returncode == 2
    assert "already being run by process" in second.stderr
    run.send_signal(signal.SIGTERM)
    assert run.wait(60) == 75


def test_plain_snakemake(desk) -> None:
    """The workflow works without the front door, and so does its clean-up."""
    desk.write()
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        str(SNAKEFILE),
        "--config",
        "suite=tiny.yaml",
    ]
    done = subprocess.run(
        [*command, "--cores", "2"], cwd=desk.folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (desk.folder / "results" / "tiny" / "tables" / "scores.csv").is_file()
    assert not list((desk.folder / ".snakemake" / "owners").glob("*.json"))
    dry = subprocess.run([*command, "-n"], cwd=desk.folder, capture_output=True, text=True, check=False)
    assert "Nothing to be done" in dry.stdout + dry.stderr
