"""Several cells in one SLURM job: the same results, and each cell's luck is its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from amago_suite.slurm.pack import Member, exit_code, main, write_pack
from tests.slurm.lab import SHORT, Lab, calm_run, wait_for

THREE = ("a", "b", "c")


def rooms(names: tuple[str, ...] = THREE) -> str:
    """Environments of one kind under several names."""
    return (
        "[" + ", ".join(f"{{ name: {n}, id: tmaze-passive, params: {{ corridor: 3 }} }}" for n in names) + "]"
    )


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A short run on this machine, one cell; cells of equal settings give equal bytes."""
    return calm_run(tmp_path_factory.mktemp("short"), **SHORT)


@pytest.fixture
def packed(lab: Lab) -> Lab:
    """Three cells, up to four in a job."""
    lab.settings["cells_per_job"] = "4"
    lab.write(environments=rooms(), gpus=1, **SHORT)
    return lab


def jobs(lab: Lab) -> list[tuple[str, str, str, str]]:
    """(state, CPUs, memory, comment) of every job of the suite, oldest first."""
    assert lab.cluster is not None
    name = _name(lab)
    listed = lab.cluster.output(
        "squeue", "-h", "--states=all", "--name", name, "--sort=i", "-o", "%T|%C|%m|%k"
    )
    return [tuple(line.split("|", 3)) for line in listed.splitlines()]  # type: ignore[misc]


def _name(lab: Lab) -> str:
    from amago_suite.configuration.identity import digest

    return f"amago-tiny-{digest(str((lab.folder / 'results' / 'tiny').resolve()))[:12]}"


def same(lab: Lab, short: Mapping[str, bytes], environment: str) -> bool:
    """Whether a cell's weights are those of a local run of their own (episodes carry the cell's name)."""
    return (lab.cell(environment=environment) / "policy.safetensors").read_bytes() == short[
        "ff/policy.safetensors"
    ]


