"""The live view of a running suite: redrawn on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from amago_suite.live.status import CellStatus, Overview

#: Seconds between two looks, and between two plain lines.
REFRESH = 1.0
LINE_EVERY = 10.0

_COLOURS = {
    "done": "green",
    "training": "cyan",
    "evaluating": "cyan",
    "failed": "red",
    "interrupted": "yellow",
    "waiting": "dim",
}


def clock(seconds: float | None) -> str:
    """``3:05``, ``1:02:03``, or ``?`` for an unknown time."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def doing(status: CellStatus) -> str:
    """What a running cell does, in words."""
    if status.state == "evaluating":
        return "evaluating"
    if not status.epoch:
        return "starting"
    return f"epoch {status.epoch} of {status.cell.budget_epochs}"


def summary(overview: Overview, elapsed: float) -> str:
    """One line: how many cells are where, and when all will be done."""
    counts = overview.count()
    total = len(overview.cells)
    parts = [f"{counts.get('done', 0)} of {total} done"]
    running = len(overview.running)
    if running:
        parts.append(f"{running} running")
    if counts.get("failed"):
        parts.append(f"{counts['failed']} failed")
    left = overview.seconds_left()
    ends = "" if left is None else f", about {clock(left)} left"
    return f"{', '.join(parts)}; {clock(elapsed)} elapsed{ends}"


class Display:
    """Shows looks at a grid until it is left.

    Args:
        look: gives the present state of the grid.
        console: where to write.
    """

    def __init__(self, look: Callable[[], Overview], console: Console) -> None:
        self.look = look
        self.console = console
        self.began = time.monotonic()
        self._shown = 0.0
        self._live: Live | None = None
        self._said: set[tuple[str, str, int]] = set()
        self._first = True

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, last: bool = False) -> None:
        """Look again and show it; plain lines only every LINE_EVERY seconds."""
        now = time.monotonic()
        if self._live is None and not last and now - self._shown < LINE_EVERY:
            return
        overview = self.look()
        self._say_ends(overview)
        if self._live is not None:
            self._live.update(self.render(overview), refresh=True)
        else:
            self._shown = now
            self.console.print(self.line(overview), soft_wrap=True, highlight=False, markup=False)

    def line(self, overview: Overview) -> str:
        """The plain form."""
        running = [
            f"{status.cell.label}: {doing(status)}"
            + (f" ({clock(status.seconds_left)} left)" if status.seconds_left is not None else "")
            for status in overview.running[:4]
        ]
        more = len(overview.running) - len(running)
        if more > 0:
            running.append(f"{more} more")
        head = f"[{overview.grid.suite}] {summary(overview, time.monotonic() - self.began)}"
        return f"{head} | {'; '.join(running)}" if running else head

    def render(self, overview: Overview) -> Group:
        """The form that is redrawn."""
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=bool(overview.running), header_style="dim")
        for name in ("environment", "architecture", "seed", "", "", "steps/s", "left"):
            table.add_column(name, justify="right" if name in ("seed", "steps/s", "left") else "left")
        room = max(self.console.height - 6, 3)
        for status in overview.running[:room]:
            cell = status.cell
            speed = status.steps_per_second
            table.add_row(
                cell.environment,
                cell.architecture,
                str(cell.seed),
                doing(status),
                ProgressBar(total=cell.budget_epochs, completed=status.epoch, width=20),
                f"{speed:,.0f}" if speed and status.state == "training" else "",
                clock(status.seconds_left) if status.state == "training" else "",
            )
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            Text(overview.grid.suite, style="bold"),
            ProgressBar(total=1.0, completed=overview.fraction(), width=30),
            summary(overview, time.monotonic() - self.began),
        )
        return Group(bar, table)

    def _say_ends(self, overview: Overview) -> None:
        """A lasting line for every cell that ended since the last look."""
        for status in overview.cells:
            if status.cell.key in self._said or status.state not in ("done", "failed"):
                continue
            self._said.add(status.cell.key)
            if status.state == "failed":
                text = f"failed: {status.cell.label}: {status.error}"
                self.console.print(text, style="red", soft_wrap=True, highlight=False, markup=False)
            elif not self._first:
                text = f"done: {status.cell.label}"
                self.console.print(text, style="green", soft_wrap=True, highlight=False, markup=False)
        self._first = False


def status_table(overview: Overview, *, every: bool) -> Table:
    """All cells, or only (environment, architecture) rows with counts when there are very many.

    Args:
        overview: what to show.
        every: a row for each cell.
    """
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    if every:
        for name in ("environment", "architecture", "seed", "state", "epoch", "steps/s", "left", "why"):
            table.add_column(name, overflow="fold")
        for status in overview.cells:
            cell = status.cell
            speed = status.steps_per_second
            table.add_row(
                cell.environment,
                cell.architecture,
                str(cell.seed),
                Text(status.state, style=_COLOURS[status.state]),
                f"{status.epoch}/{cell.budget_epochs}",
                f"{speed:,.0f}" if speed and status.state == "training" else "",
                clock(status.seconds_left) if status.state == "training" else "",
                Text(status.error or ""),
            )
        return table
    groups: dict[tuple[str, str], list[CellStatus]] = {}
    for status in overview.cells:
        groups.setdefault((status.cell.environment, status.cell.architecture), []).append(status)
    for name in ("environment", "architecture", "runs", "state"):
        table.add_column(name)
    for (environment, architecture), members in groups.items():
        counts = Overview(overview.grid, members).count()
        said = ", ".join(f"{count} {state}" for state, count in counts.items())
        table.add_row(environment, architecture, str(len(members)), said)
    return table
