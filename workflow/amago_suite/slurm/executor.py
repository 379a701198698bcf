"""Snakemake's SLURM executor, made to survive what clusters do.

Submitting, resources and job scripts are the plugin's. Ours is what it leaves open:

* jobs carry a name that belongs to the suite's results, so that a Snakemake which starts after a crash
  finds those of the one before: it goes on with them instead of submitting them twice;
* a job's end is learnt from squeue and sacct together, so that neither a cancelled job ("CANCELLED by
  1000"), a preempted one, a forgotten one nor a dead slurmdbd makes the workflow wait for ever;
* interrupted training is submitted again without using up retries; what failed for good is not;
* an sbatch that the controller was too busy for is tried again later;
* an interruption stops submitting, lets running jobs write a checkpoint, and leaves none behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import threading
import time
from collections.abc import AsyncGenerator, Generator, Iterator
from pathlib import Path
from typing import Any, ClassVar

from snakemake_executor_plugin_slurm import Executor as Plugin
from snakemake_executor_plugin_slurm.utils import get_job_wildcards
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

from amago.errors import AmagoError
from amago_suite.cell import Cell
from amago_suite.configuration.identity import digest
from amago_suite.configuration.site import read_site
from amago_suite.grid import Grid
from amago_suite.records import read_failure
from amago_suite.slurm import packing, queue
from amago_suite.slurm.outcome import Outcome, after_training
from amago_suite.train import is_trained

#: Looks at the queue in a row that must miss a job before it counts as gone: a new one may be late to appear.
_LOOKS = 3
#: Seconds for which a job that may share a SLURM job waits for others.
_GATHER = 2.0
#: What sbatch says when the same submission may succeed later.
_TRANSIENT = (
    "Socket timed out",
    "Unable to contact slurm controller",
    "temporarily unable",
    "Zero Bytes were transmitted",
    "Connection refused",
    "Connection timed out",
    "MaxSubmitJob",
)


class Executor(Plugin):
    """The plugin's executor for the cells of one suite."""

    grid: ClassVar[Grid]

    def __post_init__(self, test_mode: bool = False) -> None:
        self._cells = {(c.environment, c.architecture, str(c.seed)): c for c in self.grid}
        self._leftover: dict[str, str] | None = None  # comment -> id of jobs that an earlier Snakemake left
        self._packed: dict[str, tuple[str, int]] = {}  # comment -> (file, place) of adopted members of packs
        self._gathered: list[Any] = []  # jobs that wait for others to share a SLURM job with
        self._gathering = threading.Lock()
        self._missed: dict[str, int] = {}
        self._silent_since: float | None = None
        self.slurm = read_site().slurm
        self._stopping = threading.Event()
        self._refused = threading.local()
        super().__post_init__(test_mode)
        if self.workflow.executor_settings.array_jobs:
            # One failing task makes the plugin call all of them failed, and Snakemake delete what they made.
            raise WorkflowError(
                "arrays are not used: set cells_per_job in config/site.yaml (docs/slurm.md says why)"
            )
        prefix = self.workflow.executor_settings.jobname_prefix or "amago"
        self.run_uuid = f"{prefix}-{self.grid.suite}-{digest(str(self.grid.folder.resolve()))[:12]}"
        self.poll = self.workflow.executor_settings.init_seconds_before_status_checks

    # Submission

    def run_jobs(self, jobs: list[Any]) -> None:
        if self._leftover is None:
            self._leftover = self._adopt()
        super().run_jobs(jobs if self.slurm.cells_per_job == 1 else self._gather(jobs))

    def run_job(self, job: Any) -> None:
        if self._stopping.is_set():
            return
        if failure := self._failure(job):
            job.attempt = job.restart_times + 1
            self._report_job_error_threadsafe(SubmittedJobInfo(job), f"failed before: {failure}")
            return
        if self._finished_unseen(job):
            self.logger.info(f"Job {job.jobid} was finished while no Snakemake looked.")
            self.report_job_submission(SubmittedJobInfo(job, external_jobid="finished"))
            return
        number = (self._leftover or {}).pop(_comment(job), None)
        if number is not None:
            self._go_on_with(job, number)
            return
        self._submit(job)

    def _submit(self, job: Any) -> None:
        """The plugin's submission, again later when the controller had no time for it."""
        while not self._stopping.is_set():
            self._refused.reason = None
            super().run_job(job)
            if self._refused.reason is None:
                return
            self.logger.warning(f"sbatch: {self._refused.reason}; tried again in {self.poll} s.")
            self._stopping.wait(self.poll)
            # It may have been accepted although its answer got lost.
            known = queue.queued(self.run_uuid) or []
            number = next((j.id for j in known if j.live and j.comment == _comment(job)), None)
            if number is not None:
                self._go_on_with(job, number)
                return

    # Several jobs in one

    def _gather(self, jobs: list[Any]) -> list[Any]:
        """Keep jobs that can share one, for others may come in a moment. Returns those that cannot."""
        alone: list[Any] = []
        willing: list[Any] = []
        for job in jobs:
            known = job.is_group() or _comment(job) in (self._leftover or {})
            (alone if known or self._failure(job) or self._finished_unseen(job) else willing).append(job)
        with self._gathering:
            if willing and not self._gathered:
                timer = threading.Timer(_GATHER, self._submit_gathered)
                timer.daemon = True
                timer.start()
            self._gathered += willing
        return alone

    def _submit_gathered(self) -> None:
        with self._gathering:
            jobs, self._gathered = self._gathered, []
        if self._stopping.is_set():
            return
        for pack in packing.packs(jobs, self.slurm.cells_per_job):
            if len(pack) == 1:
                self._submit_job(pack[0])
                continue
            for job in pack:
                self.run_job_pre(job)
            self._job_submission_executor.submit(self._submit_pack, pack)

    def _submit_pack(self, jobs: list[Any]) -> None:
        """`_submit` for a pack."""
        try:
            path = packing.new_pack(self.slurm_logdir / "packs", jobs, _comment)
            settings, workdir = self.workflow.executor_settings, self.workflow.workdir_init
            command, script = packing.submission(path, jobs, self.run_uuid, str(workdir), settings)
            number = self._submitted(command, script)
        except Exception as error:
            self.logger.exception("a pack cannot be submitted")
            number = error
        for index, job in enumerate(jobs):
            if isinstance(number, str):
                self.logger.info(
                    f"Job {job.jobid} has been submitted with SLURM jobid {number} (pack: {path})."
                )
                aux = {"slurm_logfile": path.with_suffix(".log"), "pack": str(path), "member": index}
                self._report_job_submission_threadsafe(SubmittedJobInfo(job, external_jobid=number, aux=aux))
            elif number is not None:
                self._report_job_error_threadsafe(SubmittedJobInfo(job), f"SLURM refuses the job: {number}")

    def _submitted(self, command: list[str], script: str) -> str | Exception | None:
        """The number of the new job, why there is none, or None when this process is told to stop."""
        comment = next(option.partition("=")[2] for option in command if option.startswith("--comment="))
        while not self._stopping.is_set():
            number, reason = queue.submit(command, script)
            if number is not None:
                return number
            if not any(words in reason for words in _TRANSIENT):
                return AmagoError(reason)
            self.logger.warning(f"sbatch: {reason}; tried again in {self.poll} s.")
            self._stopping.wait(self.poll)
            known = queue.queued(self.run_uuid) or []
            if found := next((j.id for j in known if j.live and j.comment == comment), None):
                return found
        return None

    def _report_job_error_threadsafe(self, job_info: SubmittedJobInfo, msg: str) -> None:
        if "sbatch failed" in msg or "SLURM refuses" in msg:
            reason = next((words for words in _TRANSIENT if words in msg), None)
            if reason is not None:
                self._refused.reason = reason
                return
            # Refused for what it asks for: the same again would be refused again.
            self.logger.error(msg.partition("sbatch call:")[0].strip())
            job_info.job.attempt = job_info.job.restart_times + 1
        super()._report_job_error_threadsafe(job_info, msg)

    def get_account_arg(self, job: Any) -> Generator[str, None, None]:
        """sbatch checks the account itself; the plugin asks slurmdbd for each job, and fails while that is away."""
        account = job.resources.get("slurm_account")
        yield f" -A {shlex.quote(str(account))}" if account else ""

    # Jobs of an earlier Snakemake

    def _adopt(self) -> dict[str, str]:
        """Find jobs that an earlier Snakemake of this suite left; stop those that nobody needs any more."""
        while (found := queue.queued(self.run_uuid)) is None:
            self.logger.warning(f"SLURM does not answer; asked again in {self.poll} s.")
            time.sleep(self.poll)
        wanted = {_comment(job) for job in self.workflow.dag.needrun_jobs() if not job.is_group()}
        adopted: dict[str, str] = {}
        superfluous = []
        for job in found:
            if not job.live:
                continue
            if (pack := packing.members_of(job.comment)) is not None:
                path, members = pack
                places = {
                    m.comment: (str(path), i)
                    for i, m in enumerate(members)
                    if m.comment in wanted - adopted.keys()
                }
                adopted |= dict.fromkeys(places, job.id)
                self._packed |= places
                superfluous += [] if places else [job.id]
                continue
            if job.comment in wanted and job.comment not in adopted:
                adopted[job.comment] = job.id
            else:
                superfluous.append(job.id)
        if superfluous:
            self.logger.warning(
                f"Stopping {len(superfluous)} jobs of an earlier run that are not needed any more: "
                f"{', '.join(superfluous)}."
            )
            queue.stop(superfluous)
        return adopted

    def _go_on_with(self, job: Any, number: str) -> None:
        folder = self.slurm_logdir / f"rule_{job.name}" / get_job_wildcards(job)
        self.logger.info(f"Job {job.jobid} is already in SLURM's queue as {number}; going on with that one.")
        aux: dict[str, Any] = {"slurm_logfile": folder / f"{number}.log", "adopted": True}
        if pack := self._packed.pop(_comment(job), None):
            aux |= {"slurm_logfile": Path(pack[0]).with_suffix(".log"), "pack": pack[0], "member": pack[1]}
        self._report_job_submission_threadsafe(SubmittedJobInfo(job, external_jobid=number, aux=aux))

    # How jobs end

    async def check_active_jobs(
        self, active_jobs: list[SubmittedJobInfo]
    ) -> AsyncGenerator[SubmittedJobInfo, None]:
        if not active_jobs:
            return
        self.next_seconds_between_status_checks = self.poll
        async with self.status_rate_limiter:
            states = await asyncio.to_thread(self._states)
        if states is None:
            self._say_silent()
            for info in active_jobs:
                yield info
            return
        self._silent_since = None
        for number in {info.external_jobid for info in active_jobs}:  # members of a pack share one
            self._missed[number] = 0 if states.get(number) else self._missed.get(number, 0) + 1
        for info in active_jobs:
            number = info.external_jobid
            state = states.get(number, "")
            if number == "finished":
                state = "COMPLETED"
            if state in queue.LIVE or (not state and self._missed[number] < _LOOKS):
                yield info
            else:
                self._ended(info, packing.member_state(info.aux, state or "UNKNOWN"))

    def _states(self) -> dict[str, str] | None:
        """State of all jobs of this suite that SLURM remembers, or None when it does not answer."""
        shown = queue.queued(self.run_uuid)
        if shown is None:
            return None
        states = {job.id: job.state for job in shown}
        if self.workflow.executor_settings.status_command == "sacct":
            # The controller alone knows what lives: the accounts hear of it later, or never. They
            # know longest what ended, and are only asked for that.
            accounts = queue.accounted(self.run_uuid) or {}
            states |= {
                number: state
                for number, state in accounts.items()
                if number not in states and state not in queue.LIVE
            }
        return states

    def _ended(self, info: SubmittedJobInfo, state: str) -> None:
        """Tell Snakemake that a job ended, and whether trying again makes sense."""
        job, number = info.job, info.external_jobid
        log = info.aux.get("slurm_logfile") if info.aux else None
        if state == "COMPLETED" or (state == "UNKNOWN" and all(Path(str(f)).exists() for f in job.output)):
            self.report_job_success(info)
            if log is not None and not self.workflow.executor_settings.keep_successful_logs:
                with contextlib.suppress(OSError):
                    Path(log).unlink()
            return
        outcomes = [after_training(cell, number) for cell in self._training(job)]
        if any(outcome is Outcome.FAILED for outcome in outcomes):
            what = "failed for good"
            job.attempt = job.restart_times + 1
        elif state == "PREEMPTED" or (outcomes and all(o is Outcome.RESUMABLE for o in outcomes)):
            what = "goes on in another job"
            job.attempt = max(job.attempt - 1, 0)  # an interruption uses no retry up
        elif job.attempt > self.slurm.retries:
            what = "failed, and is not tried again"
            job.attempt = job.restart_times + 1
        else:
            what = f"failed, try {job.attempt} of {self.slurm.retries + 1}"
        self.logger.warning(f"{_comment(job)}: SLURM job {number} ended as {state}; {what} (log: {log})")
        self.report_job_error(info, msg=f"SLURM job {number} ended as {state}. ", aux_logs=[str(log)])

    def _say_silent(self) -> None:
        now = time.monotonic()
        if self._silent_since is None:
            self._silent_since = now
            self.logger.warning(
                "SLURM does not answer squeue; jobs go on, and so does this as soon as it does."
            )

    # Cells

    def _training(self, job: Any) -> Iterator[Cell]:
        """Cells that a job (or group of jobs) trains."""
        for one in job.jobs if job.is_group() else [job]:
            if one.rule.name == "train":
                w = one.wildcards
                yield self._cells[w.environment, w.architecture, w.seed]

    def _failure(self, job: Any) -> str | None:
        """Why the only cell of a job failed for good, in this invocation."""
        cells = list(self._training(job))
        failure = read_failure(cells[0]) if len(cells) == 1 else None
        return str(failure["error"]) if failure and failure.get("stage") == "train" else None

    def _finished_unseen(self, job: Any) -> bool:
        """Whether a training that Snakemake believes to be half done was finished while it was dead."""
        if job.is_group() or job.rule.name != "train":
            return False
        reason = self.workflow.dag.reason(job)
        (cell,) = self._training(job)
        # A whole provenance.json is the last thing that a training writes.
        return bool(reason.incomplete_output) and not reason.forced and is_trained(cell)

    # The end

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """Let no job of this suite live on: waiting ones go, running ones write a checkpoint first."""
        self._stopping.set()
        self._job_submission_executor.shutdown(wait=True, cancel_futures=True)
        try:
            self._stop_all()
        finally:
            if left := self._live():
                queue.cancel(left)

    def _stop_all(self) -> None:
        live = self._live()
        if not live:
            return
        self.logger.info(f"Stopping {len(live)} jobs: running ones write a checkpoint first.")
        queue.stop(live)
        deadline = time.monotonic() + self.slurm.grace_seconds + 30
        while live and time.monotonic() < deadline:
            time.sleep(min(self.poll, 2))
            live = self._live()

    def _live(self) -> list[str]:
        return [job.id for job in queue.queued(self.run_uuid) or [] if job.live]


def _comment(job: Any) -> str:
    """How the plugin marks the SLURM job of a Snakemake job."""
    wildcards = get_job_wildcards(job)
    return f"rule_{job.name}_wildcards_{wildcards}" if wildcards else f"rule_{job.name}"
