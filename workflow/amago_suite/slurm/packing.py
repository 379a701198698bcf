"""Several jobs of Snakemake in one job of SLURM: what the executor does. See `pack` for what runs on the node.

Snakemake knows nothing of it: every cell keeps its jobs, outputs, retries and records, so packing can be
switched on and off at any time, and changes no result. Its own grouping of jobs cannot be used: one
failing member stops the others, and Snakemake then deletes what all of them had finished.
"""

from __future__ import annotations

import shlex
import sys
import uuid
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from amago_suite.exits import DONE, RESUMABLE
from amago_suite.slurm.pack import Member, exit_code, read_pack, write_pack

#: Marks a SLURM job that is a pack; the rest of its comment is the pack's file.
PREFIX = "pack "
#: What must be equal for jobs to share one.
_SHARED = (
    "runtime",
    "mem_mb",
    "gpu",
    "gpu_model",
    "gres",
    "slurm_partition",
    "slurm_account",
    "slurm_extra",
    "constraint",
)


def packs(jobs: Iterable[Any], size: int) -> list[list[Any]]:
    """Jobs that can share a SLURM job, at most ``size`` in each, in the order given; some alone."""
    alike: dict[tuple[Any, ...], list[Any]] = defaultdict(list)
    for job in jobs:
        asked = tuple(str(job.resources.get(name)) for name in _SHARED)
        alike[job.rule.name, job.threads, *asked].append(job)
    return [same[i : i + size] for same in alike.values() for i in range(0, len(same), size)]


def new_pack(folder: Path, jobs: list[Any], comment: Any) -> Path:
    """Write the file of a pack.

    Args:
        folder: for packs.
        jobs: of Snakemake.
        comment: function that gives a job's mark in SLURM.
    """
    path = folder.absolute() / f"{uuid.uuid4().hex[:12]}.json"
    members = [Member(comment(job), job.shellcmd, str(job.log[0]) if job.log else None) for job in jobs]
    write_pack(path, members)
    return path


def submission(path: Path, jobs: list[Any], name: str, workdir: str, settings: Any) -> tuple[list[str], str]:
    """(command, script) that submit a pack: as much memory and as many CPUs as its jobs together, the GPUs of one.

    Args:
        path: the pack's file.
        jobs: of Snakemake, alike.
        name: of the SLURM job.
        workdir: where Snakemake was started.
        settings: the executor's.
    """
    first, count = jobs[0], len(jobs)
    resources = first.resources
    cpus = first.threads * count
    model = f"{resources.get('gpu_model')}:" if resources.get("gpu_model") else ""
    given = {
        "--job-name": name,
        "--output": path.with_suffix(".log"),
        "--comment": f"{PREFIX}{path}",
        "--chdir": workdir,
        "--account": resources.get("slurm_account"),
        "--partition": resources.get("slurm_partition"),
        "--constraint": resources.get("constraint"),
        "--qos": settings.qos,
        "--reservation": settings.reservation,
        "--time": resources.get("runtime"),
        "--mem": resources["mem_mb"] * count if resources.get("mem_mb") else None,
        "--gres": resources.get("gres"),
        "--gpus": f"{model}{resources.get('gpu')}" if resources.get("gpu") else None,
        "--cpus-per-task": cpus,
    }
    command = ["sbatch", "--parsable", "--export=ALL", "--ntasks=1"]
    command += [f"{option}={value}" for option, value in given.items() if value]
    command += ["--requeue"] if settings.requeue else ["--no-requeue"] if settings.no_requeue else []
    command += shlex.split(str(resources.get("slurm_extra") or ""))
    # A step of its own: a signal before the wall time ends goes to steps, not to the script.
    step = ["srun", "--ntasks=1", f"--cpus-per-task={cpus}", "--cpu-bind=none"]
    runner = [sys.executable, "-m", "amago_suite.slurm.pack", str(path)]
    return command, f"#!/bin/sh\nexec {shlex.join([*step, *runner])}\n"


def members_of(comment: str) -> tuple[Path, list[Member]] | None:
    """(file, members) of the pack that a SLURM job's comment names, or None where it names none."""
    if not comment.startswith(PREFIX):
        return None
    path = Path(comment.removeprefix(PREFIX))
    return path, read_pack(path)


def member_state(aux: dict[str, Any] | None, state: str) -> str:
    """State of a pack's member, from its own exit code and the SLURM job's state; that of other jobs as it is."""
    if not aux or "pack" not in aux:
        return state
    code = exit_code(Path(aux["pack"]), aux["member"])
    if code == DONE:
        return "COMPLETED"
    # Another member's failure is not this one's, and a job that SLURM calls done may have lost one.
    return "FAILED" if code not in (None, RESUMABLE) or state == "COMPLETED" else state
