"""A real SLURM on one machine: munge, MariaDB, slurmdbd, slurmctld, virtual nodes with pretended GPUs.

    python -m tests.slurm.cluster packages              the Debian packages it needs
    python -m tests.slurm.cluster up /tmp/cluster       start it; prints what to export to use it
    python -m tests.slurm.cluster down /tmp/cluster     stop it and remove the folder

For Debian 12 and its SLURM 22.05, as root, without systemd. Everything but munge lives in the folder
and on a block of ports, so clusters stand side by side on one machine and share munge. Jobs are
tracked by process group, and GPUs are character devices that read like /dev/null: jobs get
CUDA_VISIBLE_DEVICES as on a real node, and nothing behind it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("munge", "slurm-client", "slurmctld", "slurmd")
ACCOUNTING_PACKAGES = ("mariadb-server", "slurm-wlm-mysql-plugin", "slurmdbd")
PROGRAMS = ("munged", "sbatch", "slurmctld", "slurmd", "slurmdbd", "mariadbd", "mariadb-install-db")
ACCOUNT = "test"
#: Offsets in a cluster's block of ports; node n listens on FIRST_NODE + n.
CONTROLLER, ACCOUNTING, DATABASE, FIRST_NODE, BLOCK = 0, 1, 2, 10, 100

SLURM_CONF = """\
ClusterName=virtual
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
# Neither systemd nor cgroups of our own.
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=2
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
# Decide at once: a test waits for every decision.
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=200000,bf_interval=2,requeue_delay=1
SlurmdParameters=config_overrides
ReturnToService=2
SlurmctldTimeout=30
SlurmdTimeout={node_timeout}
InactiveLimit=0
KillWait=5
OverTimeLimit=0
MinJobAge={min_job_age}
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
{accounting}
NodeName=DEFAULT CPUs={cpus} RealMemory={memory} Gres=gpu:{gpus} State=UNKNOWN
NodeName=n[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{last}]
# Jobs of "spot" give way to those of "urgent", with 20 seconds to write a checkpoint.
PartitionName=DEFAULT Nodes=ALL MaxTime=INFINITE DefaultTime=60 DefMemPerCPU=500 State=UP
PartitionName=main Default=YES PriorityTier=5 PreemptMode=OFF
PartitionName=spot PriorityTier=1 PreemptMode=REQUEUE GraceTime=20
PartitionName=urgent PriorityTier=10 PreemptMode=OFF
"""
WITH_ACCOUNTING = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost={host}
AccountingStoragePort={port}
AccountingStorageTRES=gres/gpu
AccountingStorageEnforce=associations"""
WITHOUT_ACCOUNTING = "AccountingStorageType=accounting_storage/none"
SLURMDBD_CONF = """\
AuthType=auth/munge
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser=root
PidFile={folder}/slurmdbd.pid
LogFile={folder}/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database}
StorageUser=slurm
StoragePass={password}
StorageLoc=slurm_acct_db
"""


class ClusterError(Exception):
    """The cluster cannot be started; the message says why and where the log is."""


