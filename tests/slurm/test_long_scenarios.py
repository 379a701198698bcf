"""Scenarios that take minutes, or repeat an essential one in another setting: `make test-slurm`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from amago_suite.images.preparing import ensure
from amago_suite.paths import SUITES
from tests.slurm.cluster import Cluster, running
from tests.slurm.conftest import make_cluster
from tests.slurm.lab import LONG, PROFILE, SNAKEMAKE, Lab, calm_run, wait_for

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1800)]


def scontrol(lab: Lab, *words: str) -> None:
    subprocess.run(["scontrol", *words], env=lab.environment, check=True, capture_output=True, text=True)


def come_back(lab: Lab, node: str) -> None:
    """A node takes jobs again; SLURM may have brought it back by itself."""
    assert lab.cluster is not None
    words = ["scontrol", "update", f"nodename={node}", "state=resume"]
    subprocess.run(words, env=lab.environment, check=False, capture_output=True)
    wait_for(lambda: lab.cluster.states() == ["idle"] * lab.cluster.nodes, "idle nodes")


def node_of(lab: Lab, job: str) -> str:
    assert lab.cluster is not None
    return lab.cluster.output("squeue", "-h", "-j", job, "-o", "%N").strip()


def test_quick_suite(cluster: Cluster, tmp_path: Path) -> None:
    """The quick suite at its smoke size: 9 cells, 18 jobs, the same episodes as on this machine."""
    local, remote = Lab(tmp_path / "local"), Lab(tmp_path / "remote", cluster, name="quick-smoke")
    for lab in (local, remote):
        lab.folder.mkdir()
        shutil.copy(SUITES / "quick.yaml", lab.folder)
        lab.suite = "quick.yaml"
    assert local.run("--config", "smoke=true") == 0, local.said()
    assert remote.run("--config", "smoke=true") == 0, remote.said()
    paths = sorted(
        p.relative_to(local.folder) for p in (local.folder / "results").glob("*/*/*/seed_*/episodes.csv")
    )
    assert len(paths) == 9
    for path in paths:
        assert (remote.folder / path).read_bytes() == (local.folder / path).read_bytes(), path
    assert cluster.jobs() == []
    assert (remote.folder / "results" / "quick-smoke" / "tables" / "scores.md").is_file()


def test_a_node_is_set_down(lab: Lab, calm: Mapping[str, bytes]) -> None:
    """SLURM runs the job again on another node, where it goes on."""
    run = lab.start()
    lab.trainer()
    node = node_of(lab, lab.job())
    scontrol(lab, "update", f"nodename={node}", "state=down", "reason=test")
    try:
        assert lab.end(run) == 0, lab.said()
    finally:
        come_back(lab, node)
    lab.check(calm)
    assert len(lab.attempts()) == 2


def test_requeued_by_slurm(lab: Lab, calm: Mapping[str, bytes]) -> None:
    """SLURM takes a running job back into its queue: the same job goes on, and Snakemake waits for it."""
    run = lab.start()
    lab.trainer()
    job = lab.job()
    scontrol(lab, "requeue", job)
    assert lab.end(run) == 0, lab.said()
    lab.check(calm)
    assert [a["job"] for a in lab.attempts()] == [job, job]


def test_a_node_set_down_without_requeue(lab: Lab, calm: Mapping[str, bytes]) -> None:
    """Where the site forbids requeueing, NODE_FAIL ends the job, and another one goes on."""
    lab.settings["requeue"] = "false"
    run = lab.start()
    lab.trainer()
    job = lab.job()
    node = node_of(lab, job)
    scontrol(lab, "update", f"nodename={node}", "state=down", "reason=test")
    try:
        assert lab.end(run) == 0, lab.said()
    finally:
        come_back(lab, node)
    lab.check(calm)
    first, second = lab.attempts()
    assert first["job"] == job != second["job"]


def test_a_lost_node_works_on(lab: Lab, calm: Mapping[str, bytes]) -> None:
    """slurmd dies and SLURM starts the job elsewhere while the trainer lives: the second one waits for it."""
    assert lab.cluster is not None
    run = lab.start()
    trainer = lab.trainer()
    node = node_of(lab, lab.job())
    lab.cluster.stop(f"slurmd.{node}", signal.SIGKILL)
    try:
        wait_for(lambda: any("down" in s for s in lab.cluster.states()), "the node to be down")
        assert lab.end(run) == 0, lab.said()
    finally:
        lab.cluster.start(f"slurmd.{node}")
        come_back(lab, node)
    assert not trainer.is_running()
    # SLURM may start the job only after the trainer's end, and its inner Snakemake begins anew: from the last
    # checkpoint, with the same end.
    lab.check(calm)
    assert lab.attempts()[0]["reason"] == "finished"


def test_wall_time_exceeded(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Training that needs several jobs of three minutes each: TERM in time, exit 75, and on, without retries."""
    settings = {**LONG, "epochs": int(os.environ.get("WALL_TIME_EPOCHS", "1000"))}
    lab.settings.update(grace_seconds="5", retries="0")
    lab.write(**settings, runtime=3)
    assert lab.end(lab.start(), 1500) == 0, lab.said()
    lab.check(calm_run(tmp_path_factory.mktemp("calm-wall"), **settings))
    reasons = [a["reason"] for a in lab.attempts()]
    assert len(reasons) >= 2
    # The signal can also hit a run between its last epoch and its record: it is finished once more.
    assert reasons[0] == "interrupted"
    assert set(reasons) == {"interrupted", "finished"}
    assert len({a["job"] for a in lab.attempts()}) == len(reasons)