def seconds(lab: Lab, environment: str) -> list[dict]:
    text = (lab.cell(environment=environment) / "state" / "attempts.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines() if json.loads(line)["end"]]


@pytest.mark.slurm
@pytest.mark.slow
def test_three_cells_share_two_jobs_and_a_gpu(packed: Lab, short: Mapping[str, bytes]) -> None:
    """One job trains all, one evaluates all; the same bits as alone; nothing to be done afterwards, packed or not."""
    assert packed.run() == 0, packed.said()
    assert all(same(packed, short, environment) for environment in THREE)
    found = jobs(packed)
    assert [job[:3] for job in found] == [("COMPLETED", "3", "1800M"), ("COMPLETED", "3", "1800M")]
    assert all(job[3].startswith("pack ") for job in found)
    assert len({seconds(packed, environment)[0]["job"] for environment in THREE}) == 1
    # Side by side on one GPU, and not one after the other.
    spans = [seconds(packed, environment)[0] for environment in THREE]
    assert max(span["start"] for span in spans) < min(span["end"] for span in spans)
    for size in ("4", "1"):
        packed.settings["cells_per_job"] = size
        assert packed.run("--dry-run") == 0
        assert packed.said().count("Nothing to be done") >= 1
    assert (packed.folder / "results" / "tiny" / "tables" / "scores.csv").is_file()


@pytest.mark.slurm
@pytest.mark.slow
def test_one_cell_fails_and_the_others_do_not(packed: Lab, short: Mapping[str, bytes]) -> None:
    """A cell that fails for good takes nobody along, is not tried again, and its neighbours are evaluated."""
    text = (packed.folder / packed.suite).read_text()
    bad = "{ name: b, id: tmaze-passive, params: { corridor: 3 }, gin: 'Experiment.learning_rate = 1e30' }"
    (packed.folder / packed.suite).write_text(
        text.replace("{ name: b, id: tmaze-passive, params: { corridor: 3 } }", bad)
    )
    assert packed.run() == 1, packed.said()
    assert same(packed, short, "a") and same(packed, short, "c")
    for environment in ("a", "c"):
        assert (packed.cell(environment=environment) / "evaluation.json").is_file()
        assert len(seconds(packed, environment)) == 1
    assert len(seconds(packed, "b")) == 1
    assert "1 of 3 runs failed" in packed.said()


@pytest.mark.slurm
@pytest.mark.slow
def test_one_trainer_is_killed(packed: Lab, short: Mapping[str, bytes]) -> None:
    """As for memory: it alone is tried again, from its checkpoint, and ends in the same bits."""
    packed.write(environments=rooms(), epochs=40, batches=6)
    run = packed.start()
    (victim,) = wait_for(
        lambda: [
            p for p in packed.trainers() if "/b/" in " ".join(p.cmdline()) and packed_epochs(packed, "b") > 4
        ],
        "a trainer of b",
    )
    victim.kill()
    assert packed.end(run) == 0, packed.said()
    assert [len(seconds(packed, environment)) for environment in THREE] == [1, 2, 1]
    weights = {(packed.cell(environment=e) / "policy.safetensors").read_bytes() for e in THREE}
    assert len(weights) == 1


def packed_epochs(lab: Lab, environment: str) -> int:
    try:
        return len((lab.cell(environment=environment) / "progress.csv").read_text().splitlines()) - 1
    except FileNotFoundError:
        return 0


@pytest.mark.slurm
@pytest.mark.slow
def test_the_wall_time_ends_and_snakemake_is_killed(packed: Lab) -> None:
    """The signal before the end reaches every member: each writes a checkpoint and goes on in another job.

    And a pack that a killed Snakemake left is found, and its members are followed one by one.
    """
    assert packed.cluster is not None
    packed.write(environments=rooms(("a", "b")), epochs=60, batches=10)
    run = packed.start()
    wait_for(lambda: all(packed_epochs(packed, e) > 2 for e in ("a", "b")), "both to train")
    run.send_signal(signal.SIGKILL)
    run.wait()
    (job,) = packed.cluster.jobs()
    # What SLURM does 80 seconds before the wall time ends: TERM to the job's steps.
    again = packed.start()
    wait_for(lambda: "going on with that one" in packed.said(), "the job to be adopted")
    subprocess.run(["scancel", "--signal=TERM", job], env=packed.environment, check=True)
    assert packed.end(again) == 0, packed.said()
    for environment in ("a", "b"):
        records = seconds(packed, environment)
        assert [r["reason"] for r in records] == ["interrupted", "finished"]
        assert records[0]["job"] == job != records[1]["job"]
    weights = {(packed.cell(environment=e) / "policy.safetensors").read_bytes() for e in ("a", "b")}
    assert len(weights) == 1


@pytest.mark.slurm
def test_arrays_are_refused(lab: Lab) -> None:
    """The plugin's arrays give one task's failure to all: nothing is submitted with them, and the way out is said."""
    assert lab.run("--slurm-array-jobs=all") == 1
    assert "cells_per_job" in lab.said()
    assert lab.cluster is not None and lab.cluster.jobs() == []


def test_how_members_end(tmp_path: Path) -> None:
    """Exit codes one by one, a member killed by a signal too; a second start (a requeue) runs only the unfinished."""
    path = tmp_path / "pack.json"
    log = tmp_path / "new" / "b.log"
    commands = [f"echo x >> {tmp_path}/ran", "exit 75", f"echo said > {log}; kill -9 $$", "exit 3"]
    write_pack(path, [Member(f"cell {i}", c, str(log) if i == 2 else None) for i, c in enumerate(commands)])
    assert main(path) == 1
    assert [exit_code(path, i) for i in range(4)] == [0, 75, 137, 3]
    assert log.read_text() == "said\n"
    write_pack(path, [Member(f"cell {i}", c if i != 2 else "exit 75") for i, c in enumerate(commands[:3])])
    assert main(path) == 75
    assert (tmp_path / "ran").read_text() == "x\n"
    assert exit_code(path, 7) is None
    write_pack(path, [])
    assert main(path) == 1


def test_members_share_the_jobs_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them waits for a GPU of its own."""
    path = tmp_path / "pack.json"
    write_pack(path, [Member(name, f"echo $AMAGO_GPU_SLOT > {tmp_path}/{name}") for name in ("a", "b")])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert main(path) == 0
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text() == "3\n"


def test_a_signal_reaches_every_member(tmp_path: Path) -> None:
    """Also where the scheduler signals only the first process."""
    path = tmp_path / "pack.json"
    wait = f"trap 'exit 75' TERM; echo x >> {tmp_path}/up; while true; do sleep 0.1; done"
    write_pack(path, [Member("a", wait), Member("b", wait)])
    with subprocess.Popen([sys.executable, "-m", "amago_suite.slurm.pack", str(path)]) as process:
        wait_for(lambda: (tmp_path / "up").exists() and (tmp_path / "up").read_text() == "x\nx\n", "both")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 75
