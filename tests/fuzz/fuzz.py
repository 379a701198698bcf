"""Run targets and count."""

from __future__ import annotations

import resource
import sys
import traceback
from dataclasses import dataclass

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings

from amago.errors import AmagoError
from tests.fuzz.kinds import Target
from tests.fuzz.watch import now, watched


@dataclass
class Count:
    """What happened to one target's inputs."""

    inputs: int = 0
    refused: int = 0
    slowest: float = 0.0
    grown_mb: float = 0.0

    @property
    def accepted(self) -> int:
        return self.inputs - self.refused


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def fuzz(target: Target, inputs: int, number: int) -> Count:
    """Feed ``inputs`` hostile files to a target; the first that breaks it is shrunk and raised.

    Args:
        target: to read them.
        inputs: how many.
        number: seed of the choice.
    """
    count = Count()
    before = peak_mb()
    broken: list[tuple[int, str]] = []

    def one(data: bytes) -> None:
        began = now()
        count.inputs += 1
        try:
            with watched(target.allowed):
                try:
                    target.read(data)
                except AmagoError as error:
                    count.refused += 1
                    assert str(error).strip(), "an error without a message"
        except BaseException:
            trace = "".join(traceback.format_exc().splitlines(keepends=True)[-9:])
            broken.append((len(data), f"{target.name}: {data[:400]!r} ({len(data)} bytes)\n{trace}"))
            raise
        count.slowest = max(count.slowest, now() - began)

    quick = settings(
        max_examples=inputs,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        report_multiple_bugs=False,
        verbosity=Verbosity.quiet,
    )
    try:
        seed(number)(quick(given(target.inputs)(one)))()
    except BaseException:
        # Hypothesis would print the whole file.
        raise AssertionError(min(broken)[1] if broken else traceback.format_exc()[-2000:]) from None
    count.grown_mb = max(peak_mb() - before, 0.0)
    return count


def show(rows: list[tuple[str, Count]], out: object = sys.stdout) -> str:
    """The table of the long form, in Markdown."""
    lines = [
        "| file | inputs | read | refused | slowest (s) | memory grown by (MB) |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, c in rows:
        lines.append(
            f"| {name} | {c.inputs:,} | {c.accepted:,} | {c.refused:,} | {c.slowest:.2f} | {c.grown_mb:.0f} |"
        )
    total = sum(c.inputs for _, c in rows)
    read, refused = sum(c.accepted for _, c in rows), sum(c.refused for _, c in rows)
    slowest, grown = max(c.slowest for _, c in rows), sum(c.grown_mb for _, c in rows)
    lines.append(f"| **all** | **{total:,}** | {read:,} | {refused:,} | {slowest:.2f} | {grown:.0f} |")
    return "\n".join(lines)
