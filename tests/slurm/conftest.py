"""Real clusters, started when a test first asks for one and stopped at the end of the session."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import BLOCK, Cluster, free_ports, running
from tests.slurm.lab import LONG, Lab, calm_run


def make_cluster(*, accounting: bool, **settings: int) -> Cluster:
    """A cluster on ports that no other test process takes at the same moment."""
    first = 17000 + (os.getpid() % 64) * 2 * BLOCK + int(accounting) * BLOCK
    # Not pytest's own folder: a socket's path must stay short.
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    return Cluster(folder, free_ports(first), accounting=accounting, **settings)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Two virtual nodes of 4 CPUs and 2 pretended GPUs each, with accounting."""
    with running(make_cluster(accounting=True)) as started:
        yield started


@pytest.fixture(scope="session")
def plain_cluster() -> Iterator[Cluster]:
    """The same without accounting: no sacct, jobs stay visible in squeue for an hour."""
    with running(make_cluster(accounting=False, min_job_age=3600)) as started:
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
    made.close()
