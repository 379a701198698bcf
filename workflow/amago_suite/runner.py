"""`amago-suite run SUITE`: the front door around Snakemake."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import IO, Any

from rich.console import Console

from amago.errors import AmagoError
from amago_suite.configuration.imports import imports_allowed
from amago_suite.configuration.profile import configured, runs_elsewhere
from amago_suite.dag import PLAN_VARIABLE, check_engine
from amago_suite.engines import engine as find_engine
from amago_suite.engines.settings import HOST, from_config
from amago_suite.exits import DONE, FAILED, RESUMABLE, USAGE
from amago_suite.families import check_environments
from amago_suite.folders.freeing import anew_notice, to_train_anew
from amago_suite.folders.ownership import check_owner, clear_owner, remove_stale_locks, write_owner
from amago_suite.folders.prepare import check_results, prepare
from amago_suite.grid import Grid, plan, write_plan
from amago_suite.images import prepare as prepare_images
from amago_suite.live.display import REFRESH, Display
from amago_suite.live.status import Watcher
from amago_suite.locks import die_with_parent
from amago_suite.paths import PROFILE, RESULTS, SNAKEFILE, shown

#: Options after which Snakemake only says or changes something, and no display is wanted.
_NO_JOBS = frozenset(
    [
        "-n",
        "--dry-run",
        "--dryrun",
        "--unlock",
        "--lint",
        "--list",
        "-l",
        "--list-rules",
        "--list-target-rules",
        "--lt",
        "--list-changes",
        "--lc",
        "--list-input-changes",
        "--li",
        "--list-params-changes",
        "--lp",
        "--list-untracked",
        "--lu",
        "--print-compilation",
        "--delete-all-output",
        "--delete-temp-output",
        "--cleanup-shadow",
        "--d3dag",
        "--containerize",
        "--generate-unit-tests",
        "--dag",
        "--rulegraph",
        "--filegraph",
        "--summary",
        "--detailed-summary",
        "--report",
        "--cleanup-metadata",
        "--touch",
        "-t",
        "--help",
        "-h",
        "--version",
        "-v",
        "--archive",
    ]
)
_CORES = ("-c", "--cores", "-j", "--jobs", "--profile", "-e", "--executor")
_CONFIG = ("--config", "-C")


def run(
    suite: str,
    options: Sequence[str],
    *,
    smoke: bool = False,
    engine: str | None = None,
    console: Console | None = None,
) -> int:
    """Run a suite to its tables.

    Args:
        suite: name or path.
        options: passed on to Snakemake.
        smoke: the small size of the suite.
        engine: of the jobs; goes before what profiles and configuration files say.
        console: where to write; standard output by default.

    Returns:
        Exit code: 0 done, 1 a run failed, 2 wrong Snakemake options, 75 interrupted.

    Raises:
        AmagoError: wrong input, found before anything starts.
    """
    console = console or Console()
    typed = options
    options, config = _split_config(options)
    smoke = smoke or config.pop("smoke", "").lower() == "true"
    results = Path(config.pop("results", str(RESULTS)))
    if engine is not None:
        config["engine"] = engine
    settings = from_config({**configured(options), **config})
    grid = plan(suite, smoke=smoke, results=results)
    check_results(grid)
    config |= {"suite": suite, "smoke": str(smoke), "results": str(results)}
    if imports_allowed():
        config["allow_imports"] = "True"
    command = _command(options, config)
    if starts_no_jobs(options):
        return _say_only(grid, command)
    if settings.engine == HOST:
        check_environments(grid.environments, shown(grid.file))
    check_engine(settings)
    settings.export()
    prepare_images(grid, settings.engine, lambda line: console.print(line, markup=False))
    if check_owner(grid):
        left = find_engine(settings.engine).clean(grid.folder)
        if left:
            console.print(f"An earlier run was killed; {left} of its containers were still there.")
        removed = remove_stale_locks(grid)
        if removed:
            console.print("An earlier run was killed; its lock is removed and it goes on where it was.")
    for cell, where in prepare(grid):
        console.print(f"{cell.label}: settings changed; its old results are in {shown(where)}", markup=False)
    if anew := to_train_anew(grid):
        console.print(anew_notice(anew), markup=False)
    again = _again(grid, engine, typed)
    return _Run(grid, command, again, _slots(grid, command), console).wait()


def _again(grid: Grid, engine: str | None, options: Sequence[str]) -> str:
    """The command that goes on with this run, as a person types it."""
    chosen = (*(("--engine", engine) if engine else ()), *(("--allow-imports",) if imports_allowed() else ()))
    return " ".join(("amago-suite run", grid.typed, *map(shlex.quote, (*chosen, *options))))


def starts_no_jobs(options: Sequence[str]) -> bool:
    """Whether Snakemake will only say or change something; nothing of ours may be moved then."""
    for option in options:
        name = option.partition("=")[0]
        if name in _NO_JOBS or (name.startswith("--dr") and "--dry-run".startswith(name)):
            return True
        # Short ones in one word, as in -np, where none of the letters takes a value.
        if re.fullmatch(r"-[nkpFthv]{2,}", name) and set(name) & set("nthv"):
            return True
    return False


def _say_only(grid: Grid, command: Sequence[str]) -> int:
    """Snakemake without jobs, with the plan from outside of the results, where it must leave no trace."""
    with tempfile.TemporaryDirectory(prefix="amago-plan-") as folder:
        path = Path(folder) / "plan.json"
        write_plan(grid, path)
        return subprocess.run(command, check=False, env={**os.environ, PLAN_VARIABLE: str(path)}).returncode


class _Run:
    """One Snakemake process, watched to its end."""

    def __init__(
        self, grid: Grid, command: list[str], again: str, slots: int | None, console: Console
    ) -> None:
        self.grid = grid
        self.command = command
        self.again = again
        self.console = console
        self.watcher = Watcher(grid, slots)
        self.log = grid.folder / "logs" / "snakemake.log"
        self.tables_log = grid.folder / "logs" / "tables.log"
        self.tables_before = _stamp(self.tables_log)
        self.interrupted = 0
        self.process: subprocess.Popen[bytes] | None = None

    def wait(self) -> int:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        handled = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        previous = {number: signal.signal(number, self._on_signal) for number in handled}
        shown_before = _stamp(self.grid.folder / "partial" / "scores.md")
        try:
            with self.log.open("wb") as log:
                self.process = self._start(log)
                write_owner(self.grid, self.process.pid)
                code = self._watch(self.process)
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
        clear_owner(self.grid)
        return self._conclude(code, shown_before)

    def _start(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        parent = os.getpid()

        def before() -> None:
            # Killing this process must not leave Snakemake behind; its jobs follow it in turn.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            if not die_with_parent(signal.SIGKILL, parent):
                os._exit(RESUMABLE)

        # A session of its own: a Ctrl-C in the terminal reaches this process only, which then ends
        # the others in order.
        return subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, PLAN_VARIABLE: str(self.grid.plan_file)},
            preexec_fn=before,
        )

    def _watch(self, process: subprocess.Popen[bytes]) -> int:
        with Display(self.watcher.look, self.console) as display:
            said = 0
            while True:
                try:
                    code = process.wait(timeout=REFRESH)
                    break
                except subprocess.TimeoutExpired:
                    pass
                if self.interrupted > said:
                    said = self.interrupted
                    self.console.print("Stopping: running cells write a checkpoint first ...")
                    self._stop(process)
                display.update()
            if self.interrupted > said:
                self._stop(process)
            display.update(last=True)
        return code

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.interrupted += 1

    def _stop(self, process: subprocess.Popen[bytes]) -> None:
        """Snakemake first, so that it retries nothing, then the jobs, which checkpoint and leave."""
        import psutil

        try:
            jobs = psutil.Process(process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        for job in jobs:
            try:
                job.terminate()
            except psutil.NoSuchProcess:
                continue

    def _conclude(self, code: int, shown_before: tuple[int, int] | None) -> int:
        overview = self.watcher.look()
        if self.interrupted and code != 0:
            self.console.print(f"Interrupted. `{self.again}` goes on from here.", markup=False)
            return RESUMABLE
        if code == 0:
            self._print_tables(self.grid.folder / "tables")
            return DONE
        if overview.failed:
            if _stamp(self.grid.folder / "partial" / "scores.md") != shown_before:
                self._print_tables(self.grid.folder / "partial")
            for status in overview.failed:
                text = f"error: {status.cell.label}: {status.error} (log: {shown(status.log) if status.log else '?'})"
                print(text, file=sys.stderr, flush=True)
            count = len(overview.failed)
            print(
                f"error: {count} of {len(self.grid)} runs failed; `{self.again}` tries them again",
                file=sys.stderr,
                flush=True,
            )
            return FAILED
        last = _last_lines(self.log, 15)
        if code == USAGE and last:
            said = last[-1].removeprefix("__main__.py: error: ").removeprefix("error: ")
            print(f"error: {said}", file=sys.stderr, flush=True)
            return USAGE
        tables = self.tables_log
        if overview.count() == {"done": len(self.grid)} and _stamp(tables) not in (None, self.tables_before):
            reason = (_last_lines(tables, 1) or ["no reason was given"])[0].removeprefix("error: ")
            print(f"error: the tables failed: {reason} (log: {shown(tables)})", file=sys.stderr, flush=True)
            return FAILED
        print(f"error: Snakemake stopped (exit code {code}):", file=sys.stderr)
        for line in last:
            print(f"  {line}", file=sys.stderr)
        print(f"  whole log: {shown(self.log)}", file=sys.stderr, flush=True)
        return FAILED

    def _print_tables(self, folder: Path) -> None:
        path = folder / "scores.md"
        if not path.is_file():
            return
        self.console.print()
        print(path.read_text().rstrip(), flush=True)
        report = folder.parent / "report.html" if folder.name == "tables" else folder / "report.html"
        print(
            f"\ntables: {shown(folder)}/" + (f"   report: {shown(report)}" if report.is_file() else ""),
            flush=True,
        )


def _command(options: Sequence[str], config: dict[str, str]) -> list[str]:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE)]
    if not any(option.split("=")[0] == "--workflow-profile" for option in options):
        command += ["--workflow-profile", str(PROFILE)]
    if not any(option.split("=")[0] in _CORES or option[:2] in ("-c", "-j") for option in options):
        command += ["--cores", str(available_cores())]
    return [*command, *options, "--config", *(f"{key}={value}" for key, value in config.items())]


def _split_config(options: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Take `--config a=b c=d` out of the options: given twice, Snakemake keeps only the last."""
    rest: list[str] = []
    config: dict[str, str] = {}
    inside = False
    for option in options:
        if option in _CONFIG:
            inside = True
        elif inside and "=" in option and not option.startswith("-"):
            key, _, value = option.partition("=")
            config[key] = value
        else:
            inside = False
            rest.append(option)
    return rest, config


def available_cores() -> int:
    """CPUs that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def _slots(grid: Grid, command: Sequence[str]) -> int | None:
    """Cells that can run side by side, for the estimate of the end; ``None`` where a cluster decides."""
    if runs_elsewhere(command):
        return None
    cores: Any = available_cores()
    for index, option in enumerate(command):
        name, _, value = option.partition("=")
        if name in ("-c", "--cores", "-j", "--jobs"):
            cores = value or (command[index + 1] if index + 1 < len(command) else "")
    try:
        count = int(cores)
    except ValueError:
        count = available_cores()
    return max(count // max(cell.threads for cell in grid), 1)


def _stamp(path: Path) -> tuple[int, int] | None:
    """Tells a file from the one that replaces it, whatever the clock did in between."""
    try:
        return path.stat().st_ino, path.stat().st_mtime_ns
    except OSError:
        return None


def _last_lines(path: Path, count: int) -> list[str]:
    try:
        return [line for line in path.read_text(errors="replace").splitlines() if line.strip()][-count:]
    except OSError:
        return []


__all__ = ["AmagoError", "available_cores", "run"]
