"""What a job in a box must not be able to do: each is tried from inside, and refused."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from amago_suite import engines, gpus
from amago_suite.cell import Cell
from amago_suite.engines.boxed import Boxed, Plan, Stop
from amago_suite.engines.job import Job, Limits
from amago_suite.engines.settings import Settings
from amago_suite.engines.user import give
from tests.engines.conftest import BOXED

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("image")]

#: Runs inside. Every attack says "refused: why" or what it got.
ATTACKS = """
import ctypes, json, os, pathlib, socket, sys, threading, urllib.request

given = json.loads(sys.argv[1])
found = {}

def attack(name):
    def run(function):
        try:
            found[name] = f"got {function()!r}"
        except (OSError, RuntimeError) as error:
            found[name] = f"refused: {error}"
    return run

@attack("the internet by address")
def _(): return socket.create_connection(("1.1.1.1", 53), timeout=2)
@attack("the internet by name")
def _(): return urllib.request.urlopen("http://example.com", timeout=2)
@attack("a server on this machine")
def _(): return socket.create_connection(("127.0.0.1", given["port"]), timeout=2)
@attack("another network device")
def _():
    state = lambda name: open(f"/sys/class/net/{name}/operstate").read().strip()
    others = [name for _, name in socket.if_nameindex() if name != "lo" and state(name) == "up"]
    if not others: raise OSError("only lo")
    return others

images_own = ("/", "/work", "/work/results", "/usr", "/etc", "/opt", "/home", "/root", "/var")
for place in (*images_own, given["beside"], given["home"]):
    @attack(f"write to {place}")
    def _(): return pathlib.Path(place, "attack").write_text("x")
for place in (given["secret"], given["other cell"], given["home"], "../seed_1/cell.yaml", "/proc/1/root" + given["secret"]):
    @attack(f"read {place}")
    def _():
        path = pathlib.Path(given["cell"], place) if place.startswith("..") else pathlib.Path(place)
        content = os.listdir(path) if path.is_dir() else path.read_text()
        # An empty folder of the image's own is nothing of this machine's.
        if set(content) <= {".bashrc", ".profile"}: raise OSError("nothing of this machine there")
        return content
for place in ("/var/run/docker.sock", "/run/podman/podman.sock"):
    @attack(f"the engine's own socket {place}")
    def _(): socket.socket(socket.AF_UNIX).connect(place)

@attack("root by setuid")
def _(): return os.setuid(0)
@attack("root's group")
def _(): return os.setgid(0)
@attack("another root folder")
def _(): return os.chroot("/tmp")
@attack("a device node")
def _(): return os.mknod("/tmp/disk", 0o60600, os.makedev(8, 0))
@attack("a mount")
def _():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"none", b"/tmp", b"tmpfs", 0, None): raise OSError(ctypes.get_errno(), "mount")
@attack("more processes than the limit")
def _():
    go = threading.Event()
    try:
        for count in range(2 * given["processes"]):
            threading.Thread(target=go.wait, daemon=True).start()
    finally:
        go.set()
    return count

