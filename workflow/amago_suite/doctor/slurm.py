"""A SLURM cluster as a suite would use it, asked without submitting anything."""

from __future__ import annotations

import getpass
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from amago.registry import nearest
from amago_suite.doctor.findings import Finding, note, ok, problem

PROGRAMS = ("sbatch", "squeue", "scancel", "scontrol", "sinfo")
_TIMEOUT = 60  # seconds that a controller under load may take


@dataclass(frozen=True)
class Request:
    """What jobs ask of the cluster; None where it is left to the cluster's defaults.

    Attributes:
        runtime: wall time, minutes.
        mem_mb: memory, MB.
        gres: generic resources, as sbatch takes them ("gpu:1").
        gpus: GPUs by number or model and number, as sbatch's ``--gpus`` takes them.
        extra: further arguments of sbatch.
        status_command: squeue or sacct.
        jobs: submitted at once, at most.
    """

    account: str | None = None
    partition: str | None = None
    qos: str | None = None
    constraint: str | None = None
    reservation: str | None = None
    runtime: int | None = None
    mem_mb: int | None = None
    cpus: int | None = None
    gres: str | None = None
    gpus: str | None = None
    extra: tuple[str, ...] = ()
    status_command: str | None = None
    jobs: int | None = None

    def arguments(self) -> list[str]:
        """The same, for sbatch."""
        given = {
            "--account": self.account,
            "--partition": self.partition,
            "--qos": self.qos,
            "--constraint": self.constraint,
            "--reservation": self.reservation,
            "--time": self.runtime,
            "--mem": self.mem_mb,
            "--cpus-per-task": self.cpus,
            "--gres": self.gres,
            "--gpus": self.gpus,
        }
        return [*(f"{name}={value}" for name, value in given.items() if value is not None), *self.extra]


@dataclass(frozen=True)
class Answer:
    """What a command of the cluster said."""

    code: int
    out: str
    err: str

    @property
    def reason(self) -> str:
        """Its last words, without its name."""
        lines = [line for line in (self.err or self.out).splitlines() if line.strip()]
        return (
            re.sub(r"^(sbatch|scontrol|sinfo|sacctmgr): (error: )?", "", lines[-1])
            if lines
            else f"exit code {self.code}"
        )


