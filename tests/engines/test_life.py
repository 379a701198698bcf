"""The life of a box: signals, deaths on either side, and what is said when it cannot even begin."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from amago.errors import AmagoError, ConfigurationError
from amago_suite import engines, gpus
from amago_suite.cell import Cell
from amago_suite.engines.boxed import LABEL, Boxed
from amago_suite.engines.job import Job
from amago_suite.engines.settings import Settings
from amago_suite.images import connect, resolve
from amago_suite.images.preparing import record_file
from amago_suite.paths import ROOT, SNAKEFILE
from tests.engines.conftest import BOXED, Desk, epochs, planned, wait_for

pytestmark = pytest.mark.slow

LONG = {"epochs": 400, "batches": 6, "architectures": "[rnn]", "seeds": "[0, 1]", "episodes": 10}


def boxes(engine: str, folder: Path) -> list[Any]:
    """Containers, running or not, of suites or cells below a folder; for Apptainer their processes."""
    if engine == "apptainer":
        own = [
            p
            for p in psutil.process_iter(["cmdline"])
            if str(folder.resolve()) in " ".join(p.info["cmdline"] or [])
        ]
        return [p for p in own if "apptainer" in " ".join(p.info["cmdline"])]
    client = connect(engine).api
    every = client.containers(all=True, filters={"label": f"{LABEL}.box"})
    return [c for c in every if c["Labels"][f"{LABEL}.cell"].startswith(str(folder.resolve()))]


def attempts(cell: Path) -> list[dict[str, Any]]:
    """Attempts at a cell, as they ended."""
    lines = [json.loads(line) for line in (cell / "state" / "attempts.jsonl").read_text().splitlines()]
    return list({line["attempt"]: line for line in lines}.values())


@pytest.mark.usefixtures("image")
@pytest.mark.parametrize("engine", BOXED)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_a_box_ends_with_its_launcher(engine: str, number: signal.Signals, desk: Desk) -> None:
    """Asked, the launcher waits for the checkpoint and says 75; killed, the box notices, and ends all the same.

    Podman keeps a box's input open when its launcher is gone: there the next start ends it.
    """
    long = next(iter(planned(desk, **LONG))).folder
    launcher = subprocess.Popen(desk.command("train", str(long), "--engine", engine), cwd=desk.folder)
    wait_for(lambda: epochs(long) >= 1, 200, "an epoch")
    launcher.send_signal(number)
    code = launcher.wait(120)
    assert code == (75 if number == signal.SIGTERM else -signal.SIGKILL)
    if number == signal.SIGTERM:
        assert boxes(engine, long) == []
    if engine == "podman":
        engines.engine(engine).clean(long.parents[2])
    wait_for(lambda: attempts(long)[-1]["end"], 120, "the box's last word")
    assert attempts(long)[-1]["reason"] == "interrupted"
    wait_for(lambda: not (long / "state" / "lock").exists(), 60, "the lock to be given back")
    assert list((long / "state" / "run" / "ckpts" / "training_states").glob("epoch_*/COMPLETE"))
    engines.engine(engine).clean(long.parents[2])
    wait_for(lambda: not boxes(engine, long), 60, "the container to be gone")


@pytest.mark.docker
@pytest.mark.usefixtures("image")
@pytest.mark.parametrize("engine", ["docker"])
def test_sigkill_in_the_middle_of_a_grid(engine: str, desk: Desk) -> None:
    """Killed and started again: no container is left, no cell is trained twice at once, the grid finishes."""
    desk.write(**{**LONG, "epochs": 25})
    run = desk.start("run", "tiny.yaml", "--engine", engine, "--cores", "2")
    first = desk.cell("rnn", 0)
    wait_for(lambda: epochs(first) >= 2, 150, "two epochs")
    run.kill()
    run.wait()
    done = desk.type("run", "tiny.yaml", "--engine", engine, "--cores", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert boxes(engine, desk.folder) == []
    for seed in (0, 1):
        cell = desk.cell("rnn", seed)
        history = attempts(cell)
        assert history[-1]["reason"] == "finished"
        ends = [a["end"] for a in history[:-1]]
        starts = [a["start"] for a in history[1:]]
        assert all(end <= start for end, start in zip(ends, starts, strict=True)), history
        assert json.loads((cell / "provenance.json").read_text())["engine"] == engine
    assert len(attempts(first)) == 2
    assert attempts(first)[1]["epoch_start"] >= 2

    # An engine is provenance, not identity: nobody is trained again on another one.
    for other in ("host", engine):
        dry = desk.type("run", "tiny.yaml", "--engine", other, "-n")
        assert "Nothing to be done" in dry.stdout + dry.stderr


@pytest.mark.usefixtures("image")
@pytest.mark.parametrize("engine", BOXED)
def test_out_of_memory_is_called_that(engine: str, desk: Desk, capfd: pytest.CaptureFixture[str]) -> None:
    """The kernel's killer in a box: a failure for good, one line that says what to raise."""
    huge = "FFTstepEncoder.d_hidden = 40000\n  FFTstepEncoder.d_output = 40000"
    fresh = next(iter(planned(desk, comment=huge)))
    code = engines.engine(engine).run(Job("train", fresh.folder, memory_mb=600), Settings(engine))
    assert code == 1
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    assert "out of memory: its box may use 600" in said[0]
    assert "resources.train.mem_mb" in said[0]
    assert json.loads(fresh.failed.read_text())["error"].startswith("out of memory")
    # A job of the same run leaves it at that, without another box.
    began = time.monotonic()
    assert engines.engine(engine).run(Job("train", fresh.folder, parent=os.getppid()), Settings(engine)) == 1
    assert time.monotonic() - began < 5


