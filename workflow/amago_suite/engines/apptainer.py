"""Apptainer, through its command line: for clusters, where there is no Docker."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

import psutil

from amago.errors import AmagoError, ConfigurationError
from amago_suite import records
from amago_suite.engines.boxed import WORK, Boxed, Container, Ended, Plan
from amago_suite.images import Image, run_apptainer
from amago_suite.paths import shown

_PROGRAMS = ("apptainer", "singularity")
_FATAL = 255  # what the program itself ends with when it cannot do what it was asked
#: Variables by which a site or a person changes every container; none of ours.
_FOREIGN = ("APPTAINER", "SINGULARITY")


class Apptainer(Boxed):
    """The ``apptainer`` that is found in the path."""

    name = "apptainer"

    def check(self) -> None:
        """See `Boxed.check`."""
        program()

    def without_limits(self) -> str | None:
        """See `Boxed.without_limits`."""
        if can_limit() or "SLURM_JOB_ID" in os.environ:
            return None
        return "without root Apptainer limits them with cgroups v2 and systemd alone"

    def slow_start(self, image: Image) -> tuple[str, str] | None:
        """See `Boxed.slow_start`; starts one that does nothing."""
        assert image.sif is not None
        began = time.monotonic()
        done = run_apptainer("exec", "--containall", "--no-home", str(image.sif), "true")
        said = done.stderr.strip().splitlines()
        if done.returncode:
            fatal = next((line for line in said if line.startswith("FATAL:")), said[-1] if said else "")
            raise _explained(fatal.removeprefix("FATAL:").strip())
        if not any("temporary sandbox" in line for line in said):
            return None
        seconds = time.monotonic() - began
        return (
            f"every job unpacks its image first ({seconds:.0f} s now)",
            "install squashfuse, and let users have /dev/fuse",
        )

    def start(self, plan: Plan) -> Container:
        """See `Boxed.start`."""
        sif = plan.image.sif
        if sif is None or not sif.is_file():
            raise ConfigurationError(
                f"apptainer: there is no image {shown(sif) if sif else plan.image.reference} any more: "
                f"`amago-suite images build {plan.image.family} --engine apptainer`"
            )
        own = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN)}
        visible = {"CUDA_VISIBLE_DEVICES": ",".join(plan.devices)} if plan.devices else {}
        # Values come by the environment, because every user of the machine can read command lines.
        given = {f"APPTAINERENV_{k}": v for k, v in (plan.environment | visible).items() if k != "HOME"}
        process = subprocess.Popen(
            arguments(plan, sif),
            stdin=subprocess.PIPE,  # its end is how the box learns that its launcher is gone
            stderr=subprocess.PIPE,
            env={**own, **given},
            start_new_session=True,  # a Ctrl-C in the terminal is for the launcher
        )
        return _Running(process, plan)

    def running(self, box: str) -> bool:
        """See `Boxed.running`."""
        return any(box in (process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"]))

    def sweep(self, root: Path) -> list[tuple[str, Path]]:
        """Nothing needs to be removed: a box ends with its launcher, by itself."""
        return []


def program() -> str:
    """Where the command is.

    Raises:
        ConfigurationError: nowhere.
    """
    found = next((path for name in _PROGRAMS if (path := shutil.which(name))), None)
    if found is None:
        raise ConfigurationError(
            "apptainer: it is not installed (on a cluster, perhaps `module load apptainer`), or use another --engine"
        )
    return found


def arguments(plan: Plan, sif: Path) -> list[str]:
    """The command that starts a box."""
    command = [program(), "--quiet", "exec", "--containall", "--cleanenv", "--no-home", "--no-eval"]
    # Nor what the site's configuration puts into every container.
    command += ["--no-mount", "bind-paths"]
    command += ["--drop-caps", "all", "--no-privs"]
    if os.geteuid() == 0:
        command += ["--security", f"uid:{plan.user[0]},gid:{plan.user[1]}"]
    if plan.network == "none":
        command += ["--net", "--network", "none"]
    if can_limit():
        limits = plan.limits
        memory = f"{limits.memory_mb}M"
        command += ["--cpus", f"{limits.cpus:g}", "--memory", memory, "--memory-swap", memory]
        command += ["--pids-limit", str(limits.processes)]
    if plan.devices:
        command += ["--nv"]
    command += ["--mount", mount(plan)]
    # HOME is the one variable that Apptainer takes from nobody.
    return [*command, "--pwd", str(WORK), str(sif), "env", "HOME=/tmp", *plan.command]


def can_limit() -> bool:
    """Whether Apptainer can limit CPUs and memory here: root can, others only with systemd and cgroups v2.

    In a SLURM job it need not: the cluster does.
    """
    if "SLURM_JOB_ID" in os.environ:
        return False
    if os.geteuid() == 0:
        return True
    bus = Path(os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.geteuid()}"), "bus")
    return Path("/sys/fs/cgroup/cgroup.controllers").is_file() and bus.exists()


def mount(plan: Plan) -> str:
    """The cell's folder in its box, as a line of comma-separated values: whole fields are quoted."""
    line = io.StringIO()
    csv.writer(line).writerow(["type=bind", f"source={plan.folder}", f"destination={plan.inside}"])
    return line.getvalue().strip()


