"""What all engines with containers share: from a job to its box, through its life, to an exit code."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from types import FrameType

from amago.errors import AmagoError, ConfigurationError
from amago_suite import gpus, records
from amago_suite.cell import Cell, read_cell
from amago_suite.configuration.imports import VARIABLE as IMPORTS
from amago_suite.engines.box import VARIABLE, Box, host, new_name
from amago_suite.engines.job import Job, Limits
from amago_suite.engines.settings import Settings
from amago_suite.engines.user import box_user, foreign, give
from amago_suite.exits import DONE, FAILED, OUT_OF_MEMORY, RESUMABLE
from amago_suite.images import Image, recorded
from amago_suite.locks import Owner, die_with_parent, read_owner, remove_dead
from amago_suite.process import THREAD_VARIABLES
from amago_suite.train import is_trained

#: Where a job works in its box; the cell lies below, as it does on the host.
WORK = PurePosixPath("/work")
#: Seconds that a job has from SIGTERM to its checkpoint (its own limit is 60), and the launcher beyond.
GRACE = 75.0
_POLL = 0.1
_REPEAT = 2.0  # seconds between two SIGTERMs
_KILLED = 128 + signal.SIGKILL
#: Variables that go with a job as they are, where they are set.
_PASSED = ("SLURM_JOB_ID", IMPORTS, records.MAIN_VARIABLE)


@dataclass(frozen=True)
class Plan:
    """A box, planned to the last detail; engines only translate it.

    Attributes:
        command: to run inside.
        folder: of the host; the only thing that the job can write and, but for the image, read.
        inside: where that folder appears.
        user: (user, group) ids, never 0.
        environment: all of the variables beside the image's own; may hold secrets.
        labels: tell later launchers whose box it is.
    """

    box: Box
    image: Image
    command: tuple[str, ...]
    folder: Path
    inside: PurePosixPath
    user: tuple[int, int]
    limits: Limits
    network: str
    devices: tuple[str, ...]
    environment: dict[str, str] = field(repr=False)
    labels: dict[str, str]


@dataclass(frozen=True)
class Ended:
    """How a container ended: its exit code, and whether the engine says that memory was the reason."""

    code: int
    out_of_memory: bool = False


class Container(ABC):
    """A container that runs."""

    @abstractmethod
    def wait(self, seconds: float) -> Ended | None:
        """How it ended, once it has and all of its output is passed on; None when it still runs after so long."""

    @abstractmethod
    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its first process; harmless when it has ended."""

    @abstractmethod
    def remove(self) -> None:
        """Leave nothing of it behind, also when it runs."""


