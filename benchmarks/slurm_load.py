"""What submitting and following jobs costs a SLURM controller: the scheduler's own statistics (sdiag).

    python -m benchmarks.slurm_load --jobs 200

Submits so many held jobs of a second, one sbatch each as the executor does, asks squeue for them as one look at the
queue does, and cancels them. Run it on a machine of a cluster that is yours to load.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import time

NAME = "amago-load"
KINDS = ("REQUEST_SUBMIT_BATCH_JOB", "REQUEST_JOB_INFO")


def ask(*command: str) -> str:
    """A command's output; the end with its words where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def spent() -> dict[str, tuple[int, int]]:
    """(requests, microseconds in the controller) of each kind so far."""
    found = {}
    for kind, count, total in re.findall(
        r"(\w+)\s*\(\s*\d+\) count:(\d+)\s+ave_time:\d+\s+total_time:(\d+)", ask("sdiag")
    ):
        found[kind] = (int(count), int(total))
    return {kind: found.get(kind, (0, 0)) for kind in KINDS}


def each(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]], kind: str) -> float:
    """Milliseconds in the controller of one request of a kind between two moments."""
    count, micros = (b - a for a, b in zip(before[kind], after[kind], strict=True))
    return micros / max(count, 1) / 1000


def main() -> int:
    """Measure and print."""
    if shutil.which("sdiag") is None:
        print("no SLURM on this machine: nothing to measure")
        return 0
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.slurm_load", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--looks", type=int, default=20)
    given = parser.parse_args()
    before, began = spent(), time.perf_counter()
    numbers = [
        ask("sbatch", "--parsable", "--hold", "--time=1", f"--job-name={NAME}", "--wrap=true").strip()
        for _ in range(given.jobs)
    ]
    submitting, submitted = time.perf_counter() - began, spent()
    began = time.perf_counter()
    for _ in range(given.looks):
        ask("squeue", "--noheader", "--states=all", "--format=%i|%T|%k", "--name", NAME)
    looking, after = time.perf_counter() - began, spent()
    for number in numbers:
        ask("scancel", number)
    submit = each(before, submitted, KINDS[0])
    look = each(submitted, after, KINDS[1])
    print(
        f"sbatch: {given.jobs / submitting:.1f} a second, one after the other; {submit:.2f} ms in the controller"
    )
    print(
        f"squeue: {looking / given.looks * 1000:.0f} ms for {given.jobs} jobs; {look:.2f} ms in the controller"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