@pytest.mark.usefixtures("image")
@pytest.mark.parametrize("engine", BOXED)
def test_doctor_tries_the_engine(engine: str, desk: Desk) -> None:
    """It finds the image, and nothing that would stop a run."""
    done = desk.type("doctor", "--engine", engine, "--json")
    found = [f for f in json.loads(done.stdout)["findings"] if f["area"] == "engine"]
    assert resolve(engine, "core").reference in found[0]["what"]
    assert {f["level"] for f in found} <= {"ok", "note"}


@pytest.mark.usefixtures("image")
@pytest.mark.parametrize("engine", BOXED)
def test_results_in_a_folder_of_any_name(engine: str, tmp_path: Path) -> None:
    """Guards separators and quotes of mounts. Podman's service cannot, and says so before it starts anything."""
    desk = Desk(tmp_path / 'a, "b": ü $c')
    desk.folder.mkdir()
    (cell,) = planned(desk, epochs=1)
    done = desk.type("train", str(cell.folder), "--engine", engine)
    if engine == "podman":
        assert done.returncode == 2
        assert "because of a comma, quotation mark or line break in the path" in done.stderr
    else:
        assert done.returncode == 0, done.stdout + done.stderr
    assert cell.policy.exists() == (engine != "podman")


@pytest.mark.docker
@pytest.mark.usefixtures("image")
@pytest.mark.parametrize("engine", ["docker"])
def test_no_image_and_no_gpu(engine: str, fresh: Cell) -> None:
    """An image that is gone since the run began, and a GPU that the engine cannot hand out."""
    docker = engines.engine(engine)
    assert isinstance(docker, Boxed)
    plan = docker.plan(Job("train", fresh.folder), fresh, Settings(engine), gpus.Slot(()))
    gone = replace(plan, image=replace(plan.image, image_id="sha256:" + "0" * 64))
    with pytest.raises(
        ConfigurationError, match=r"there is no image .* any more: `amago-suite images build core`"
    ):
        docker.start(gone)
    with pytest.raises(AmagoError, match=r"^docker: .*no-such-network"):  # its own words: it does answer
        docker.start(replace(plan, network="no-such-network"))
    if "nvidia" not in connect("docker").api.info()["Runtimes"]:
        with pytest.raises(AmagoError, match="the engine cannot hand out a GPU"):
            docker.start(replace(plan, devices=("0",)))
    assert boxes(engine, fresh.folder) == []