def test_accounting_dies_in_the_middle(lab: Lab, calm: Mapping[str, bytes]) -> None:
    """With sacct as status command and no slurmdbd, jobs are still submitted, followed and finished."""
    assert lab.cluster is not None
    lab.settings.update(status_command="sacct", account="test")
    run = lab.start()
    lab.trainer()
    lab.cluster.stop("slurmdbd")
    try:
        assert lab.end(run) == 0, lab.said()
    finally:
        lab.cluster.start("slurmdbd")
    lab.check(calm)
    assert len(lab.attempts()) == 1


def test_waiting_and_running_jobs_are_adopted(lab: Lab, calm: Mapping[str, bytes]) -> None:
    """After SIGKILL, a job that still waits keeps its place in the queue; nothing is submitted twice."""
    assert lab.cluster is not None
    lab.write(**LONG, architectures="[ff, rnn]", cpus=4)
    scontrol(lab, "update", "nodename=n2", "state=drain", "reason=test")
    run = lab.start()
    wait_for(lambda: len(lab.cluster.jobs()) == 2, "two jobs")
    wait_for(lambda: lab.epochs("ff") + lab.epochs("rnn") >= 2, "two epochs")
    before = set(lab.cluster.jobs())
    run.kill()
    run.wait()
    scontrol(lab, "update", "nodename=n2", "state=resume")
    assert lab.run() == 0, lab.said()
    lab.check(calm)
    jobs = [a["job"] for name in ("ff", "rnn") for a in lab.attempts(name)]
    assert sorted(jobs) == sorted(before)


def test_jobs_of_cells_that_are_gone_are_cancelled(lab: Lab, calm: Mapping[str, bytes]) -> None:
    """After SIGKILL and a smaller suite, nobody waits for the job of a cell that is no longer asked for."""
    assert lab.cluster is not None
    lab.write(**LONG, architectures="[ff, rnn]")
    run = lab.start()
    wait_for(lambda: lab.epochs("ff") >= 2 and lab.epochs("rnn") >= 1, "epochs of both")
    run.kill()
    run.wait()
    lab.write(**LONG)
    assert lab.run() == 0, lab.said()
    lab.check(calm)
    assert "not needed any more" in lab.snakemake_log()
    assert lab.attempts("rnn")[-1]["reason"] == "interrupted"


def test_finished_while_nobody_looked(lab: Lab, calm: Mapping[str, bytes]) -> None:
    """The job ends between SIGKILL and restart: its result counts, and is not made again."""
    assert lab.cluster is not None
    run = lab.start()
    lab.trainer()
    run.kill()
    run.wait()
    wait_for(lambda: not lab.cluster.jobs(), "the job's end")
    stamp = (lab.cell() / "policy.safetensors").stat().st_mtime_ns
    assert lab.run() == 0, lab.said()
    lab.check(calm)
    assert (lab.cell() / "policy.safetensors").stat().st_mtime_ns == stamp
    assert len(lab.attempts()) == 1


def test_plain_snakemake(lab: Lab, calm: Mapping[str, bytes]) -> None:
    """`snakemake --profile profiles/slurm --config suite=...` does the same, without the front door."""
    command = [*SNAKEMAKE, "--profile", str(PROFILE), "--config", "suite=tiny.yaml"]
    assert lab.end(lab.launch(command)) == 0, lab.said()
    lab.check(calm)


@pytest.fixture
def forgetful() -> Iterator[Cluster]:
    """No accounts, and a controller that forgets jobs a second after their end."""
    with running(make_cluster(accounting=False, min_job_age=2)) as cluster:
        yield cluster


def test_without_accounting(forgetful: Cluster, tmp_path: Path, calm: Mapping[str, bytes]) -> None:
    """No sacct, and jobs that squeue no longer shows: their outputs say what became of them."""
    lab = Lab(tmp_path, forgetful, {"poll_seconds": "5"})
    lab.write(**LONG)
    run = lab.start()
    lab.trainer().kill()
    assert lab.end(run) == 0, lab.said()
    lab.check(calm)
    assert len(lab.attempts()) == 2


def test_a_wrong_account(lab: Lab) -> None:
    """sbatch refuses it at once: no endless tries, and its own words in the end."""
    lab.settings["account"] = "nobody"
    assert lab.run() == 1
    assert "Invalid account" in lab.said()


@pytest.mark.apptainer
def test_jobs_in_apptainer(lab: Lab, calm: Mapping[str, bytes]) -> None:
    """Every job in its own container on a node, as on clusters without Docker: the same episodes, the image's name."""
    ensure("apptainer", "core")
    assert lab.run("--engine", "apptainer") == 0, lab.said()
    lab.check(calm)
    provenance = json.loads((lab.cell() / "provenance.json").read_text())
    assert provenance["engine"] == "apptainer"
    assert provenance["image_id"].startswith("sha256:")
    assert lab.attempts()[0]["job"]


@pytest.mark.apptainer
def test_a_box_on_a_node_is_cancelled(lab: Lab, calm: Mapping[str, bytes]) -> None:
    """scancel reaches the training inside its container, which checkpoints; the next job goes on."""
    ensure("apptainer", "core")
    run = lab.start("--engine", "apptainer")
    wait_for(lambda: lab.epochs() >= 3, "three epochs")
    subprocess.run(["scancel", lab.job()], env=lab.environment, check=True)
    assert lab.end(run) == 0, lab.said()
    lab.check(calm)
    assert [a["reason"] for a in lab.attempts()] == ["interrupted", "finished"]
