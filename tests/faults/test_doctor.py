"""`amago-suite doctor` on a real machine with real faults: each is found, with a way out."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from amago_suite.doctor import NOTE, OK, PROBLEM, Finding, machine
from amago_suite.doctor.engine import engine as look_at_engine
from amago_suite.doctor.sharing import meeting, same_software, sharing_here
from amago_suite.paths import ROOT

SUITE = """
environments: [{ id: tmaze-passive, params: { corridor: 3 } }]
architectures: [ff]
seeds: [0]
budget: { epochs: 2 }
"""
FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


def doctor(folder: Path, *arguments: str, prepare: Callable[[], None] | None = None, **variables: str):
    """`amago-suite doctor --json`: exit code and findings."""
    done = subprocess.run(
        [sys.executable, "-m", "amago_suite", "doctor", "--json", *arguments],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        preexec_fn=prepare,
    )
    assert done.stdout, done.stderr
    said = json.loads(done.stdout)
    findings = [Finding(**finding) for finding in said["findings"]]
    assert said["problems"] == len([f for f in findings if f.level == PROBLEM])
    return done.returncode, findings


def only(findings: Iterable[Finding], level: str = PROBLEM) -> Finding:
    """The one finding of a level."""
    (found,) = [finding for finding in findings if finding.level == level]
    assert found.way_out
    return found


@pytest.mark.slow
def test_a_machine_where_all_is_well(tmp_path: Path) -> None:
    """Nothing that works is called broken, nothing is left behind, and the exit code says so."""
    (tmp_path / "small.yaml").write_text(SUITE)
    code, findings = doctor(tmp_path, "--suite", "small.yaml")
    assert code == 0 and not [f for f in findings if f.level == PROBLEM]
    areas = {f.area for f in findings if f.level == OK}
    assert {"versions", "profile", "suite", "disk", "gpu", "engine", "sharing"} <= areas
    assert [path.name for path in tmp_path.iterdir() if path.name != ".snakemake"] == ["small.yaml"]


SITES = {
    "unknown key": ("slurm: { partitoin: gpu }", "unknown key 'partitoin'; did you mean partition"),
    "wrong kind": ("slurm: { jobs: many }", "slurm.jobs: must be an integer, got 'many'"),
    "not YAML": ("slurm: { jobs: [", "site.yaml:2"),
    "a shell in a name": ("slurm: { account: 'a; rm -rf x' }", "slurm.account"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SITES)
def test_a_wrong_site_file_is_found(tmp_path: Path, name: str) -> None:
    """Before anything is submitted, with the key and what is allowed."""
    text, expected = SITES[name]
    (tmp_path / "site.yaml").write_text(text)
    code, findings = doctor(tmp_path, AMAGO_SITE=str(tmp_path / "site.yaml"))
    assert code == 2
    assert expected in only(findings).what


@pytest.mark.slow
def test_wrong_names_are_found(tmp_path: Path) -> None:
    """A variable that sets nothing, a suite that is not there, a profile that Snakemake does not take."""
    code, findings = doctor(tmp_path, AMAGO_SLURM_PARTITOIN="gpu")
    assert code == 2 and "AMAGO_SLURM_PARTITOIN" in only(findings).what
    code, findings = doctor(tmp_path, "--suite", "qiuck")
    assert code == 2 and "did you mean quick" in only(findings).what
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.yaml").write_text("cores: 2\nno-such-option: 3\n")
    code, findings = doctor(tmp_path, "--profile", "mine")
    assert code == 2 and "no-such-option" in only(findings).what
    missing = subprocess.run(
        [sys.executable, "-m", "amago_suite", "doctor", "--profile", "profiles/slrum"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert missing.returncode == 2 and missing.stderr.startswith(
        "error: --profile: no profiles/slrum/config.yaml"
    )


def test_disks_that_are_full_small_or_read_only(make_disk: Callable) -> None:
    """Tried by writing, because permissions and tables do not know of quotas."""
    disk = make_disk(3000)
    assert "less than 2 GiB" in only(machine.disk(disk.folder)).what
    assert "gc" in only(machine.disk(disk.folder / "results" / "quick")).way_out
    disk.fill()
    assert "No space left" in only(machine.disk(disk.folder)).what
    disk.read_only(True)
    assert "Read-only file system" in only(machine.disk(disk.folder)).what
    disk.read_only(False)


def test_a_temporary_folder_without_programs(make_disk: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """A noexec /tmp is common on clusters, and stops Apptainer and compilers."""
    disk = make_disk(1000)
    monkeypatch.setattr("tempfile.tempdir", str(disk.folder))
    assert "MiB free" in only(machine.temporary_folder()).what  # it is small, too
    subprocess.run(["mount", "-o", "remount,noexec", str(disk.folder)], check=True)
    found = only(machine.temporary_folder(), NOTE)
    assert "Permission denied" in found.what and "TMPDIR" in found.way_out
    assert machine.why_not_executable(Path("/tmp")) is None


def test_packages_that_are_not_the_locked_ones(tmp_path: Path) -> None:
    """Compared with what is installed, one by one, heeding markers."""
    lock = (ROOT / "requirements" / "pipeline.lock").read_text()
    path = tmp_path / "pipeline.lock"
    path.write_text(lock.replace("\nsnakemake==9.27.1", "\nsnakemake==9.0.0"))
    assert "snakemake 9.27.1 (locked: 9.0.0)" in only(machine.versions(path)).what
    path.write_text(lock + "\nno-such-package==1.0 \\\nnever==1.0 ; sys_platform == 'plan9' \\\n")
    found = only(machine.versions(path))
    assert "no-such-package missing" in found.what and "never" not in found.what


def _refuse_links() -> None:
    """The kernel refuses hard links to this process and its children, as on FAT: with EPERM."""
    numbers = {"x86_64": (86, 265), "aarch64": (37,)}[platform.machine()]
    # A seccomp filter: load the call's number; those two return EPERM, all others go on.
    code = [(0x20, 0, 0, 0)]
    for index, number in enumerate(numbers):
        code.append((0x15, len(numbers) - index, 0, number))
    code += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050001)]

    class Instruction(ctypes.Structure):
        _fields_ = [
            ("c", ctypes.c_uint16),
            ("t", ctypes.c_uint8),
            ("f", ctypes.c_uint8),
            ("k", ctypes.c_uint32),
        ]

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_uint16), ("filter", ctypes.POINTER(Instruction))]

    filled = (Instruction * len(code))(*(Instruction(*line) for line in code))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    if libc.prctl(22, 2, ctypes.byref(Program(len(code), filled)), 0, 0):  # PR_SET_SECCOMP, by filter
        os._exit(77)


@pytest.mark.slow
@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "aarch64"), reason="knows the calls of two processors"
)
def test_a_file_system_without_hard_links(tmp_path: Path) -> None:
    """Locks are hard links: without them two jobs would train one cell."""
    code, findings = doctor(tmp_path, prepare=_refuse_links)
    found = only(findings)
    assert code == 2
    assert found.area == "sharing" and "a lock cannot be taken" in found.what
    assert "Operation not permitted" in found.what and "hard links" in found.way_out


def test_two_processes_meet(tmp_path: Path) -> None:
    """They see each other's files and locks; nothing is left behind."""
    with meeting(tmp_path / "results") as met:
        (found,) = sharing_here(met)
    assert found.level == OK
    assert int(found.what.split(" reads")[0].split()[-1]) > 10
    assert not (tmp_path / "results").exists()