@pytest.mark.parametrize(
    ("engine", "variables", "said"),
    [
        (
            "docker",
            {"DOCKER_HOST": "unix:///nowhere/docker.sock"},
            "docker does not answer at unix:///nowhere",
        ),
        (
            "podman",
            {"CONTAINER_HOST": "unix:///nowhere/podman.sock"},
            "podman does not answer at unix:///nowhere",
        ),
        ("apptainer", {"PATH": "/nowhere"}, "apptainer"),
        ("dokcer", {}, "unknown engine 'dokcer'; did you mean docker"),
    ],
)
def test_an_engine_that_is_not_there(engine: str, variables: dict[str, str], said: str, desk: Desk) -> None:
    """One line, exit code 2, before anything is written."""
    desk.write()
    done = subprocess.run(
        desk.command("run", "tiny.yaml", "--engine", engine), cwd=desk.folder, env={**os.environ, **variables},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"error: {said}")
    assert not (desk.folder / "results").exists()


@pytest.mark.docker
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody without rights")
def test_no_permission_on_the_socket() -> None:
    """Somebody who is not in the group docker is told how to get there."""
    program = (
        "import os, docker, docker.errors\n"
        "from amago_suite.engines import engine\n"
        "from amago.errors import ConfigurationError\n"
        "engine('docker').check(); own = engine('docker')\n"
        "os.setgroups([]); os.setegid(65534); os.seteuid(65534)\n"  # the packages may be root's alone
        "try: own.check()\n"
        "except ConfigurationError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert "no permission to use docker" in done.stdout, done.stderr
    assert "usermod -aG docker" in done.stdout


@pytest.mark.docker
def test_a_secret_that_is_not_set(desk: Desk) -> None:
    """Said before the first job."""
    desk.write()
    done = desk.type("run", "tiny.yaml", "--engine", "docker", "--config", "secrets=NO_SUCH_KEY")
    assert (done.returncode, done.stderr) == (
        2, "error: secrets: the environment variable NO_SUCH_KEY is not set\n",
    )  # fmt: skip


@pytest.mark.parametrize("engine", BOXED[::2])
def test_a_profile_chooses_the_engine(engine: str, desk: Desk) -> None:
    """With --config too, which replaces a profile's own `config:`; by both doors."""
    desk.write(seeds="[0, 1, 2]")
    profile = ROOT / "profiles" / engine
    program = (
        "import sys; from amago_suite.engines.settings import Settings; old = Settings.export\n"
        "def export(self): print('ENGINE', self.engine, self.network, self.secrets, file=sys.stderr); old(self)\n"
        "Settings.export = export; sys.argv[0] = 'snakemake'; from snakemake.cli import main; main()"
    )
    options = ["--snakefile", str(SNAKEFILE), "--profile", str(profile), "--config", "suite=tiny.yaml", "-n"]
    dry = subprocess.run(
        [sys.executable, "-c", program, *options],
        cwd=desk.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert dry.returncode == 0, dry.stderr
    assert f"ENGINE {engine} none ()" in dry.stderr
    broken = {**os.environ, "DOCKER_HOST": "unix:///nowhere", "PATH": "/nowhere"}
    done = subprocess.run(
        desk.command("run", "tiny.yaml", "--profile", str(profile)), cwd=desk.folder, env=broken,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {engine}")


@pytest.mark.apptainer
@pytest.mark.parametrize("engine", ["apptainer"])
def test_snakemakes_own_apptainer(engine: str, desk: Desk, image: None) -> None:
    """`--sdm apptainer` runs jobs in the family's .sif with the engine host, and with no other engine."""
    desk.write()
    options = ["--snakefile", str(SNAKEFILE), "--config", "suite=tiny.yaml", "--sdm", "apptainer", "-c1"]
    command = [sys.executable, "-m", "snakemake", *options]
    refused = subprocess.run(
        [*command, "--config", "suite=tiny.yaml", "engine=docker"], cwd=desk.folder, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if shutil.which("docker") is None:
        assert refused.returncode == 2
    else:
        assert (refused.returncode, "--sdm apptainer puts every job" in refused.stderr) == (2, True)
    done = subprocess.run(command, cwd=desk.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((desk.cell() / "provenance.json").read_text())
    assert record["engine"] == "apptainer"
    assert record["image_id"].startswith("sha256:")


def test_a_plan_names_its_record(fresh: Cell) -> None:
    """Jobs read which image they get; finished cells do not depend on it, so it is no rule's input."""
    assert record_file(fresh.folder.parents[2], "docker", "core").parent.name == ".images"
    rules = (ROOT / "workflow" / "rules" / "train.smk").read_text()
    assert ".images" not in rules
