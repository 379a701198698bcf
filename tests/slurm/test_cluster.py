"""The cluster that other tests rely on is a real one, and clusters do not disturb each other."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.slurm.cluster import Cluster

pytestmark = pytest.mark.slurm


def _srun(cluster: Cluster, *command: str) -> str:
    environment = {**os.environ, **cluster.environment}
    done = subprocess.run(
        ["srun", "--time=1", *command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_job_sees_its_node_and_its_gpu(cluster: Cluster) -> None:
    """Nodes are told apart, and a job is given as many GPUs as it asked for."""
    script = "echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES"
    assert _srun(cluster, "--nodelist=n2", "--gres=gpu:2", "sh", "-c", script).split() == ["n2", "0,1"]
    assert _srun(cluster, "--nodelist=n1", "sh", "-c", script).split() == ["n1"]


def test_two_clusters_side_by_side(cluster: Cluster, plain_cluster: Cluster) -> None:
    """Each has queue and settings of its own; one keeps accounts, the other has none."""
    assert cluster.states() == plain_cluster.states() == ["idle", "idle"]
    environment = {**os.environ, **plain_cluster.environment}
    held = ["sbatch", "--parsable", "--hold", "--time=1", "--wrap=true"]
    job = subprocess.run(held, env=environment, capture_output=True, text=True, check=True).stdout.strip()
    assert plain_cluster.jobs() == [job]
    assert cluster.jobs() == []
    plain_cluster.cancel_all()
    assert plain_cluster.jobs() == []
    assert "accounting_storage/slurmdbd" in cluster.output("scontrol", "show", "config")
    assert "accounting_storage/slurmdbd" not in plain_cluster.output("scontrol", "show", "config")


def test_a_daemon_stops_and_comes_back(cluster: Cluster) -> None:
    """What the tests of broken clusters rest on: a daemon is really gone, and really back."""
    cluster.stop("slurmdbd")
    assert cluster.pid("slurmdbd") is None
    cluster.start("slurmdbd")
    assert "virtual" in cluster.output("sacctmgr", "-n", "show", "cluster")