class _Running(Container):
    def __init__(self, process: subprocess.Popen[bytes], plan: Plan) -> None:
        self._process = process
        self._plan = plan
        self._oom_kills = 0
        self._fatal = ""
        assert process.stderr is not None
        self._pump = threading.Thread(target=self._pass_on, args=(process.stderr,), daemon=True)
        self._pump.start()

    def _pass_on(self, errors: IO[bytes]) -> None:
        """Copy what comes on standard error, and remember Apptainer's own last word."""
        for line in iter(errors.readline, b""):
            if line.startswith((b"FATAL:", b"ERROR:")):
                self._fatal = line.decode(errors="replace").partition(":")[2].strip()
            with contextlib.suppress(OSError):
                sys.stderr.buffer.write(line)
                sys.stderr.buffer.flush()

    def wait(self, seconds: float) -> Ended | None:
        """See `Container.wait`."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._look()
            return None
        self._pump.join(5)
        if code == _FATAL:
            raise _explained(self._fatal, gpu=bool(self._plan.devices))
        return Ended(128 - code if code < 0 else code, self._oom_kills > 0)

    def _look(self) -> None:
        """How often the kernel killed for memory in the box: once it has ended, nobody can tell."""
        with contextlib.suppress(psutil.Error):
            for process in psutil.Process(self._process.pid).children(recursive=True):
                self._oom_kills = max(self._oom_kills, records.oom_kills(process.pid) or 0)

    def signal(self, number: signal.Signals) -> None:
        """See `Container.signal`; the end of its input asks the box to stop."""
        if number != signal.SIGKILL:
            if self._process.stdin is not None:
                self._process.stdin.close()
            return
        with contextlib.suppress(psutil.Error):
            for process in psutil.Process(self._process.pid).children(recursive=True):
                process.kill()
            self._process.kill()

    def remove(self) -> None:
        """See `Container.remove`."""
        if self._process.poll() is None:
            self.signal(signal.SIGKILL)
            self._process.wait()


def _explained(said: str, gpu: bool = False) -> AmagoError:
    words = said.lower()
    if "no space left" in words:
        return AmagoError(f"apptainer: the disk is full: {said} (APPTAINER_TMPDIR names another place)")
    if gpu and any(word in words for word in ("--nv", "nvidia", "nvliblist")):
        return ConfigurationError(f"apptainer: the GPU cannot be used: {said}")
    if "/dev/fuse" in words:
        return ConfigurationError(f"apptainer: {said} (users need to read and write /dev/fuse)")
    if "user namespace" in words or "setuid" in words:
        return ConfigurationError(
            f"apptainer: it may not make containers for this user: {said} (ask for user namespaces or the setuid package)"
        )
    return AmagoError(f"apptainer: {said or 'it could not start the container, and said nothing'}")
