"""`amago-suite doctor` on a real cluster: what is wrong there is found before anything is submitted."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from amago_suite.configuration.site import read_site
from amago_suite.doctor import OK, PROBLEM, Finding
from amago_suite.doctor.nodes import meet_nodes
from amago_suite.doctor.profile import requests
from amago_suite.doctor.sharing import meeting
from amago_suite.doctor.slurm import Request
from amago_suite.doctor.slurm import cluster as look
from tests.slurm.cluster import Cluster
from tests.slurm.lab import wait_for

pytestmark = pytest.mark.slurm

GOOD = Request(account="test", partition="main", qos="normal", runtime=60, mem_mb=1000, cpus=2, gres="gpu:1")


@pytest.fixture
def here(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """This process as on a machine of the cluster; nothing may be submitted but by a test that says so."""
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    before = last_job(cluster)
    yield cluster
    assert cluster.jobs() == []
    assert before <= last_job(cluster)


def last_job(cluster: Cluster) -> int:
    lines = cluster.output("squeue", "-h", "--states=all", "-o", "%i").split()
    return max((int(line) for line in lines if line.isdecimal()), default=0)


def problems(request: Request, *more: Request) -> list[Finding]:
    return [found for found in look([request, *more], "config/site.yaml") if found.level == PROBLEM]


def said(found: Sequence[Finding]) -> str:
    assert found and all(finding.way_out for finding in found)
    return " | ".join(f"{finding.what} -> {finding.way_out}" for finding in found)


def test_a_cluster_where_all_is_well(here: Cluster) -> None:
    """Nothing that works is called broken, and nothing is submitted to find out."""
    before = last_job(here)
    found = list(look([GOOD, replace(GOOD, gres=None, mem_mb=500)], "config/site.yaml"))
    assert [f for f in found if f.level != OK] == []
    assert "a job with --account=test --partition=main" in " ".join(f.what for f in found)
    assert last_job(here) == before and here.jobs() == []


WRONG = {
    "partition": (
        replace(GOOD, partition="mian"),
        "there is no partition 'mian' -> config/site.yaml: did you mean main",
    ),
    "account": (
        replace(GOOD, account="tset"),
        "has no account 'tset' -> config/site.yaml: did you mean test",
    ),
    "qos": (
        replace(GOOD, qos="nromal"),
        "may not use the QOS 'nromal' -> config/site.yaml: did you mean normal",
    ),
    "constraint": (replace(GOOD, constraint="avx1024"), "would be refused: "),
    "memory": (replace(GOOD, mem_mb=900_000), "would be refused: "),
    "cpus": (replace(GOOD, cpus=64), "would be refused: "),
    "gpus": (replace(GOOD, gres="gpu:9"), "would be refused: "),
    "gpu model": (replace(GOOD, gres="gpu:h100:1"), "would be refused: "),
    "another option": (replace(GOOD, extra=("--mail-tpye=FAIL",)), "would be refused: "),
    "reservation": (replace(GOOD, reservation="nobodys"), "would be refused: "),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_found(here: Cluster, name: str) -> None:
    """Each value of a site that the cluster does not know, with the nearest that it does."""
    request, expected = WRONG[name]
    assert expected in said(problems(request))
    assert here.jobs() == []


def test_partitions_that_take_no_such_job(here: Cluster) -> None:
    """Too short a limit, closed, or without a node that works."""
    try:
        here.output("scontrol", "update", "partitionname=urgent", "maxtime=30")
        found = said(problems(replace(GOOD, partition="urgent")))
        assert "jobs ask for 60 minutes, and partition urgent gives 30" in found
        here.output("scontrol", "update", "partitionname=urgent", "maxtime=infinite", "state=down")
        assert "partition urgent is down" in said(problems(replace(GOOD, partition="urgent")))
    finally:
        here.output("scontrol", "update", "partitionname=urgent", "maxtime=infinite", "state=up")
    try:
        for node in ("n1", "n2"):
            here.output("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
        assert "partition main has no usable node" in said(problems(GOOD))
    finally:
        for node in ("n1", "n2"):
            here.output("scontrol", "update", f"nodename={node}", "state=resume")


def test_a_controller_that_does_not_answer(here: Cluster) -> None:
    """Said as such, not as a wrong account."""
    here.stop("slurmctld")
    try:
        found = said(problems(GOOD))
    finally:
        here.start("slurmctld")
        wait_for(lambda: here.states().count("idle") == 2, "nodes")
    assert found.startswith("the controller does not answer")


def test_no_cluster_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The slurm profile on a laptop."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "sbatch, squeue" in said(problems(GOOD))


def test_how_jobs_are_followed(plain_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """sacct without accounts would never report an end; an account that nobody keeps is a note."""
    for name, value in plain_cluster.environment.items():
        monkeypatch.setenv(name, value)
    request = replace(GOOD, account=None, qos=None, status_command="sacct")
    assert "the cluster keeps no accounts -> set squeue" in said(problems(request))
    assert problems(replace(request, status_command="squeue")) == []


def test_what_a_suite_asks_for(monkeypatch: pytest.MonkeyPatch, here: Cluster) -> None:
    """The site's keys arrive in the question that the scheduler is asked."""
    monkeypatch.setenv("AMAGO_SLURM_PARTITION", "spot")
    monkeypatch.setenv("AMAGO_SLURM_EXTRA", "--nice=7")
    monkeypatch.setenv("AMAGO_SLURM_CONSTRAINT", "gold")
    asked = requests(read_site().slurm, None)
    assert {request.partition for request in asked} == {"spot"}
    assert all("--nice=7" in request.arguments() for request in asked)
    assert "--constraint=gold" in said(problems(*asked))


@pytest.mark.slow
def test_nodes_are_met(here: Cluster, tmp_path: Path) -> None:
    """In a small job on each, which sees our files and we its; a third node that is not there ends it in peace."""
    request = replace(GOOD, gres=None)
    with meeting(tmp_path) as met:
        found = list(meet_nodes(met, request, 3, patience=120))
    shared = [f.what for f in found if f.area == "sharing"]
    assert [f for f in found if f.level != OK] == []
    assert [what.partition(":")[0] for what in shared] == ["node n1", "node n2"]
    wait_for(lambda: not here.jobs(), "the end of both")


@pytest.mark.slow
def test_a_node_that_does_not_share_the_folder(here: Cluster, tmp_path: Path) -> None:
    """A disk of its own at the same path: the commonest way to lose a night."""
    results = tmp_path / "results"
    results.mkdir()
    here.stop("slurmd.n2")
    mount = f"mount -t tmpfs none {results} && mkdir {results}/.keep && exec slurmd -N n2"
    try:
        subprocess.run(
            ["unshare", "--mount", "sh", "-c", mount],
            env={**os.environ, **here.environment},
            check=True,
            timeout=60,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_for(lambda: here.states().count("idle") == 2, "both nodes")
        only_n2 = replace(GOOD, gres=None, extra=("--nodelist=n2",))
        with meeting(results) as met:
            found = list(meet_nodes(met, only_n2, 1, patience=60))
    finally:
        here.cancel_all()
        here.stop("slurmd.n2", signal.SIGTERM)
        here.start("slurmd.n2")
        wait_for(lambda: here.states().count("idle") == 2, "both nodes")
    assert any(f.area in ("sharing", "node") and f.level == PROBLEM for f in found)
    assert "share" in said([f for f in found if f.level == PROBLEM])
