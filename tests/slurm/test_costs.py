"""Costs of real jobs, from inside and from the cluster's accounts, each in columns of its own."""

from __future__ import annotations

import csv
import json
import subprocess
from datetime import datetime
from pathlib import Path

import pytest

from amago_suite.analysis import accounting
from amago_suite.analysis.accounting import read_accounts
from tests.slurm.cluster import Cluster
from tests.slurm.lab import SHORT, Lab

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


def costs(lab: Lab) -> list[dict[str, str]]:
    with (lab.folder / "results" / "tiny" / "tables" / "costs.csv").open() as file:
        return list(csv.DictReader(file))


def sacct(lab: Lab, job: str) -> dict[str, float]:
    """A job's allocation as the accounts have it, asked in another way than the program does."""
    assert lab.cluster is not None
    line = lab.cluster.output(
        "sacct", "-X", "-n", "-P", "-j", job, "-o", "CPUTimeRAW,ElapsedRaw,AllocTRES,Submit,Start"
    ).strip()
    cpu, elapsed, allocated, *times = line.split("|")
    submit, start = map(datetime.fromisoformat, times)
    gpus = float(allocated.partition("gres/gpu=")[2].partition(",")[0] or 0)
    return {"cpu": float(cpu), "gpu": gpus * float(elapsed), "queue": (start - submit).total_seconds()}


def test_costs_of_real_jobs(lab: Lab) -> None:
    """Two cells share a job with a GPU that first has to wait: half of it each, and the sum is the whole."""
    lab.settings["cells_per_job"] = "2"
    lab.write(
        environments="[{ name: a, id: tmaze-passive, params: { corridor: 3 } },"
        " { name: b, id: tmaze-passive, params: { corridor: 3 } }]",
        gpus=1,
        **SHORT,
    )
    assert lab.cluster is not None
    for node in ("n1", "n2"):
        lab.cluster.output("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
    run = lab.start()
    waiting = subprocess.run(
        ["sh", "-c", "until squeue -h -t PENDING | grep -q amago; do sleep 0.2; done; sleep 6"],
        env=lab.environment,
        timeout=120,
        check=False,
    )
    for node in ("n1", "n2"):
        lab.cluster.output("scontrol", "update", f"nodename={node}", "state=resume")
    assert waiting.returncode == 0
    assert lab.end(run) == 0, lab.said()

    rows = costs(lab)
    assert [(r["environment"], r["seed"], r["runs"]) for r in rows] == [
        *(("a", "0", "1"), ("b", "0", "1")),
        *(("a", "", "1"), ("b", "", "1")),
        ("(all)", "", "2"),
    ]
    record = json.loads((lab.cell(environment="a") / "state" / "accounting.json").read_text())
    (job,) = record["jobs"]
    assert record["source"] == "sacct" and job["cells"] == 2
    real = sacct(lab, job["job"])
    total = rows[-1]
    assert float(total["allocated_cpu_hours"]) * 3600 == pytest.approx(real["cpu"], abs=2.1)
    assert float(total["allocated_gpu_hours"]) * 3600 == pytest.approx(real["gpu"], abs=1.1)
    assert real["gpu"] > 0
    assert float(rows[0]["queue_hours"]) * 3600 == pytest.approx(real["queue"], abs=1.1)
    assert float(rows[0]["queue_hours"]) * 3600 >= 5
    assert float(rows[0]["allocated_cpu_hours"]) == pytest.approx(float(total["allocated_cpu_hours"]) / 2)
    # From inside: no GPU was used, for these are pretended; CPU time is less than what was allocated.
    assert float(total["gpu_hours"]) == 0.0
    assert 0 < float(total["cpu_hours"]) < 2 * float(total["allocated_cpu_hours"])
    assert float(rows[0]["peak_memory_mb"]) > 100
    assert float(rows[0]["job_peak_memory_mb"]) > 100
    assert [row["jobs"] for row in rows[:2]] == ["1", "1"]

    # The same tables where no accounts can be asked for any more, as on a laptop.
    before = (lab.folder / "results" / "tiny" / "tables" / "costs.csv").read_bytes()
    (lab.folder / "results" / "tiny" / "tables" / "scores.csv").unlink()
    lab.cluster, cluster = None, lab.cluster
    assert lab.run() == 0, lab.said()
    assert (lab.folder / "results" / "tiny" / "tables" / "costs.csv").read_bytes() == before
    lab.cluster = cluster


def test_without_accounts(tmp_path: Path, plain_cluster: Cluster) -> None:
    """The trainer's own figures are there, and the columns of the accounts are empty, not zero."""
    lab = Lab(tmp_path, plain_cluster)
    lab.write(**SHORT)
    assert lab.run() == 0, lab.said()
    row = costs(lab)[0]
    assert float(row["wall_seconds"]) > 0 and float(row["cpu_hours"]) > 0
    names = ("jobs", "queue_hours", "allocated_gpu_hours", "allocated_cpu_hours", "job_peak_memory_mb")
    assert [row[name] for name in names] == [""] * len(names)
    assert not (lab.cell() / "state" / "accounting.json").exists()


def test_a_job_that_was_requeued(lab: Lab) -> None:
    """Every start of it counts, and the time between them as waiting."""
    assert lab.cluster is not None
    job = lab.cluster.output(
        "sbatch", "--parsable", "--requeue", "--time=5", "--output=/dev/null", "--wrap=sleep 4"
    ).strip()
    wait = 'until [ "$(squeue -h -j $0 -o %T)" = RUNNING ]; do sleep 0.2; done; sleep 2'
    subprocess.run(["sh", "-c", wait, job], env=lab.environment, timeout=60, check=True)
    lab.cluster.output("scontrol", "requeue", job)
    done = "while squeue -h -j $0 -t PENDING,RUNNING,COMPLETING | grep -q .; do sleep 0.3; done; sleep 1"
    subprocess.run(["sh", "-c", done, job], env=lab.environment, timeout=200, check=True)
    text = subprocess.run(
        [
            "sacct",
            "--duplicates",
            "--parsable2",
            "--noheader",
            f"--format={','.join(accounting._FIELDS)}",
            "-j",
            job,
        ],
        env={**lab.environment, "SLURM_TIME_FORMAT": "%s"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    entries = read_accounts(text)[job]
    assert len(entries) == 2
    assert entries[0].cpu_seconds >= 1 and entries[1].cpu_seconds >= 3