def ask(*command: str, text: str | None = None) -> Answer:
    """Run one of the cluster's commands."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT, check=False, input=text
        )
    except FileNotFoundError:
        return Answer(127, "", f"{command[0]} is not installed")
    except subprocess.TimeoutExpired:
        return Answer(124, "", f"no answer in {_TIMEOUT} s")
    return Answer(done.returncode, done.stdout, done.stderr)


def cluster(requests: Sequence[Request], where: str = "config/site.yaml") -> Iterator[Finding]:
    """Is there a cluster, does it know what the requests name, and would it take such jobs?

    Args:
        requests: as the site and a suite make them; they share account, QOS and what follows jobs.
        where: a person changes it.
    """
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        yield problem(
            "slurm",
            f"{', '.join(absent)} not found",
            "run on a machine of the cluster (a login node), or without the slurm profile",
        )
        return
    version, ping = ask("sinfo", "--version"), ask("scontrol", "ping")
    if ping.code or "UP" not in ping.out:
        yield problem(
            "slurm", f"the controller does not answer: {ping.reason}", "ask whoever runs the cluster"
        )
        return
    settings = _settings()
    yield ok("slurm", f"{version.out.strip()}, cluster {settings.get('ClusterName', '?')}")
    first = requests[0]
    yield from _account(first, settings, where)
    yield from _status_command(first, settings, where)
    yield from _limits(first, settings)
    for name in dict.fromkeys(request.partition for request in requests):
        mine = [request for request in requests if request.partition == name]
        yield from _partition(name, max(request.runtime or 0 for request in mine), where)
    for request in requests:
        yield from _trial(request, where)


def _settings() -> dict[str, str]:
    pairs = (line.partition("=") for line in ask("scontrol", "show", "config").out.splitlines())
    return {key.strip(): value.strip() for key, equals, value in pairs if equals}


def _partition(asked: str | None, runtime: int, where: str) -> Iterator[Finding]:
    answer = ask("sinfo", "-h", "-o", "%P|%a|%l|%T|%D")
    rows = [line.split("|") for line in answer.out.splitlines() if line.count("|") == 4]
    names = sorted({row[0].rstrip("*") for row in rows})
    default = next((row[0].rstrip("*") for row in rows if row[0].endswith("*")), None)
    name = asked or default
    if name is None:
        yield problem(
            "slurm",
            "no partition is set, and the cluster has no default",
            f"set one in {where}: {', '.join(names)}",
        )
        return
    mine = [row for part in name.split(",") for row in rows if row[0].rstrip("*") == part]
    unknown = [part for part in name.split(",") if part not in names]
    if unknown:
        yield problem(
            "slurm", f"there is no partition {unknown[0]!r}", f"{where}: {nearest(unknown[0], names)}"
        )
        return
    usable = sum(
        int(row[4]) for row in mine if not re.match(r"down|drain|fail|inval|unk|maint|power", row[3])
    )
    said = f"partition {name}: {usable} usable nodes, at most {mine[0][2]}"
    if all(row[1] != "up" for row in mine):
        yield problem(
            "slurm", f"partition {name} is {mine[0][1]}", f"choose another in {where}: {', '.join(names)}"
        )
    elif not usable:
        yield problem(
            "slurm",
            f"partition {name} has no usable node",
            f"`sinfo -p {name}`; or choose another in {where}",
        )
    elif 0 < (most := _minutes(mine[0][2])) < runtime:
        yield problem(
            "slurm",
            f"jobs ask for {runtime} minutes, and partition {name} gives {most}",
            f"set a runtime of at most {most} in {where}: training goes on in the next job",
        )
    else:
        yield ok("slurm", said)


def _account(request: Request, settings: dict[str, str], where: str) -> Iterator[Finding]:
    if not settings.get("AccountingStorageType", "").endswith("slurmdbd"):
        if request.account is not None:
            yield note("slurm", "an account is set, and the cluster keeps none", f"leave it out of {where}")
        return
    user = getpass.getuser()
    answer = ask(
        "sacctmgr", "-nP", "show", "assoc", f"user={user}", "format=account,partition,qos,defaultqos"
    )
    if answer.code:
        yield note("slurm", f"accounts cannot be asked for: {answer.reason}", "ask whoever runs the cluster")
        return
    rows = [line.split("|") for line in answer.out.splitlines() if line]
    accounts = sorted({row[0] for row in rows})
    if request.account is not None and request.account not in accounts:
        yield problem(
            "slurm",
            f"{user} has no account {request.account!r}",
            f"{where}: {nearest(request.account, accounts) if accounts else 'ask for an account'}",
        )
        return
    if not accounts:
        enforced = "associations" in settings.get("AccountingStorageEnforce", "")
        (make, way) = (problem, "ask for an account") if enforced else (note, "none is needed here")
        yield make("slurm", f"{user} has no account", way)
        return
    if request.qos is not None:
        mine = [row for row in rows if request.account in (None, row[0])]
        allowed = sorted({name for row in mine for name in row[2].split(",") if name})
        if request.qos not in allowed:
            yield problem(
                "slurm",
                f"{user} may not use the QOS {request.qos!r}",
                f"{where}: {nearest(request.qos, allowed) if allowed else 'leave it out'}",
            )
            return
    yield ok(
        "slurm",
        f"account {request.account or 'left to the cluster'}"
        + (f", QOS {request.qos}" if request.qos else ""),
    )


def _status_command(request: Request, settings: dict[str, str], where: str) -> Iterator[Finding]:
    """How the plugin learns that a job ended: wrong, and the workflow waits for ever."""
    command = request.status_command or "squeue"
    accounting = not settings.get("AccountingStorageType", "").endswith("none")
    remembered = int((re.match(r"\d+", settings.get("MinJobAge", "")) or ["0"])[0])
    if command == "sacct" and not accounting:
        yield problem(
            "slurm",
            "jobs are followed with sacct, and the cluster keeps no accounts",
            f"set squeue in {where}",
        )
    elif command == "sacct" and (answer := ask("sacct", "-X", "-n", "-S", "now-1minutes")).code:
        yield problem(
            "slurm", f"jobs are followed with sacct, which fails: {answer.reason}", f"set squeue in {where}"
        )
    elif command == "squeue" and remembered < 120:
        yield note(
            "slurm",
            f"jobs are followed with squeue, and the cluster forgets them after {remembered} s (MinJobAge)",
            f"set sacct in {where}" if accounting else "ask for a MinJobAge of 300 or more",
        )
    else:
        yield ok("slurm", f"jobs are followed with {command}")


def _limits(request: Request, settings: dict[str, str]) -> Iterator[Finding]:
    most = settings.get("MaxJobCount", "")
    if request.jobs is not None and most.isdigit() and request.jobs > int(most):
        yield note(
            "slurm",
            f"up to {request.jobs} jobs at once, and the cluster holds {most} of all users",
            "give a smaller --jobs, or more cells_per_job",
        )


def _trial(request: Request, where: str) -> Iterator[Finding]:
    """The scheduler's own word on such a job, which it does not queue."""
    answer = ask("sbatch", "--test-only", *request.arguments(), text="#!/bin/sh\n")
    shown = " ".join(request.arguments()) or "defaults"
    if answer.code == 0:
        when = re.search(r"to start at (\S+)", answer.err)
        yield ok("slurm", f"a job with {shown} would be taken" + (f", to start at {when[1]}" if when else ""))
    else:
        yield problem(
            "slurm", f"a job with {shown} would be refused: {answer.reason}", f"change it in {where}"
        )


def _minutes(limit: str) -> int:
    """Minutes of a limit like 2-00:00:00, 01:30:00 or 30:00; 0 for none."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", limit)
    if match is None:
        return 0
    days, hours, minutes, _ = (int(part or 0) for part in match.groups())
    return (days * 24 + hours) * 60 + minutes