class Boxed(ABC):
    """An engine whose jobs run in containers."""

    name: str

    @abstractmethod
    def check(self) -> None:
        """Find out whether containers can be started at all.

        Raises:
            ConfigurationError: not installed, not running, or not allowed; one line with the way out.
        """

    def without_limits(self) -> str | None:
        """Why boxes here may use more memory and CPUs than their limits; None where they cannot.

        Raises:
            AmagoError: the engine does not answer.
        """
        return None

    @abstractmethod
    def slow_start(self, image: Image) -> tuple[str, str] | None:
        """What makes every box wait before it starts, and the way out; None where nothing does.

        Raises:
            AmagoError: the engine does not answer, or no box of the image can be started.
        """

    @abstractmethod
    def start(self, plan: Plan) -> Container:
        """Start a box; its output goes to this process's own, as it comes.

        Raises:
            AmagoError: it cannot be started; one line.
        """

    @abstractmethod
    def running(self, box: str) -> bool:
        """Whether the box of that name, of this machine and engine, still runs."""

    @abstractmethod
    def sweep(self, root: Path) -> list[tuple[str, Path]]:
        """Remove the boxes of dead launchers below a folder of results.

        Returns:
            (box, its cell's folder) of each.
        """

    def run(self, job: Job, settings: Settings) -> int:
        """Run a job in a box of its own, to its end.

        Returns:
            Its exit code: 0 done, 1 failed for good, 2 wrong input, 75 interrupted and resumable.

        Raises:
            AmagoError: nothing was started, and why.
            TrainingInterrupted: asked to stop while it waited for a GPU.
        """
        with Stop() as stop:
            if job.parent is not None and not die_with_parent(signal.SIGTERM, job.parent):
                return RESUMABLE
            cell = read_cell(job.folder)
            code = _nothing_to_do(job, cell)
            if code is not None:
                return code
            waits = gpus.take(cell.label, cell.resources[job.stage].gpus, stopped=lambda: stop.since > 0)
            with waits as slot, _recorded(job, cell):
                plan = self.plan(job, cell, settings, slot)
                ended = self.run_box(cell, plan, stop)
        return self._conclude(job, cell, plan, ended, stop)

    def run_box(self, cell: Cell, plan: Plan, stop: Stop) -> Ended:
        links = foreign(plan.folder)
        if links:
            raise ConfigurationError(
                f"{links[0]} is a link or no ordinary file, which a job in a box cannot use; put a copy in its place"
            )
        self.free_lock(cell)
        give(plan.folder, *plan.user)
        try:
            return self._watch(plan, stop)
        finally:
            for path in foreign(plan.folder):
                path.unlink()
                print(f"removed {path}: no job may leave links, pipes or set-user bits", file=sys.stderr)
            self.free_lock(cell)

    def clean(self, suite_folder: Path) -> int:
        """Remove the boxes that killed launchers left of a suite, and the locks of their jobs."""
        swept = self.sweep(Path(os.path.realpath(suite_folder)))
        for box, folder in swept:
            lock = folder / "state" / "lock"
            owner = read_owner(lock)
            if owner is not None and owner.host == box:
                remove_dead(lock, owner)
        return len(swept)

    def plan(self, job: Job, cell: Cell, settings: Settings, slot: gpus.Slot) -> Plan:
        """The box of a job.

        Raises:
            ConfigurationError: no image, or a secret that is not there.
        """
        settings.check()
        image = recorded(cell.folder.absolute().parents[2], self.name, cell.family)
        folder = Path(os.path.realpath(cell.folder))
        inside = WORK.joinpath("results", *cell.folder.absolute().parts[-4:])
        box = Box(
            name=new_name(self.name), host=host(), engine=self.name, image=image.reference,
            image_id=image.image_id, repo_digest=image.repo_digest, sif_sha256=image.sif_sha256,
            lock_hash=image.lock_hash,
            commit=image.commit,
        )  # fmt: skip
        arguments = ["amago-suite", job.stage, str(inside.relative_to(WORK))]
        arguments += ["--parent", str(job.parent)] if job.parent is not None else []
        arguments += ["--log", job.log] if job.log is not None else []
        first = ("python", "-m", "amago_suite.engines.init", box.name, str(GRACE))
        return Plan(
            box=box,
            image=image,
            command=(*first, *arguments),
            folder=folder,
            inside=inside,
            user=box_user(folder.parents[3]),
            limits=_limits(job, cell),
            network=settings.network,
            devices=slot.devices,
            environment={
                "HOME": "/tmp",  # noqa: S108 (the box's own)
                "USER": "amago",
                "LOGNAME": "amago",
                "PYTHONHASHSEED": "0",
                "PYTHONUNBUFFERED": "1",
                "PYTHONDONTWRITEBYTECODE": "1",
                **{name: str(cell.threads) for name in THREAD_VARIABLES},
                **({} if settings.network != "none" else {"WANDB_MODE": "offline"}),
                **{name: os.environ[name] for name in (*_PASSED, *settings.secrets) if name in os.environ},
                gpus.SLOT_VARIABLE: ",".join(slot.devices),
                VARIABLE: box.text(),
            },
            labels=_labels(box, folder),
        )

    def free_lock(self, cell: Cell) -> None:
        """Remove the lock of a box of ours that no longer runs: nobody else could know so soon."""
        path = cell.state / "lock"
        owner = read_owner(path)
        if owner is None or not owner.host.startswith(f"{host()}/{self.name}-"):
            return
        if not self.running(owner.host):
            remove_dead(path, owner)

    def _watch(self, plan: Plan, stop: Stop) -> Ended:
        container = self.start(plan)
        try:
            said = 0.0
            while (ended := container.wait(_POLL)) is None:
                if not stop.since:
                    continue
                now = time.monotonic()
                if now - stop.since > GRACE:
                    container.signal(signal.SIGKILL)
                elif now - said > _REPEAT:
                    said = now
                    container.signal(signal.SIGTERM)
            return ended
        finally:
            container.remove()

    def _conclude(self, job: Job, cell: Cell, plan: Plan, ended: Ended, stop: Stop) -> int:
        code = ended.code
        if code == OUT_OF_MEMORY or (code == _KILLED and ended.out_of_memory):
            error = (
                f"{records.OUT_OF_MEMORY}: its box may use {plan.limits.memory_mb} MB; raise "
                f"resources.{job.stage}.mem_mb in the suite, or lower Experiment.batch_size, "
                "Experiment.parallel_actors or max_seq_len"
            )
            records.Attempts(cell).end_open(records.OUT_OF_MEMORY)
            records.write_failure(cell, error, job.stage, job.log or cell.state / "train.log")
            print(f"error: {cell.label}: {error}", file=sys.stderr, flush=True)
            return FAILED
        if code > 128:
            if not stop.since:
                name = signal.Signals(code - 128).name if code - 128 in _SIGNALS else str(code - 128)
                print(
                    f"error: {cell.label}: something outside ended its box ({name})",
                    file=sys.stderr,
                    flush=True,
                )
            return RESUMABLE
        return code


