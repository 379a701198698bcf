"""Nodes of a cluster, met in a small job each: do they share files, software and time with this machine?"""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Iterator
from dataclasses import replace

from amago_suite.doctor.findings import Finding, note, ok, problem
from amago_suite.doctor.partner import PATIENCE
from amago_suite.doctor.sharing import Meeting, same_software
from amago_suite.doctor.slurm import Answer, Request, ask

#: Minutes that a probing job may take.
RUNTIME = 5
_POLL = 1.0


def meet_nodes(met: Meeting, request: Request, count: int, patience: float) -> Iterator[Finding]:
    """Submit a small job to ``count`` different nodes, one after the other, and meet each.

    Args:
        met: where to meet.
        request: as training asks, with its GPUs.
        count: nodes; fewer where the partition has no more.
        patience: seconds that a job may wait in the queue.
    """
    seen: list[str] = []
    for number in range(count):
        name = f"node{number}"
        answer = _submit(met, request, name, seen)
        if answer.code:
            if seen and "not available" in answer.reason:
                break  # there are no more nodes than that
            yield problem("node", f"a small job is refused: {answer.reason}", "see the findings on slurm")
            return
        job = answer.out.strip().partition(";")[0]
        try:
            where = _wait_for_start(job, patience)
            if where is None:
                yield note(
                    "node",
                    f"a small job did not start in {patience:.0f} s ({_reason(job)})",
                    "try later, or with a larger --patience",
                )
                return
            found, said = met.examine(name, f"node {where}", min(patience, PATIENCE))
            yield from found
            if said is None:
                output = met.folder / f"{name}.out"
                if output.is_file() and (lines := output.read_text(errors="replace").strip().splitlines()):
                    yield problem(
                        "node", f"node {where}: the job ends with: {lines[-1]}", f"`srun -w {where}` and look"
                    )
                return
            seen.append(where)
            yield from same_software(f"node {where}", said)
            if request.gres or request.gpus:
                yield _gpus(where, said["gpus"])
        finally:
            ask("scancel", job)


def _submit(met: Meeting, request: Request, name: str, but: list[str]) -> Answer:
    # The job may end before its wall time, so neither its runtime nor the warning before the end matter.
    extra = tuple(option for option in request.extra if not option.startswith("--signal"))
    small = replace(request, runtime=RUNTIME, extra=extra, mem_mb=min(request.mem_mb or 1000, 1000), cpus=1)
    options = ["--parsable", f"--job-name=amago-doctor-{name}", f"--output={met.folder}/{name}.out"]
    if but:
        options.append(f"--exclude={','.join(but)}")
    script = f"#!/bin/sh\nexec {shlex.join(met.command(name))}\n"
    return ask("sbatch", *options, *small.arguments(), text=script)


def _wait_for_start(job: str, patience: float) -> str | None:
    """The node that a job runs on (or ran on), or None where it does not start."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        answer = ask("scontrol", "show", "job", job, "--oneliner")
        facts = dict(part.partition("=")[::2] for part in answer.out.split())
        if facts.get("JobState") != "PENDING" and facts.get("NodeList") not in (None, "(null)", ""):
            return facts["NodeList"]
        with contextlib.suppress(KeyError):
            if facts["JobState"] in ("FAILED", "CANCELLED", "BOOT_FAIL"):
                return None
        time.sleep(_POLL)
    return None


def _reason(job: str) -> str:
    return ask("squeue", "-h", "-j", job, "-o", "%T %r").out.strip() or "it is gone"


def _gpus(where: str, count: int | None) -> Finding:
    if count:
        return ok("gpu", f"node {where}: {count} GPU{'s' if count > 1 else ''}")
    said = "has no nvidia-smi" if count is None else "shows no GPU"
    return problem(
        "gpu", f"node {where} {said}, and jobs ask for one", "ask for none, or for another partition"
    )
