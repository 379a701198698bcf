"""What happens to jobs on a cluster, and what must come of it: the table of a local run, once, without orphans.

The essential scenarios, for every check; longer ones are in test_long_scenarios.py (`make test-slurm`).
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping

import pytest

from tests.slurm.lab import Lab

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(1500)]


def test_from_start_to_table(lab: Lab, calm: Mapping[str, bytes]) -> None:
    """Two jobs, one after the other, and the table of a local run; then there is nothing to be done."""
    lab.write(epochs=60, batches=10, gpus=1)
    assert lab.run() == 0, lab.said()
    lab.check(calm)
    assert len(lab.attempts()) == 1
    assert lab.attempts()[0]["job"] is not None
    assert lab.run("--dry-run") == 0
    assert "Nothing to be done" in lab.said()


def test_a_trainer_is_killed(lab: Lab, calm: Mapping[str, bytes]) -> None:
    """A job that fails once (its trainer is killed, as for memory) is tried again, and goes on."""
    run = lab.start()
    lab.trainer().kill()
    assert lab.end(run) == 0, lab.said()
    lab.check(calm)
    first, second = lab.attempts()
    assert (first["reason"], second["reason"]) == ("lost", "finished")
    assert first["job"] != second["job"], "the dying job tried again by itself"


def test_scancel_of_a_running_job(lab: Lab, calm: Mapping[str, bytes]) -> None:
    """sacct calls it "CANCELLED by 0", which must not be waited for; the checkpoint is used."""
    lab.settings["status_command"] = "sacct"
    run = lab.start()
    lab.trainer()
    subprocess.run(["scancel", lab.job()], env=lab.environment, check=True)
    assert lab.end(run) == 0, lab.said()
    lab.check(calm)
    first, second = lab.attempts()
    assert first["reason"] == "interrupted"
    assert second["epoch_start"] >= 3
    assert "goes on in another job" in lab.snakemake_log()


def test_killed_and_started_again(lab: Lab, calm: Mapping[str, bytes]) -> None:
    """SIGKILL of the main process: its job works on, and the next run goes on with that very job."""
    run = lab.start()
    lab.trainer()
    run.send_signal(signal.SIGKILL)
    run.wait()
    job = lab.job()
    assert lab.run() == 0, lab.said()
    lab.check(calm)
    assert [a["job"] for a in lab.attempts()] == [job]
    assert "going on with that one" in lab.snakemake_log()


def test_interrupted_and_started_again(lab: Lab, calm: Mapping[str, bytes]) -> None:
    """Ctrl-C and SIGTERM: jobs write a checkpoint and end, the exit code says that it can go on, and it does."""
    for number in (signal.SIGINT, signal.SIGTERM):
        before = lab.epochs()
        run = lab.start()
        lab.trainer(before + 3)
        run.send_signal(number)
        assert lab.end(run) == 75, lab.said()
        assert lab.cluster is not None
        assert lab.cluster.jobs() == []
        assert lab.trainers() == []
    assert lab.run() == 0, lab.said()
    lab.check(calm)
    assert [a["reason"] for a in lab.attempts()] == ["interrupted", "interrupted", "finished"]


def test_preempted(lab: Lab, calm: Mapping[str, bytes]) -> None:
    """A more urgent job takes the node: a checkpoint within the grace time, and on when there is room again."""
    lab.settings["partition"] = "spot"
    run = lab.start()
    lab.trainer()
    assert lab.cluster is not None
    job = lab.job()
    node = lab.cluster.output("squeue", "-h", "-j", job, "-o", "%N").strip()
    urgent = [
        "sbatch",
        "-p",
        "urgent",
        "-w",
        node,
        "--exclusive",
        "-t",
        "1",
        "-o",
        "/dev/null",
        "--wrap=sleep 2",
    ]
    subprocess.run(urgent, env=lab.environment, check=True, capture_output=True)
    assert lab.end(run) == 0, lab.said()
    lab.check(calm)
    reasons = [a["reason"] for a in lab.attempts()]
    assert reasons == ["interrupted", "finished"]
    assert lab.attempts()[0]["job"] == job


def test_one_cell_fails_for_good(lab: Lab) -> None:
    """It is submitted once, the others are finished, the exit code is 1, and partial tables say so."""
    lab.write(architectures="[ff, { id: rnn, gin: 'Experiment.learning_rate = -1.0' }]")
    assert lab.run() == 1, lab.said()
    assert lab.cluster is not None
    assert lab.cluster.jobs() == []
    assert "failed for good" in lab.snakemake_log()
    assert lab.snakemake_log().count("rule_train/tmaze-passive_rnn_0/") == 2  # submitted, and ended
    assert (lab.cell("ff") / "episodes.csv").is_file()
    results = lab.folder / "results" / lab.name
    assert "rnn" in (results / "partial" / "missing.csv").read_text()
    assert not (results / "tables").exists()
