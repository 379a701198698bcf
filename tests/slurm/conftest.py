"""Real clusters, started when a test first asks for one and stopped at the end of the session."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import BLOCK, Cluster, free_ports, running
from tests.slurm.lab import LONG, Lab, calm_run


def make_cluster(worker: str, *, accounting: bool, **settings: int) -> Cluster:
    """A cluster whose ports no other process of this test session takes at the same moment."""
    number = int(worker.removeprefix("gw")) if worker.startswith("gw") else 0
    first = 17000 + (2 * number + int(accounting)) * 10 * BLOCK
    # Not pytest's own folder: a socket's path must stay short.
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    return Cluster(folder, free_ports(first), accounting=accounting, **settings)


@pytest.fixture(scope="session")
def cluster(worker_id: str) -> Iterator[Cluster]:
    """Two virtual nodes of 4 CPUs and 2 pretended GPUs each, with accounting."""
    with running(make_cluster(worker_id, accounting=True)) as started:
        yield started


@pytest.fixture(scope="session")
def plain_cluster(worker_id: str) -> Iterator[Cluster]:
    """The same without accounting: no sacct, jobs stay visible in squeue for an hour."""
    with running(make_cluster(worker_id, accounting=False, min_job_age=3600)) as started:
        yield started


@pytest.fixture(scope="session")
def calm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Results of the suite that scenarios disturb, from an undisturbed run on this machine."""
    return calm_run(tmp_path_factory.mktemp("calm"), **LONG)


@pytest.fixture
def lab(tmp_path: Path, cluster: Cluster) -> Iterator[Lab]:
    """A suite of one cell, long enough to be met while it trains; whatever it left behind ends with the test."""
    made = Lab(tmp_path, cluster)
    made.write(**LONG)
    yield made
    cluster.cancel_all()
