"""Where a number comes from: code, versions, machine."""

from __future__ import annotations

import platform
import resource
import socket
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from amago import TRAINING_VERSION
from amago.files import sha256
from amago_suite.paths import ROOT

#: Packages whose version can change a result.
_PACKAGES = ("torch", "numpy", "gymnasium", "gin-config", "safetensors", "popgym", "scipy")


@cache
def git_state() -> dict[str, Any]:
    """Commit of the code and whether files differ from it; both None outside a repository."""
    try:
        commit = _git("rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()


def software() -> dict[str, Any]:
    """Code, versions, torch's build, and whether this process's kernels repeat to the bit."""
    import torch

    from amago.determinism import determinism

    packages = {}
    for name in _PACKAGES:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "git": git_state(),
        "training_version": TRAINING_VERSION,
        "engine": "host",
        "image": None,
        "deterministic": determinism(torch.device("cuda" if torch.cuda.is_available() else "cpu")),
        "python": platform.python_version(),
        "packages": packages,
        "torch": {
            "version": torch.__version__,
            "build": f"{torch.__version__}, CUDA {torch.version.cuda}"
            if torch.version.cuda
            else torch.__version__,
            "threads": torch.get_num_threads(),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        },
    }


def hardware() -> dict[str, Any]:
    """Models of processor and accelerator."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"cpu": _cpu_model(), "gpu": gpu, "platform": platform.platform()}


def digest(path: Path) -> str | None:
    """SHA-256 of a file, None where there is none."""
    return sha256(path) if path.is_file() else None


def host() -> str:
    """This machine's name."""
    return socket.gethostname()


@cache
def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def peak_memory_mb() -> float:
    """Largest resident size of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024 * 1024 if sys.platform == "darwin" else 1024), 1)


def peak_gpu_memory_mb() -> float | None:
    """Largest memory that torch held on the accelerator, in MiB; None without one."""
    import torch

    if not torch.cuda.is_available():
        return None
    return round(torch.cuda.max_memory_allocated() / 2**20, 1)
