"""This machine: versions, disk, temporary folder, clock, GPU."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from amago_suite.doctor.findings import Finding, note, ok, problem
from amago_suite.paths import ROOT

#: What a run needs beside its own files: tables are staged whole, logs grow.
LEAST_FREE = 2 * 2**30
LEAST_FILES = 10_000
#: Seconds between two clocks, from which on times in the records mislead.
LARGE_SKEW = 5.0

_LOCKED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)(?:\s*;\s*([^\\]+))?", re.MULTILINE)
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised


def versions(lock: Path = ROOT / "requirements" / "pipeline.lock") -> Iterator[Finding]:
    """Installed packages against the lock that this version was tested with."""
    from packaging.markers import Marker

    from amago import TRAINING_VERSION

    differing = []
    for name, wanted, marker in _LOCKED.findall(lock.read_text()):
        if marker and not Marker(marker.strip()).evaluate():
            continue
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            found = "missing"
        if found != wanted:
            differing.append(f"{name} {found} (locked: {wanted})")
    here = f"Python {platform.python_version()}, training version {TRAINING_VERSION}"
    if differing:
        more = f" and {len(differing) - 4} more" if len(differing) > 4 else ""
        yield problem(
            "versions",
            f"not the locked packages: {', '.join(differing[:4])}{more}",
            "`make run` or `make .venv/run.stamp` installs the locked ones",
        )
    else:
        names = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "snakemake", "numpy"))
        yield ok("versions", f"{here}; {names}; packages as locked")
    command = shutil.which(
        "amago-suite", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    )
    if command is None:
        yield problem("versions", "the command amago-suite is not installed", "`make .venv/run.stamp`")


def disk(results: Path) -> Iterator[Finding]:
    """Can the results folder be written, and does much fit?"""
    folder = next(path for path in (results, *results.absolute().parents) if path.is_dir())
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
            file.write(bytes(2**20))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        yield problem(
            "disk",
            f"{folder} cannot be written: {error.strerror}",
            "free space or quota, mount it writable, or run in another folder",
        )
        return
    found = os.statvfs(folder)
    free, files = found.f_bavail * found.f_frsize, found.f_favail
    said = f"{folder}: {free / 2**30:.1f} GiB free"
    if free < LEAST_FREE:
        yield problem(
            "disk",
            f"{said}, less than {LEAST_FREE >> 30} GiB",
            "`amago-suite gc SUITE` frees what finished runs no longer need; or run in another folder",
        )
    elif found.f_files and files < LEAST_FILES:
        yield problem("disk", f"{said}, but only {files} files more", "delete files, or ask for more inodes")
    else:
        yield ok("disk", said)


def temporary_folder() -> Iterator[Finding]:
    """Evaluations work in a temporary folder, and compiled helpers are run from there."""
    folder = tempfile.gettempdir()
    reason = why_not_executable(Path(folder))
    free = shutil.disk_usage(folder).free
    if reason is not None:
        yield note(
            "disk",
            f"programs cannot be run from {folder}: {reason}",
            "set TMPDIR to a folder on a file system that is not mounted noexec (Apptainer and compilers need it)",
        )
    elif free < 2**28:
        yield problem(
            "disk",
            f"{folder}: only {free / 2**20:.0f} MiB free",
            "free some, or set TMPDIR to another folder",
        )
    else:
        yield ok("disk", f"{folder}: {free / 2**30:.1f} GiB free for temporary files")


def why_not_executable(folder: Path) -> str | None:
    """Why a program in ``folder`` cannot be run (noexec, say), or None; tried, not read from a table."""
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".doctor-") as work:
            script = Path(work) / "script"
            script.write_text("#!/bin/sh\nexit 0\n")
            script.chmod(script.stat().st_mode | stat.S_IXUSR)
            subprocess.run([str(script)], check=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        return getattr(error, "strerror", None) or str(error)
    return None


def clock(folder: Path) -> Iterator[Finding]:
    """This machine's clock against the file system's, and whether anything keeps it right."""
    skew = skew_of(folder)
    if skew is not None and abs(skew) > LARGE_SKEW:
        yield note(
            "time",
            f"this machine's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} that of the file system",
            "have the clocks synchronised (NTP); locks do not rely on them, but times in records mislead",
        )
    elif not synchronised():
        yield note(
            "time",
            "nothing keeps this machine's clock right",
            "run an NTP client (chrony, systemd-timesyncd)",
        )
    else:
        yield ok("time", "the clock is synchronised, and agrees with the file system's")


def skew_of(folder: Path) -> float | None:
    """Seconds that this machine's clock is ahead of the file system's; None where it cannot be written."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
            before = time.time()
            file.write(b"now")
            file.flush()
            after = time.time()
            stamp = os.stat(file.name).st_mtime
    except OSError:
        return None
    # Half a tick of the kernel's coarse clock belongs to nobody.
    return 0.0 if before - 0.1 <= stamp <= after + 0.1 else (before + after) / 2 - stamp


def synchronised() -> bool:
    """Whether the kernel says that its clock is kept right; True where it cannot be asked."""
    if sys.platform != "linux":
        return True
    try:
        answer: int = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(512))
    except (OSError, AttributeError):
        return True
    return answer != _TIME_ERROR


def gpu(needed: bool = False) -> Iterator[Finding]:
    """What torch can use, and whether a driver's GPU stays unused."""
    import torch

    if torch.cuda.is_available():
        names = sorted({torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())})
        yield ok("gpu", f"{torch.cuda.device_count()} x {', '.join(names)}, torch {torch.__version__}")
        return
    build = torch.version.cuda
    driver = Path("/proc/driver/nvidia/version").is_file()
    if driver and build is None:
        yield problem(
            "gpu",
            f"there is an NVIDIA driver, and torch {torch.__version__} is built without CUDA",
            "install a CUDA build of torch: see docs/install.md",
        )
    elif driver:
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        way_out = "compare `nvidia-smi` with torch's CUDA version"
        if hidden == "":
            way_out = "CUDA_VISIBLE_DEVICES is empty: unset it"
        yield problem("gpu", f"there is an NVIDIA driver, and torch (CUDA {build}) sees no device", way_out)
    elif needed:
        yield problem(
            "gpu", "a GPU is asked for, and there is none", "run on a machine with one, or ask for none"
        )
    else:
        yield ok("gpu", "none; training runs on the CPU")