@dataclass(frozen=True)
class Cluster:
    """A cluster in ``folder``. All times in seconds, memory in MB."""

    folder: Path
    port: int = 17000  #: first of its block of ports
    nodes: int = 2
    cpus: int = 4  #: of each node; more than the machine has is fine
    memory: int = 8000
    gpus: int = 2
    accounting: bool = True
    min_job_age: int = 300  #: how long squeue still shows jobs that ended
    node_timeout: int = 15  #: after which a node that does not answer is down

    @property
    def config(self) -> Path:
        return self.folder / "etc" / "slurm.conf"

    @property
    def environment(self) -> dict[str, str]:
        """What makes SLURM's commands talk to this cluster."""
        # Snakemake's job steps drop SLURM_CONF before they call srun, and ours is not in its usual place.
        path = os.pathsep.join([str(self.folder / "bin"), os.environ.get("PATH", "")])
        return {"SLURM_CONF": str(self.config), "PATH": path}

    @property
    def daemons(self) -> list[str]:
        """Names for `start` and `stop`, in starting order."""
        accounting = ["mariadbd", "slurmdbd"] if self.accounting else []
        return [*accounting, "slurmctld", *(f"slurmd.n{n}" for n in range(1, self.nodes + 1))]

    def up(self) -> None:
        """Start the cluster and wait until every node is idle."""
        if missing := missing_here(self.accounting):
            raise ClusterError(missing)
        self._write()
        start_munge()
        for daemon in self.daemons:
            self.start(daemon)
        _until(lambda: self.states().count("idle") == self.nodes, 60, "idle nodes", self._log("slurmctld"))

    def down(self, *, remove: bool = True) -> None:
        """Cancel every job, stop every daemon and remove the folder. munge, which clusters share, stays."""
        with contextlib.suppress(ClusterError, OSError):
            if self.pid("slurmctld"):
                self.cancel_all()
        for daemon in reversed(self.daemons):
            self.stop(daemon)
        if remove:
            shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, daemon: str) -> None:
        """Start one of `daemons` unless it runs, and wait until it answers."""
        if self.pid(daemon):
            return
        if daemon == "mariadbd":
            self._start_database()
        elif daemon == "slurmdbd":
            self._launch("slurmdbd")
            _until(lambda: self.output("sacctmgr", "show", "cluster"), 60, daemon, self._log(daemon))
            self._register()
        elif daemon == "slurmctld":
            self._launch("slurmctld")
            _until(lambda: "UP" in self.output("scontrol", "ping"), 40, daemon, self._log(daemon))
        else:
            node = daemon.removeprefix("slurmd.")
            self._launch("slurmd", "-N", node)
            _until(lambda: self.pid(daemon) is not None, 20, daemon, self._log(daemon))

    def stop(self, daemon: str, number: int = signal.SIGTERM) -> None:
        """Stop one of `daemons` if it runs, and wait until it is gone."""
        pid = self.pid(daemon)
        if pid is None:
            return
        os.kill(pid, number)
        _until(lambda: self.pid(daemon) != pid, 30, f"the end of {daemon}", self._log(daemon))

    def pid(self, daemon: str) -> int | None:
        """Process id of one of `daemons`, or None where it does not run."""
        try:
            pid = int((self.folder / f"{daemon}.pid").read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        return pid if daemon.partition(".")[0].encode() in command else None

    def output(self, *command: str) -> str:
        """What a command prints, with this cluster as SLURM's.

        Raises:
            ClusterError: it failed; with what it said.
        """
        done = self._run(*command)
        if done.returncode:
            raise ClusterError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def states(self) -> list[str]:
        """State of every node, as sinfo names it (idle, mixed, allocated, down ...)."""
        try:
            return self.output("sinfo", "-h", "-N", "-p", "main", "-o", "%T").split()
        except ClusterError:
            return []

    def jobs(self) -> list[str]:
        """Ids of jobs that wait or run."""
        return self.output("squeue", "-h", "-o", "%i").split()

    def cancel_all(self) -> None:
        """Cancel every job and wait until none is left."""
        for job in self.jobs():
            self._run("scancel", job)
        _until(lambda: not self.jobs(), 60, "the end of cancelled jobs", self._log("slurmctld"))

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_"))}
        try:
            return subprocess.run(
                command,
                env=environment | self.environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, 124, "", "no answer in a minute")

    def _log(self, daemon: str) -> Path:
        return self.folder / "log" / f"{daemon}.log"

    def _write(self) -> None:
        """Folders, pretended GPUs and settings."""
        host = socket.gethostname().partition(".")[0]
        for name in ("bin", "etc", "log", "state", "dev", *(f"spool.n{n}" for n in range(1, self.nodes + 1))):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)  # the database runs as another user
        devices = [self.folder / "dev" / f"gpu{number}" for number in range(self.gpus)]
        for device in devices:
            if not device.exists():
                os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        dbd = self.port + ACCOUNTING
        accounting = WITH_ACCOUNTING.format(host=host, port=dbd) if self.accounting else WITHOUT_ACCOUNTING
        settings = SLURM_CONF.format(
            host=host,
            folder=self.folder,
            controller=self.port + CONTROLLER,
            accounting=accounting,
            nodes=self.nodes,
            first=self.port + FIRST_NODE + 1,
            last=self.port + FIRST_NODE + self.nodes,
            cpus=self.cpus,
            memory=self.memory,
            gpus=self.gpus,
            min_job_age=self.min_job_age,
            node_timeout=self.node_timeout,
        )
        self.config.write_text(settings)
        gres = "".join(f"NodeName=n[1-{self.nodes}] Name=gpu File={device}\n" for device in devices)
        self.config.with_name("gres.conf").write_text(gres)
        self.config.with_name("cgroup.conf").write_text(
            "CgroupAutomount=no\nConstrainCores=no\nConstrainRAMSpace=no\n"
        )
        wrapper = self.folder / "bin" / "srun"
        srun = shutil.which("srun", path="/usr/local/bin:/usr/bin:/bin")
        wrapper.write_text(f'#!/bin/sh\nSLURM_CONF={self.config} exec {srun} "$@"\n')
        wrapper.chmod(0o755)
        if self.accounting:
            path = self.config.with_name("slurmdbd.conf")
            path.touch(mode=0o600)
            path.write_text(
                SLURMDBD_CONF.format(
                    host=host,
                    port=dbd,
                    folder=self.folder,
                    database=self.port + DATABASE,
                    password=self._password(),
                )
            )

    def _password(self) -> str:
        path = self.folder / "etc" / "password"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(secrets.token_hex(16))
        return path.read_text()

    def _launch(self, *command: str) -> None:
        """Start a program that goes into the background by itself."""
        with self._log(command[0]).open("ab") as log:
            done = subprocess.run(
                command,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                timeout=60,
                check=False,
            )
        if done.returncode:
            raise ClusterError(f"{' '.join(command)} does not start: {_last_line(self._log(command[0]))}")

    def _start_database(self) -> None:
        data, own_socket = self.folder / "database", self.folder / "database.sock"
        log = self._log("mariadbd")
        if not (data / "mysql").is_dir():
            data.mkdir(exist_ok=True)
            shutil.chown(data, "mysql", "mysql")
            install = ["mariadb-install-db", "--no-defaults", "--user=mysql", f"--datadir={data}"]
            with log.open("ab") as file:
                done = subprocess.run([*install, "--skip-test-db"], check=False, stdout=file, stderr=file)
            if done.returncode:
                raise ClusterError(f"mariadb-install-db fails: {_last_line(log)} (log: {log})")
        shutil.chown(self.folder, "mysql", "root")  # for its socket and its pid file
        with log.open("ab") as file:
            subprocess.Popen(
                [
                    "mariadbd",
                    "--no-defaults",
                    "--user=mysql",
                    f"--datadir={data}",
                    f"--socket={own_socket}",
                    f"--pid-file={self.folder / 'mariadbd.pid'}",
                    "--bind-address=127.0.0.1",
                    f"--port={self.port + DATABASE}",
                    "--innodb-buffer-pool-size=64M",
                    "--innodb-lock-wait-timeout=900",
                    "--innodb-flush-log-at-trx-commit=0",
                ],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        client = ["mariadb", "--no-defaults", f"--socket={own_socket}"]
        _until(lambda: self.output(*client, "-e", "SELECT 1"), 60, "mariadbd", log)
        # The password must not be seen in a list of processes.
        statements = (
            "CREATE DATABASE IF NOT EXISTS slurm_acct_db;"
            f"CREATE USER IF NOT EXISTS 'slurm'@'127.0.0.1' IDENTIFIED BY '{self._password()}';"
            f"CREATE USER IF NOT EXISTS 'slurm'@'localhost' IDENTIFIED BY '{self._password()}';"
            "GRANT ALL ON slurm_acct_db.* TO 'slurm'@'127.0.0.1';"
            "GRANT ALL ON slurm_acct_db.* TO 'slurm'@'localhost';"
        )
        subprocess.run(client, input=statements, text=True, check=True, capture_output=True, timeout=60)

    def _register(self) -> None:
        """The cluster, an account and root in the accounting; each is kept where it is there already."""
        for what in (
            ["cluster", "virtual"],
            ["account", ACCOUNT, "Description=tests", "Organization=tests"],
            ["user", "root", f"account={ACCOUNT}", f"DefaultAccount={ACCOUNT}"],
        ):
            self._run("sacctmgr", "-i", "add", *what)
        self._run("sacctmgr", "-i", "modify", "user", "root", "set", f"DefaultAccount={ACCOUNT}")


def missing_here(accounting: bool = True) -> str | None:
    """Why no cluster can be started on this machine, in one line, or None."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "a virtual SLURM cluster needs Linux and root"
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if not accounting:
        absent = [name for name in absent if not name.startswith(("mariadb", "slurmdbd"))]
    packages = (*PACKAGES, *(ACCOUNTING_PACKAGES if accounting else ()))
    return f"{absent[0]} is not installed (apt install {' '.join(packages)})" if absent else None


def start_munge() -> None:
    """Start munged, which all clusters of a machine share, unless it answers."""

    def answers() -> bool:
        token = subprocess.run(["munge", "-n"], capture_output=True, check=False)
        return (
            subprocess.run(["unmunge"], input=token.stdout, capture_output=True, check=False).returncode == 0
        )

    if answers():
        return
    Path("/run/munge").mkdir(parents=True, exist_ok=True)
    Path("/run/munge").chmod(0o755)
    key = Path("/etc/munge/munge.key")
    if not key.exists():
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(1024))
    for path in ("/run/munge", "/etc/munge", "/etc/munge/munge.key", "/var/log/munge", "/var/lib/munge"):
        if not Path(path).exists():
            Path(path).mkdir(parents=True)
        shutil.chown(path, "munge", "munge")
    subprocess.run(
        ["setpriv", "--reuid=munge", "--regid=munge", "--clear-groups", "munged"],
        check=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=30,
    )
    _until(answers, 20, "munged", Path("/var/log/munge/munged.log"))


def free_ports(first: int = 17000, last: int = 30000) -> int:
    """First port of a block that nobody listens on."""
    for port in range(first, last, BLOCK):
        used = [port + CONTROLLER, port + ACCOUNTING, port + DATABASE]
        used += [port + FIRST_NODE + n for n in range(1, 9)]
        if all(_is_free(number) for number in used):
            return port
    raise ClusterError(f"no free block of ports between {first} and {last}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@contextlib.contextmanager
def running(cluster: Cluster) -> Iterator[Cluster]:
    """A cluster for the time of a ``with`` block."""
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()


def _until(condition: Callable[[], object], seconds: float, what: str, log: Path) -> None:
    deadline = time.monotonic() + seconds
    reason = ""
    while True:
        try:
            if condition():
                return
        except ClusterError as error:
            reason = f" {error};"
        if time.monotonic() > deadline:
            raise ClusterError(f"waited {seconds:.0f} s for {what}:{reason} {_last_line(log)} (log: {log})")
        time.sleep(0.1)


def _last_line(log: Path) -> str:
    try:
        return (log.read_text(errors="replace").strip().splitlines() or ["the log is empty"])[-1]
    except OSError:
        return "there is no log"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.slurm.cluster", description=__doc__.split("\n")[0])
    parser.add_argument("action", choices=["packages", "up", "down", "status"])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("/tmp/slurm-cluster"))
    parser.add_argument("--port", type=int, help="first of a block of 100 ports (default: a free one)")
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--cpus", type=int, default=4, help="of each node")
    parser.add_argument("--gpus", type=int, default=2, help="pretended ones of each node")
    parser.add_argument("--plain", action="store_true", help="without accounting")
    given = parser.parse_args()
    if given.action == "packages":
        print(*PACKAGES, *(() if given.plain else ACCOUNTING_PACKAGES))
        return 0
    folder = given.folder.absolute()
    # Daemons that `down` does not find are not running, so it may ask for more than `up` started.
    nodes = given.nodes if given.action == "up" else 64
    port = given.port or (free_ports() if given.action == "up" else 0)
    cluster = Cluster(folder, port, nodes, given.cpus, gpus=given.gpus, accounting=not given.plain)
    try:
        if given.action == "up":
            cluster.up()
            print(f"export SLURM_CONF={cluster.config} PATH={folder}/bin:$PATH")
        elif given.action == "down":
            cluster.down()
        else:
            print(cluster.output("sinfo", "-N", "-o", "%N %P %T %c %m %G"), end="")
            print(cluster.output("squeue"), end="")
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