def test_a_partner_that_sees_another_folder(tmp_path: Path) -> None:
    """A node on which the path exists, but is not the same folder: neither side sees the other."""
    with meeting(tmp_path / "results") as met:
        here = met.folder
        met.folder = tmp_path / "elsewhere"
        command = met.command("other")
        met.folder = here
        with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
            found, said = met.examine("other", "node n1", patience=3.0)
            process.kill()
    assert said is None
    assert "nothing that it writes" in only(found).what and "share" in only(found).way_out


@pytest.mark.skipif(FAKETIME is None, reason="needs libfaketime (apt install faketime)")
@pytest.mark.parametrize(("shift", "level"), [("-60s", NOTE), ("+600s", PROBLEM)])
def test_a_partner_whose_clock_is_wrong(tmp_path: Path, shift: str, level: str) -> None:
    """Times in records mislead, and from five minutes on SLURM's own messages are refused."""
    with meeting(tmp_path) as met:
        variables = {"LD_PRELOAD": str(FAKETIME), "FAKETIME": shift}
        variables["NO_FAKE_STAT"] = "1"
        with subprocess.Popen(met.command("other"), env={**os.environ, **variables}):
            found, _ = met.examine("other", "node n1")
    late = only(found, level)
    seconds = int(late.what.split(" s ")[0].split()[-1])
    assert abs(seconds - abs(int(shift[:-1]))) <= 3
    assert ("behind" if shift.startswith("-") else "ahead") in late.what
    assert [f.area for f in found if f.level == OK] == ["sharing"]


@pytest.mark.skipif(FAKETIME is None, reason="needs libfaketime (apt install faketime)")
def test_a_machine_whose_clock_is_not_the_file_systems(tmp_path: Path) -> None:
    """As on a node whose clock nobody keeps, with results on a file server."""
    code = (
        "from pathlib import Path; from amago_suite.doctor.machine import clock;"
        f"print(*(f'{{f.level}}: {{f.what}}' for f in clock(Path({str(tmp_path)!r}))))"
    )
    variables = {"LD_PRELOAD": str(FAKETIME), "FAKETIME": "-90s", "NO_FAKE_STAT": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.match(r"note: this machine's clock is (8[5-9]|9[0-5]) s ", done.stdout)
    assert "behind that of the file system" in done.stdout


def test_another_installation_elsewhere(tmp_path: Path) -> None:
    """Jobs must run what was planned here."""
    with meeting(tmp_path) as met, subprocess.Popen(met.command("other")):
        _, said = met.examine("other", "node n1")
    assert said is not None and list(same_software("node n1", said)) == []
    other = {**said, "training_version": 0, "packages": {**said["packages"], "torch": "1.0"}}
    assert "training version 0" in only(same_software("node n1", other)).what
    assert "torch 1.0" in only(same_software("node n1", other)).what


def test_an_engine_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Named with the way out; once for each family, because each needs its image."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    assert only(look_at_engine("docker", ["core"])).area == "engine"
    monkeypatch.setenv("PATH", "/nowhere")
    assert "not installed" in only(look_at_engine("apptainer", ["core"])).what
    assert [f.level for f in look_at_engine("host", ["core"])] == [OK]


def test_a_gpu_that_is_asked_for() -> None:
    """Said before a suite's cells fail one by one."""
    import torch

    (found,) = machine.gpu(needed=True)
    if torch.cuda.is_available():
        assert found.level == OK
    else:
        assert found.level == PROBLEM and found.way_out
        assert next(machine.gpu()).level == OK or shutil.which("nvidia-smi")