status = dict(line.split(":", 1) for line in open("/proc/self/status"))
facts = {
    "ids": [*os.getresuid(), *os.getresgid(), *os.getgroups()],
    "capabilities": [int(status[key], 16) for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
    "no new privileges": int(status["NoNewPrivs"]),
    "processes seen": len([name for name in os.listdir("/proc") if name.isdigit()]),
    "environment": dict(os.environ),
}
pathlib.Path(given["cell"], "found.json").write_text(json.dumps({"found": found, "facts": facts}))
"""


@pytest.fixture
def server() -> Iterator[int]:
    """A port on which this machine listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def box_of(engine: str, cell: Cell, settings: Settings, **changes: Any) -> tuple[Boxed, Plan]:
    """The very box that a training of the cell gets, with another command in it."""
    boxed = engines.engine(engine)
    assert isinstance(boxed, Boxed)
    plan = boxed.plan(Job("train", cell.folder), cell, settings, gpus.Slot(()))
    give(plan.folder, *plan.user)
    return boxed, replace(plan, **changes)


def run_to_end(boxed: Boxed, plan: Plan) -> int:
    container = boxed.start(plan)
    try:
        deadline = time.monotonic() + 100
        while (ended := container.wait(0.1)) is None:
            assert time.monotonic() < deadline
        return ended.code
    finally:
        container.remove()


@pytest.mark.parametrize("engine", BOXED)
def test_nothing_gets_out_of_a_box(
    engine: str, fresh: Cell, server: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Network, files, other cells, the home directory, root and privileges; also when the caller is root."""
    secret = tmp_path / "secret.txt"
    secret.write_text("of this machine")
    other = fresh.folder.with_name("seed_1")
    other.mkdir()
    (other / "cell.yaml").write_text("another cell")
    monkeypatch.setenv("A_TOKEN", "not for everyone")
    monkeypatch.setenv("A_KEY", "named")
    boxed, plan = box_of(engine, fresh, Settings(engine, secrets=("A_KEY",)))
    given = {
        "port": server,
        "beside": str(fresh.folder.parent),
        "home": str(Path.home()),
        "secret": str(secret),
        "other cell": str(other / "cell.yaml"),
        "cell": str(plan.inside),
        "processes": 64,
    }
    limits = Limits(plan.limits.cpus, plan.limits.memory_mb, 64)
    first = plan.command[: plan.command.index("amago-suite")]
    command = (*first, "python", "-c", ATTACKS, json.dumps(given))
    assert run_to_end(boxed, replace(plan, command=command, limits=limits)) == 0

    result = json.loads((fresh.folder / "found.json").read_text())
    assert {name: said for name, said in result["found"].items() if not said.startswith("refused")} == {}
    assert len(result["found"]) >= 27  # one less where the home directory is /root
    facts = result["facts"]
    assert 0 not in facts["ids"]
    assert facts["capabilities"] == [0] * 5
    assert facts["no new privileges"] == 1
    assert facts["processes seen"] < 10
    assert "A_TOKEN" not in facts["environment"]
    assert facts["environment"]["A_KEY"] == "named"
    assert facts["environment"]["PYTHONHASHSEED"] == "0"
    assert facts["environment"]["OMP_NUM_THREADS"] == str(fresh.threads)
    if os.geteuid() != 0:
        assert facts["ids"][0] == os.geteuid()
    assert secret.read_text() == "of this machine"


@pytest.mark.docker
@pytest.mark.parametrize("engine", ["docker"])
def test_what_a_job_leaves_is_harmless_outside(engine: str, fresh: Cell, tmp_path: Path) -> None:
    """Links out of the box, pipes and set-user programs are removed before anybody follows them."""
    target = tmp_path / "outside"
    target.write_text("kept")
    boxed, plan = box_of(engine, fresh, Settings(engine))
    leave = (
        f"import os; os.chdir({str(plan.inside)!r}); os.symlink({str(target)!r}, 'episodes.csv');"
        "os.mkfifo('pipe'); open('program', 'w'); os.chmod('program', 0o4755); os.symlink('/', 'state')"
    )
    first = plan.command[: plan.command.index("amago-suite")]
    with Stop() as stop:
        boxed.run_box(fresh, replace(plan, command=(*first, "python", "-c", leave)), stop)
    assert sorted(p.name for p in fresh.folder.iterdir()) == ["cell.yaml"]
    assert target.read_text() == "kept"


@pytest.mark.docker
@pytest.mark.parametrize("engine", ["docker"])
def test_a_secret_is_written_nowhere(engine: str, fresh: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in the cell's folder, and not in what a plan says of itself."""
    monkeypatch.setenv("A_KEY", "hunter2-of-this-test")
    boxed, plan = box_of(engine, fresh, Settings(engine, secrets=("A_KEY",)))
    assert "hunter2" not in repr(plan)
    assert "hunter2" not in json.dumps(plan.labels)
    assert boxed.run(Job("train", fresh.folder), Settings(engine, secrets=("A_KEY",))) == 0
    written = [p for p in fresh.folder.rglob("*") if p.is_file() and b"hunter2-of" in p.read_bytes()]
    assert written == []
