"""The other process of a file system's examination, on this machine or on a node.

    python -m amago_suite.doctor.partner FOLDER NAME

It says what it sees, holds a run's lock until it is told to let go, and reads a file that the
first process keeps replacing. Everything goes through FOLDER, as everything of a run does.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from amago.errors import AmagoError
from amago_suite.doctor.machine import why_not_executable
from amago_suite.folders.files import write_json
from amago_suite.locks import RunLock

#: Seconds that each side waits for a file of the other: a network file system may hide it for long.
PATIENCE = 90.0
SIZE = 4096  # of the file that is replaced again and again
ENGINES = ("docker", "podman", "apptainer")


def main(folder: Path, name: str) -> int:
    """Exit code 0 when the whole dance was danced, 1 when the first process did not answer."""
    token = wait_for(folder / "token", PATIENCE)
    write_json(folder / f"{name}.json", {**facts(), "token": token}, durable=False)
    lock = RunLock(folder / "lock")
    held: str | None = None
    try:
        owner = lock.try_acquire()
        held = f"{owner} holds it" if owner is not None else None
    except AmagoError as error:
        held = str(error)
    write_json(folder / f"{name}.holds", {"refused": held}, durable=False)
    torn = watch(folder / "changing", folder / f"{name}.let-go")
    lock.release()
    write_json(folder / f"{name}.done", {"torn": torn}, durable=False)
    return 0 if torn is not None else 1


def facts() -> dict[str, Any]:
    """What this side is, and what a job would find here."""
    from importlib import metadata

    from amago import TRAINING_VERSION

    return {
        "host": socket.gethostname(),
        "node": os.environ.get("SLURMD_NODENAME"),
        "time": time.time(),
        "python": sys.version.split()[0],
        "training_version": TRAINING_VERSION,
        "packages": {name: metadata.version(name) for name in ("snakemake", "torch", "numpy")},
        "engines": [name for name in ENGINES if shutil.which(name)],
        "gpus": gpus(),
        "temporary": tempfile.gettempdir(),
        "not_executable": why_not_executable(Path(tempfile.gettempdir())),
    }


def gpus() -> int | None:
    """GPUs that the driver's own tool lists, or None where there is no such tool."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    try:
        listed = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def wait_for(path: Path, seconds: float) -> str | None:
    """The content of a file that the other side writes, or None where it never appears."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            return path.read_text()
        except OSError:
            # Listing the folder makes a network file system ask its server anew.
            if path.parent.is_dir():
                os.listdir(path.parent)
            time.sleep(0.05)
    return None


def watch(changing: Path, stop: Path) -> dict[str, int] | None:
    """Read a file that is being replaced until ``stop`` is there: how often it was whole, torn or absent.

    None when ``stop`` never came.
    """
    deadline = time.monotonic() + PATIENCE
    seen = {"whole": 0, "torn": 0, "absent": 0}
    while time.monotonic() < deadline:
        try:
            content = changing.read_bytes()
            seen["whole" if len(content) == SIZE and len(set(content)) == 1 else "torn"] += 1
        except OSError:
            seen["absent"] += 1
        if stop.exists():
            return seen
        time.sleep(0.002)
    return None


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
