"""GPU slots: real processes that compete for devices whose list is pretended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from amago.errors import ConfigurationError
from amago_suite import gpus

# Takes a slot, appends when and what to a file of its own, holds it, and says so again.
WORKER = """
import json, os, sys, time
from pathlib import Path
from amago_suite import gpus

folder, name, seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
with gpus.use(name):
    begun = time.monotonic()
    print(os.environ.get("CUDA_VISIBLE_DEVICES", ""), flush=True)
    time.sleep(seconds)
    ended = time.monotonic()
(folder / f"{name}.json").write_text(json.dumps([begun, ended]))
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for the table; no slot is held for this process."""
    for name in (gpus.SLOT_VARIABLE, gpus.SHARE_VARIABLE, "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv(gpus.FOLDER_VARIABLE, str(tmp_path / "slots"))
    return tmp_path


def start(folder: Path, name: str, seconds: float) -> subprocess.Popen[str]:
    """A process that holds a slot for some seconds."""
    command = [sys.executable, "-c", WORKER, str(folder), name, str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def device_of(process: subprocess.Popen[str]) -> str:
    """The device that it got, once it has one: the line before may say that it waits."""
    assert process.stdout is not None
    for line in process.stdout:
        if "waiting" not in line:
            return line.strip()
    raise AssertionError("it ended without a device")


def most_at_once(spans: list[tuple[float, float]]) -> int:
    """How many intervals overlap at most."""
    events = sorted(
        [(begin, 1) for begin, _ in spans] + [(end, -1) for _, end in spans], key=lambda e: (e[0], e[1])
    )
    running = most = 0
    for _, step in events:
        running += step
        most = max(most, running)
    return most


@pytest.mark.parametrize(("share", "per_device"), [("1", 1), ("0.5", 2)])
def test_processes_never_share_more_than_they_may(
    machine: Path, monkeypatch: pytest.MonkeyPatch, share: str, per_device: int
) -> None:
    """Seven processes on two devices: each device has as many at once as fit, no more, and all come to an end."""
    monkeypatch.setenv(gpus.SHARE_VARIABLE, share)
    processes = [start(machine, f"cell{i}", 0.7) for i in range(7)]
    devices = [device_of(process) for process in processes]
    assert all(process.wait(timeout=60) == 0 for process in processes)
    spans: dict[str, list[tuple[float, float]]] = {}
    for i, device in enumerate(devices):
        begin, end = json.loads((machine / f"cell{i}.json").read_text())
        spans.setdefault(device, []).append((begin, end))
    assert set(spans) == {"0", "1"}
    assert all(most_at_once(of) <= per_device for of in spans.values())
    assert json.loads((machine / "slots" / "slots.json").read_text()) == {"slots": []}


def test_killed_holder_gives_its_slot_back(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL leaves an entry in the table; whoever comes next takes the device at once."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    holder = start(machine, "holder", 600)
    assert device_of(holder) == "0"
    waiting: list[str] = []
    next_one = start(machine, "next", 0)
    assert next_one.stdout is not None
    waiting.append(next_one.stdout.readline())
    assert "waiting for a free GPU (0: holder)" in waiting[0]
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert "holder" in (machine / "slots" / "slots.json").read_text()
    assert device_of(next_one) == "0"
    assert next_one.wait(timeout=30) == 0


def test_reused_process_number_holds_nothing(machine: Path) -> None:
    """A dead holder's number may be another process's by now: it is told by when it started."""
    folder = machine / "slots"
    folder.mkdir()
    with gpus.take("mine") as slot:
        table = json.loads((folder / "slots.json").read_text())
    table["slots"][0]["owner"]["ticks"] = "another-boot 1"
    table["slots"][0]["owner"]["started"] = 1.0
    table["slots"].append(table["slots"][0] | {"devices": ["1"]})
    (folder / "slots.json").write_text(json.dumps(table))
    began = time.monotonic()
    with gpus.take("other") as again:
        assert again.devices == slot.devices
    assert time.monotonic() - began < 1.0


@pytest.mark.parametrize("text", ["", "{", "[]", '{"slots": 7}', '{"slots": [7, {}, {"devices": 3}]}'])
def test_damaged_table_counts_as_empty(machine: Path, text: str) -> None:
    """A table that a full disk cut off keeps nobody from working."""
    (machine / "slots").mkdir()
    (machine / "slots" / "slots.json").write_text(text)
    with gpus.take("cell") as slot:
        assert slot.devices == ("0",)


def test_slots_spread_over_devices_and_mix_shares(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Halves go to the emptier device; a whole one fits only where nobody is; two whole ones take both."""
    monkeypatch.setenv(gpus.SHARE_VARIABLE, "0.5")
    with gpus.take("a") as a, gpus.take("b") as b:
        assert (a.devices, b.devices) == (("0",), ("1",))
    with gpus.take("a"):
        monkeypatch.setenv(gpus.SHARE_VARIABLE, "1")
        with gpus.take("whole") as whole:
            assert whole.devices == ("1",)
    monkeypatch.setenv(gpus.SHARE_VARIABLE, "2")
    with gpus.take("both") as both:
        assert both.devices == ("0", "1")
        assert both.environment == {"CUDA_VISIBLE_DEVICES": "0,1", gpus.SLOT_VARIABLE: "0,1"}


