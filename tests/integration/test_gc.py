"""`amago-suite gc`: frees what only a longer training needs, and nothing else; afterwards all works as before."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from amago_suite.locks import RunLock

pytestmark = pytest.mark.slow

FREED = ("state/run/ckpts", "state/replay/buffer/fifo")


@pytest.fixture(scope="module")
def trained(make_desk) -> Any:
    """A desk with a finished grid of two cells."""
    desk = make_desk("gc")
    desk.write(seeds="[0, 1]")
    assert desk.type("run", "tiny.yaml").returncode == 0
    return desk


@pytest.fixture
def desk(trained: Any, tmp_path: Path) -> Any:
    """A copy of it."""
    shutil.copytree(trained.folder, tmp_path / "desk")
    return type(trained)(tmp_path / "desk")


def contents(folder: Path, but: tuple[str, ...] = ()) -> dict[str, bytes]:
    """Every file below ``folder``, but for some folders and what says that they are gone."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != "freed.json"]
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in paths
        if not any(f"/{part}/" in str(path) for part in but)
    }


def stamps(folder: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in folder.glob("*/*/seed_*/*.*") if p.is_file()}


def freed(desk: Any, *arguments: str) -> dict[int, dict[str, Any]]:
    """Seed -> what `gc` says of it."""
    done = desk.type("gc", "tiny.yaml", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return {cell["seed"]: cell for cell in json.loads(done.stdout)["cells"]}


def test_without_yes_nothing_is_touched(desk) -> None:
    """What takes long to make again must not go by a command typed to see what it does."""
    before = contents(desk.folder)
    said = desk.type("gc", "tiny.yaml")
    assert said.returncode == 0
    assert "--yes" in said.stdout and "2 finished runs can go" in said.stdout
    assert contents(desk.folder / "results") == {
        name.removeprefix("results/"): data for name, data in before.items() if name.startswith("results/")
    }


def test_results_stay_and_everything_else_still_works(desk) -> None:
    """Freed runs are done, verified and in the tables, and no job runs again."""
    results = desk.folder / "results" / "tiny"
    before, when = contents(results, but=FREED), stamps(results)
    on_disk = sum(
        path.stat().st_blocks * 512
        for path in {p.stat().st_ino: p for part in FREED for p in desk.cell().glob(f"{part}/**/*")}.values()
    )
    found = freed(desk, "--yes")
    assert all(cell["freed"] and cell["kept"] is None for cell in found.values())
    assert 0 <= found[0]["bytes"] - on_disk <= 4096 * len(FREED)  # and these folders themselves
    for part in FREED:
        assert not (desk.cell() / part).exists()
    assert contents(results) == before

    status = json.loads(desk.type("status", "tiny.yaml", "--json").stdout)
    assert status["counts"] == {"done": 2}
    verified = desk.type("verify", "tiny.yaml", "--json")
    assert verified.returncode == 0 and json.loads(verified.stdout)["checked"] == 2
    shutil.rmtree(results / "tables")
    assert desk.type("run", "tiny.yaml").returncode == 0
    assert stamps(results) == when
    tables = contents(results / "tables")
    assert tables == {n.removeprefix("tables/"): d for n, d in before.items() if n.startswith("tables/")}
    assert desk.type("tables", "tiny.yaml").returncode == 0
    assert freed(desk, "--yes") == {
        seed: {**cell, "bytes": 0, "freed": False} for seed, cell in found.items()
    }


def test_a_larger_budget_trains_anew_says_so_and_gives_the_same_numbers(desk) -> None:
    """A freed run cannot be continued; trained from the start, it ends in the bits of a continued one.

    Also when the freeing itself was cut off in the middle, with a checkpoint still there.
    """
    shutil.copytree(desk.folder, desk.folder.with_name("other"))
    continued = type(desk)(desk.folder.with_name("other"))
    freed(desk, "--yes")
    # As a kill after the mark leaves it: the replay is gone, and this is not.
    shutil.copytree(continued.cell() / FREED[0], desk.cell() / FREED[0])
    for each in (desk, continued):
        each.write(epochs=6)
    (status,) = json.loads(desk.type("status", "tiny.yaml", "--json").stdout)["cells"]
    assert (status["state"], status["epoch"]) == ("waiting", 0)
    logs = []
    for each in (desk, continued):
        done = each.type("run", "tiny.yaml")
        assert done.returncode == 0, done.stderr
        assert ("freed by `amago-suite gc`" in " ".join(done.stdout.split())) == (each is desk)
        log = each.folder / "results" / "tiny" / "logs" / "tmaze-passive" / "ff" / "seed_0.train.log"
        logs.append(log.read_text())
    assert "training from the start" in logs[0] and "going on at epoch 4" in logs[1]
    assert not (desk.cell() / "state" / "freed.json").exists()
    for name in ("policy.safetensors", "episodes.csv", "metrics.jsonl"):
        assert (desk.cell() / name).read_bytes() == (continued.cell() / name).read_bytes(), name


def test_only_finished_runs_are_freed(desk) -> None:
    """A run that may still go on, or whose results cannot be trusted, keeps what it can be made again from."""
    cell = desk.cell()
    other = {1: None}  # the other cell is free to go in every case

    def kept(**_: Any) -> str | None:
        found = freed(desk)
        assert {1: found[1]["kept"]} == other
        return found[0]["kept"]

    evaluation = (cell / "evaluation.json").read_bytes()
    (cell / "evaluation.json").unlink()
    assert kept() == "not evaluated"
    (cell / "evaluation.json").write_bytes(evaluation)
    episodes = (cell / "episodes.csv").read_bytes()
    (cell / "episodes.csv").write_bytes(episodes + b"\n")
    assert "episodes.csv is not the recorded one" in str(kept())
    (cell / "episodes.csv").write_bytes(episodes)
    weights = (cell / "policy.safetensors").read_bytes()
    (cell / "policy.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    assert "policy.safetensors is not the recorded one" in str(kept())
    (cell / "policy.safetensors").write_bytes(weights)
    provenance = (cell / "provenance.json").read_bytes()
    (cell / "provenance.json").unlink()
    assert kept() == "not finished"
    (cell / "provenance.json").write_bytes(provenance)
    assert kept() is None

    desk.write(seeds="[0, 1]", epochs=6)
    assert {c["kept"] for c in freed(desk, "--yes").values()} == {
        "its budget has changed: training goes on from here"
    }
    desk.write(seeds="[0, 1]", batches=2)
    assert {c["kept"] for c in freed(desk, "--yes").values()} == {"of other settings than the suite's"}
    assert (cell / FREED[0]).is_dir()


def test_a_cell_in_use_is_left_alone(desk) -> None:
    """Its lock is respected, and held while freeing, so that nobody trains on what is being removed."""
    holder = (
        "import sys, pathlib; from amago_suite.locks import RunLock;"
        "RunLock(pathlib.Path(sys.argv[1])).acquire(); print('held', flush=True); sys.stdin.read()"
    )
    lock = desk.cell() / "state" / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        found = freed(desk, "--yes")
        assert str(found[0]["kept"]).startswith(f"in use by process {process.pid} on")
        assert found[1]["freed"] and (desk.cell() / FREED[0]).is_dir()
        process.kill()
    # Its owner died without a word: the lock is stale, and no reason to keep anything.
    assert lock.exists()
    assert freed(desk, "--yes")[0]["freed"]
    assert RunLock(lock).try_acquire() is None
