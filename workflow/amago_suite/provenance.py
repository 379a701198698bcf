"""Where a number comes from: code, versions, machine."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from amago import TRAINING_VERSION
from amago.files import sha256
from amago_suite.engines import box
from amago_suite.paths import ROOT

#: Packages whose version can change a result.
_PACKAGES = ("torch", "numpy", "gymnasium", "gin-config", "safetensors", "popgym", "scipy")


@cache
def git_state() -> dict[str, Any]:
    """Commit of the code and whether files differ from it; both None outside a repository.

    In a box, it is what the image's label says: "-dirty" at its end where files differed.
    """
    inside = box.current()
    if inside is not None:
        commit, dirty, _ = (inside.commit or "").partition("-dirty")
        return {"commit": commit or None, "dirty": bool(dirty) if commit else None}
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
        **surroundings(),
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


def surroundings() -> dict[str, Any]:
    """The engine and, in a box, its image."""
    return (box.current() or box.Box(name="", host="", engine="host")).record()


def hardware() -> dict[str, Any]:
    """Models of processor and accelerator."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"cpu": _cpu_model(), "gpu": gpu, "platform": platform.platform()}


def digest(path: Path) -> str | None:
    """SHA-256 of a file, None where there is none."""
    return sha256(path) if path.is_file() else None


def host() -> str:
    """This machine's name, in a box too."""
    return box.host()


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


def cpu_seconds() -> float:
    """CPU time of this process and of those it started and waited for (environment workers), s."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return round(sum(one.ru_utime + one.ru_stime for one in used), 3)


def peak_gpu_memory_mb() -> float | None:
    """Largest memory that torch held on the accelerator, in MiB; None without one."""
    import torch

    if not torch.cuda.is_available():
        return None
    return round(torch.cuda.max_memory_allocated() / 2**20, 1)
