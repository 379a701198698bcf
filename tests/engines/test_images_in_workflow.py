"""The workflow and images: a missing one is built once, and no image ever trains a finished cell again."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from amago_suite.images import connect
from amago_suite.images.build import BASE_VARIABLE
from amago_suite.images.contents import PREFIX_VARIABLE
from amago_suite.paths import SNAKEFILE
from tests.integration.conftest import Desk


@pytest.fixture
def docker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A real engine in which this test's image is missing."""
    client = connect("docker")
    prefix = f"amago-test-{secrets.token_hex(4)}"
    monkeypatch.setenv(PREFIX_VARIABLE, prefix)
    if BASE_VARIABLE not in os.environ and client.images.list("amago-suite/base"):
        monkeypatch.setenv(BASE_VARIABLE, "amago-suite/base")
    yield client
    for image in client.images.list(f"{prefix}/*"):
        for tag in image.tags:
            client.images.remove(tag, force=True)
    client.close()


def snakemake(desk: Desk, engine: str) -> str:
    """Plain Snakemake over the tiny suite. Returns what it said."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE), "--cores", "2"]
    profile = ["--workflow-profile", str(SNAKEFILE.parent / "profiles" / "default")]
    config = ["--config", "suite=tiny.yaml", f"engine={engine}"]
    done = subprocess.run(
        [*command, *profile, *config],
        cwd=desk.folder,
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def times(desk: Desk) -> dict[str, int]:
    """When each file of results was written last; the images' records apart."""
    files = (path for path in (desk.folder / "results").rglob("*") if path.is_file())
    kept = (path for path in files if ".images" not in path.parts and "logs" not in path.parts)
    return {str(path.relative_to(desk.folder)): path.stat().st_mtime_ns for path in kept}


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_missing_image_is_built_once_and_no_engine_trains_a_finished_cell_again(
    docker: Any, tmp_path: Path
) -> None:
    """Two cells wait for one build; then host, docker, a lost record and a lost image change nothing."""
    desk = Desk(tmp_path)
    desk.write(architectures="[ff]", seeds="[0, 1]")
    said = snakemake(desk, "docker")
    assert said.count("building the image of core with docker") == 1
    record = desk.folder / "results" / "tiny" / ".images" / "docker-core.json"
    image = json.loads(record.read_text())
    for seed in (0, 1):
        provenance = json.loads((desk.cell(seed=seed) / "provenance.json").read_text())
        assert provenance["engine"] == "docker"
        assert image["image_id"] in json.dumps(provenance)
    before = times(desk)
    assert len(before) > 10
    assert "Nothing to be done" in snakemake(desk, "host")
    assert "Nothing to be done" in snakemake(desk, "docker")
    record.unlink()
    docker.images.remove(image["reference"], force=True)
    assert "Nothing to be done" in snakemake(desk, "docker")
    assert times(desk) == before
    # One cell more: only that one is trained, and its image is there again.
    desk.write(architectures="[ff]", seeds="[0, 1, 2]")
    snakemake(desk, "docker")
    after = times(desk)
    finished = [name for name in before if "/seed_" in name]
    assert {name: after[name] for name in finished} == {name: before[name] for name in finished}
    assert (desk.cell(seed=2) / "provenance.json").is_file()


@pytest.mark.docker
@pytest.mark.slow
def test_image_that_cannot_be_built_is_said_before_the_first_job(
    docker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`amago-suite run`: one error with the build's log, exit code 1 or 2, no cell touched."""
    monkeypatch.setenv(BASE_VARIABLE, "localhost:9/none:1")
    desk = Desk(tmp_path)
    desk.write()
    done = desk.type("run", "tiny.yaml", "--engine", "docker", "--cores", "1")
    assert done.returncode in (1, 2)
    assert "building the image of core with docker failed" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert not (desk.cell() / "progress.csv").exists()
