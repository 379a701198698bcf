"""One cell in four engines: the same weights and episodes, and every number knows its image."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import docker
import pytest

from amago_suite.cell import Cell
from amago_suite.commands.verify_cell import without_clocks
from amago_suite.engines.boxed import LABEL
from amago_suite.images import connect, resolve
from tests.engines.conftest import BOXED, Desk, epochs, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("image")]


def typed(desk: Desk, *words: str) -> None:
    done = desk.type(*words)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("engine", BOXED)
def test_a_cell_is_the_same_in_every_engine(engine: str, fresh: Cell, reference: Desk) -> None:
    """Guards packages, threads, hash seeds and clocks in a box: nothing of it reaches a number."""
    folder = str(fresh.folder)
    typed(reference, "train", folder, "--engine", engine)
    typed(reference, "evaluate", folder, "--engine", engine)
    same(fresh.folder, reference.cell("rnn"))

    image = resolve(engine, "core")
    for name in ("provenance.json", "evaluation.json"):
        record = json.loads((fresh.folder / name).read_text())
        assert (record["engine"], record["image"], record["image_id"]) == (
            engine, image.reference, image.image_id,
        )  # fmt: skip
        assert (record["lock_hash"], record["sif_sha256"]) == (image.lock_hash, image.sif_sha256)
        assert (record["sif_sha256"] is not None) == (engine == "apptainer")
        assert len(record["git"]["commit"]) == 40
    record = json.loads((fresh.folder / "provenance.json").read_text())
    host = json.loads((reference.cell("rnn") / "provenance.json").read_text())
    assert record["image_ids"] == [image.image_id]
    assert record["hosts"] == host["hosts"]
    assert (host["engine"], host["image_id"], host["image_ids"]) == ("host", None, [])


@pytest.mark.docker
@pytest.mark.parametrize("engine", ["docker"])
def test_a_cell_killed_in_its_box_goes_on_to_the_same_weights(
    engine: str, fresh: Cell, reference: Desk
) -> None:
    """SIGKILL of the container in the middle, and the next launch: no wait for the dead one's lock."""
    command = reference.command("train", str(fresh.folder), "--engine", engine)
    launcher = subprocess.Popen(command, cwd=reference.folder)
    wait_for(lambda: epochs(fresh.folder) >= 3, 60, "three epochs")
    client: docker.APIClient = connect("docker").api
    (container,) = client.containers(filters={"label": f"{LABEL}.cell={fresh.folder.resolve()}"})
    client.kill(container["Id"], signal=int(signal.SIGKILL))
    assert launcher.wait(30) == 75
    assert not client.containers(all=True, filters={"label": f"{LABEL}.cell={fresh.folder.resolve()}"})
    assert not (fresh.state / "lock").exists()

    typed(reference, "train", str(fresh.folder), "--engine", engine)
    typed(reference, "evaluate", str(fresh.folder), "--engine", "host")
    same(fresh.folder, reference.cell("rnn"))
    record = json.loads(fresh.provenance.read_text())
    assert record["attempts"] == 2


def same(one: Path, other: Path) -> None:
    for name in ("policy.safetensors", "episodes.csv"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    assert without_clocks(one / "progress.csv") == without_clocks(other / "progress.csv")