def test_three_thirds_fill_a_device(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shares that do not add up to one exactly: three of 0.3333 fit, a fourth does not."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    monkeypatch.setenv(gpus.SHARE_VARIABLE, str(1 / 3))
    with gpus.take("a") as a, gpus.take("b") as b, gpus.take("c") as c:
        assert {a.devices, b.devices, c.devices} == {("7",)}
        fourth = start(machine, "fourth", 0)
        assert fourth.stdout is not None
        assert "waiting" in fourth.stdout.readline()
    assert device_of(fourth) == "7"
    assert fourth.wait(timeout=30) == 0


def test_slot_held_by_the_launcher_is_not_taken_again(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process in a container whose launcher took the slot does not wait for another."""
    monkeypatch.setenv(gpus.SLOT_VARIABLE, "GPU-1")
    with gpus.take("inside") as slot:
        assert slot.devices == ("GPU-1",)
    assert not (machine / "slots").exists()


def test_environment_is_as_before_afterwards(machine: Path) -> None:
    """`use` changes this process for as long as it holds the slot."""
    before = dict(os.environ)
    with gpus.use("cell"):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    assert dict(os.environ) == before


@pytest.mark.parametrize("visible", ["", "-1", "-1,0"])
def test_no_device_means_no_slot(machine: Path, monkeypatch: pytest.MonkeyPatch, visible: str) -> None:
    """Hidden devices: a CPU run waits for nothing and leaves the variable alone."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with gpus.use("cell") as slot:
        assert slot.devices == () and slot.environment == {}
        assert os.environ["CUDA_VISIBLE_DEVICES"] == visible


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", "nan", "inf", "0.001"])
def test_impossible_share_is_one_clear_line(
    machine: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """Said before anything waits."""
    monkeypatch.setenv(gpus.SHARE_VARIABLE, text)
    with pytest.raises(ConfigurationError, match="gpus_per_cell"), gpus.take("cell"):
        pass


def test_more_than_the_machine_has_is_refused(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for three of two devices would never end."""
    monkeypatch.setenv(gpus.SHARE_VARIABLE, "3")
    with pytest.raises(ConfigurationError, match=r"takes 3 GPUs .* there are 2 here"), gpus.take("cell"):
        pass


def test_jobs_of_a_scheduler_have_tables_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two jobs on one node both call their own GPU 0, and must not wait for each other."""
    monkeypatch.delenv(gpus.FOLDER_VARIABLE, raising=False)
    folders = set()
    for job in ("11", "12"):
        monkeypatch.setenv("SLURM_JOB_ID", job)
        folders.add(gpus.default_folder())
    assert len(folders) == 2


def test_list_of_the_drivers_tool_is_read() -> None:
    """Whole GPUs by their UUID; a partitioned one counts as its parts."""
    text = (
        "GPU 0: NVIDIA H100 (UUID: GPU-1111-aa)\n"
        "GPU 1: NVIDIA H100 (UUID: GPU-2222-bb)\n"
        "  MIG 1g.10gb     Device  0: (UUID: MIG-3333-cc)\n"
        "  MIG 1g.10gb     Device  1: (UUID: MIG-4444-dd)\n"
    )
    assert gpus.parse_list(text) == ["GPU-1111-aa", "MIG-3333-cc", "MIG-4444-dd"]
    assert gpus.parse_list("No devices were found\n") == []