@contextlib.contextmanager
def _recorded(job: Job, cell: Cell) -> Iterator[None]:
    """What keeps a box from starting is the cell's failure: said by name, and not tried again and again."""
    try:
        yield
    except AmagoError as error:
        with contextlib.suppress(OSError):
            records.write_failure(cell, str(error), job.stage, job.log or cell.state / "train.log")
        raise


_SIGNALS = {int(number) for number in signal.Signals}


class Stop:
    """A context in which signals that ask this process to end are only noted: the box has to end first."""

    def __init__(self) -> None:
        self.since = 0.0  #: when the first came, by the monotonic clock; 0 before

    def __enter__(self) -> Stop:
        handled = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        self._previous = {number: signal.signal(number, self._note) for number in handled}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.since = self.since or time.monotonic()


def _limits(job: Job, cell: Cell) -> Limits:
    """As the workflow says, or the cell; no engine gives more CPUs than there are."""
    memory = job.memory_mb or cell.resources[job.stage].mem_mb
    return Limits(min(cell.cpus(job.stage), os.cpu_count() or 1), memory)


def _nothing_to_do(job: Job, cell: Cell) -> int | None:
    """The exit code of a job that needs no box: done before, or failed for good in this invocation."""
    if job.stage != "train":
        return None
    if is_trained(cell):
        print(f"{cell.label}: already trained for {cell.budget_epochs} epochs", flush=True)
        return DONE
    failure = records.read_failure(cell)
    if job.parent is not None and failure is not None and failure.get("stage") == "train":
        print(f"error: {cell.label}: failed before: {failure['error']}", file=sys.stderr, flush=True)
        return FAILED
    return None


#: Labels of containers. The root is the folder of one suite's results.
LABEL = "amago-suite"


def _labels(box: Box, folder: Path) -> dict[str, str]:
    return {
        f"{LABEL}.box": box.name,
        f"{LABEL}.root": str(folder.parents[2]),
        f"{LABEL}.cell": str(folder),
        f"{LABEL}.owner": json.dumps(asdict(Owner.this())),
    }
