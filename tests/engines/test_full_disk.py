"""A real engine whose disk is full: one line that names the cell and the disk, and no repeated attempts."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import docker.errors
import pytest

from amago import TRAINING_VERSION
from amago_suite.images import lock_hash
from tests.engines.conftest import Desk, wait_for

pytestmark = [pytest.mark.docker, pytest.mark.slow]


@pytest.fixture
def small_engine() -> Iterator[Path]:
    """A second engine, with a disk of its own of 16 MB that holds an image of one file, and no hand in the network."""
    # Not pytest's own folder: the names of sockets must be short.
    folder = Path(tempfile.mkdtemp(prefix="engine-"))
    disk, socket = folder / "disk", folder / "docker.sock"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)], check=True)
    arguments = [
        "--host",
        f"unix://{socket}",
        "--data-root",
        str(disk),
        "--exec-root",
        str(folder / "exec"),
    ]
    arguments += ["--pidfile", str(folder / "pid"), "--bridge=none", "--iptables=false"]
    # In a network of its own: a second engine removes the bridge of the first.
    with open(folder / "log", "wb") as log:
        daemon = subprocess.Popen(["unshare", "--net", "dockerd", *arguments], stdout=log, stderr=log)

    def answers() -> bool:
        assert daemon.poll() is None, (folder / "log").read_text()
        try:
            return docker.DockerClient(f"unix://{socket}").ping()
        except docker.errors.DockerException:
            return False

    try:
        wait_for(answers, 30, "the engine")
        client = docker.DockerClient(f"unix://{socket}")
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            tar.addfile(tarfile.TarInfo("empty"))
        labels = {
            "amago.family": "core",
            "amago.training-version": str(TRAINING_VERSION),
            "amago.lock-hash": lock_hash("core"),
        }
        changes = [f"LABEL {key}={json.dumps(value)}" for key, value in labels.items()]
        client.api.import_image_from_data(
            packed.getvalue(), repository="amago-suite/core", tag="latest", changes=changes
        )
        yield folder
    finally:
        daemon.terminate()
        daemon.wait(30)
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
        shutil.rmtree(folder)


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("dockerd") is None, reason="needs root and dockerd, to start an engine"
)
def test_a_full_disk_of_the_engine(small_engine: Path, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The suite ends at once with the engine's own words, and a record of it in the cell."""
    desk.write()
    monkeypatch.setenv("DOCKER_HOST", f"unix://{small_engine / 'docker.sock'}")
    monkeypatch.setenv("AMAGO_IMAGE_PREFIX", "amago-suite")
    subprocess.run(
        ["dd", "if=/dev/zero", f"of={small_engine / 'disk' / 'rest'}", "bs=64k"],
        check=False,
        capture_output=True,
    )
    began = time.monotonic()
    done = desk.type("run", "tiny.yaml", "--engine", "docker", "--cores", "1")
    assert done.returncode == 1, done.stdout + done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert said[0].startswith("error: tmaze-passive / ff / seed 0: docker: the engine's disk is full: "), said
    assert "no space left on device" in said[0]
    assert "`docker system df`" in said[0]
    assert "1 of 1 runs failed" in said[-1]
    assert json.loads((desk.cell("ff") / "state" / "failed.json").read_text())["stage"] == "train"
    assert time.monotonic() - began < 100
