"""Tables as a person pastes them: Markdown and LaTeX (booktabs)."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from amago_suite.analysis.across import LIKE_THESE, THESE
from amago_suite.analysis.columns import Row
from amago_suite.analysis.comparisons import BETTER, WORSE
from amago_suite.analysis.rows import BEST, FINAL, Analysis, published_kind, published_marks, published_value
from amago_suite.grid import Environment, Grid

_SHOWN_MISSING = 20
NONE = "-"


@dataclass(frozen=True)
class Cell:
    """One cell of a laid-out table."""

    text: str
    bold: bool = False


def number(value: float | None, beside: float | None = None) -> str:
    """``value`` to three significant digits (whole numbers in full), a dash where there is none.

    Args:
        value: what to write.
        beside: decimals are those of this larger number, so that a cell's numbers line up.
    """
    if value is None or not math.isfinite(value):
        return NONE
    size = max(abs(value), abs(beside or 0.0))
    decimals = 3 if size < 1 else max(2 - math.floor(math.log10(size)), 0)
    return f"{value:z,.{decimals}f}"  # z: no minus before a zero


def with_interval(row: Row, estimate: str = "mean") -> str:
    """``0.98 [0.95, 1.00]``, without the bracket where no interval is given."""
    low, high = row["ci_low"], row["ci_high"]
    if low is None or not math.isfinite(low):
        return number(row[estimate])
    return bracket(row[estimate], low, high)


def bracket(value: float, low: float, high: float) -> str:
    """A value and its interval, to the same decimals."""
    size = max(abs(value), abs(low), abs(high))
    return f"{number(value, size)} [{number(low, size)}, {number(high, size)}]"


def duration(seconds: float | None) -> str:
    """``1 h 05 min``, ``3 min 20 s`` or ``12 s``."""
    if seconds is None:
        return NONE
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    if hours:
        return f"{hours:,} h {minutes:02d} min"
    return f"{minutes} min {whole % 60:02d} s" if minutes else f"{whole} s"


def plural(count: int, word: str) -> str:
    """``1 run``, ``3 runs``."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def winners(analysis: Analysis) -> set[tuple[str, str]]:
    """(environment, architecture) that beats every other one there, by interval.

    Best in bold only where the interval supports it: not merely the largest mean.
    """
    wins: dict[tuple[str, str], int] = {}
    rivals: dict[tuple[str, str], int] = {}
    for row in analysis.comparisons:
        if row["scope"] != "environment":
            continue
        for side, word in (("a", BETTER), ("b", WORSE)):
            key = row["environment"], row[side]
            rivals[key] = rivals.get(key, 0) + 1
            wins[key] = wins.get(key, 0) + row["verdict"].startswith(word)
    return {key for key, count in rivals.items() if wins[key] == count}


# -- what the tables hold -------------------------------------------------------------------------


def score_grid(grid: Grid, analysis: Analysis, kind: str = FINAL) -> tuple[list[str], list[list[Cell]]]:
    """The score table: a row for each environment, a column for each architecture.

    Returns:
        Header, and rows; no rows when nothing has a score of this kind.
    """
    best = winners(analysis) if kind == FINAL else set()
    found = {
        (r["environment"], r["architecture"]): r for r in analysis.scores if r["score"].endswith(f", {kind}")
    }
    published_of: dict[str, str] = {}
    for environment in grid.environments:
        texts = [f"{value} [{mark}]" for mark, value, _ in published_beside(grid, environment, kind)]
        if texts:
            published_of[environment.name] = ", ".join(texts)
    rows = []
    for environment in grid.environments:
        cells = [found.get((environment.name, a)) for a in grid.architectures]
        if not any(cells):
            continue
        sizes = sorted({r["n"] for r in cells if r})
        better = "" if environment.score.direction == "higher" else " (lower is better)"
        row = [
            Cell(environment.name),
            Cell(environment.score.metric + better),
            Cell("-".join(str(s) for s in dict.fromkeys((sizes[0], sizes[-1])))),
        ]
        for architecture, r in zip(grid.architectures, cells, strict=True):
            row.append(
                Cell(with_interval(r), (environment.name, architecture) in best) if r else Cell("missing")
            )
        if published_of:
            row.append(Cell(published_of.get(environment.name, NONE)))
        rows.append(row)
    header = ["environment", "score", "n", *grid.architectures, *(["published"] if published_of else [])]
    return header, rows


def aggregate_grid(analysis: Analysis) -> tuple[list[str], list[list[Cell]]]:
    """Aggregates: a row for each architecture, a column for each statistic."""
    statistics = list(dict.fromkeys(r["statistic"] for r in analysis.aggregate))
    by: dict[str, dict[str, Row]] = {}
    for r in analysis.aggregate:
        by.setdefault(r["architecture"], {})[r["statistic"]] = r
    rows = []
    for architecture, of in by.items():
        first = next(iter(of.values()))
        rows.append(
            [
                Cell(architecture),
                *(Cell(with_interval(of[s], "estimate")) for s in statistics),
                Cell(str(first["n"])),
                Cell(f"{first['environments']} of {first['environments_planned']}"),
                Cell(f"partial: {first['missing']}" if first["partial"] else "complete"),
            ]
        )
    words = {"iqm": "IQM", "optimality_gap": "optimality gap"}
    return ["architecture", *(words.get(s, s) for s in statistics), "n", "environments", "runs"], rows


def comparison_grid(analysis: Analysis) -> tuple[list[str], list[list[Cell]]]:
    """Comparisons over all common environments, both scopes."""
    rows = []
    for r in analysis.comparisons:
        if r["scope"] not in (THESE, LIKE_THESE):
            continue
        chance = number(r["improvement"])
        if r["improvement_low"] is not None:
            chance = bracket(r["improvement"], r["improvement_low"], r["improvement_high"])
        rows.append(
            [
                Cell(f"{r['a']} - {r['b']}"),
                Cell(r["scope"]),
                Cell(with_interval(r, "difference")),
                Cell(r["verdict"]),
                Cell(r["seeds_needed"] if r["seeds_needed"] is not None else NONE),
                Cell(chance),
            ]
        )
    header = ["comparison", "about", "difference of IQM", "verdict", "seeds needed", "P(improvement)"]
    return header, rows


def notes(grid: Grid, analysis: Analysis) -> list[str]:
    """What a reader must know beside the numbers."""
    said = [
        "Mean over runs with a 95 % t interval; n counts runs (seeds). Bold: better than every other "
        "architecture, by the interval of the difference."
    ]
    sizes = [r["n"] for r in analysis.scores]
    if sizes and min(sizes) < 3:
        said.append("Below 3 runs no interval is given.")
    if sizes and min(sizes) < 5:
        said.append(
            "Below 5 runs the interval assumes that runs are normal; where some runs solve the task and "
            "others do not, no interval of so few is reliable: look at the single runs (runs.csv)."
        )
    said += mixed_images(analysis)
    diverged = [r for r in analysis.runs if r["diverged"]]
    if diverged:
        names = ", ".join(f"{r['environment']}/{r['architecture']}/seed {r['seed']}" for r in diverged)
        said.append(f"Diverged, counted with the last score: {names}.")
    said += [f"[{mark}] {text}" for mark, _, text in published_notes(grid, analysis)]
    return said


def aggregate_notes(analysis: Analysis) -> list[str]:
    """What the brackets of the aggregates are: how they were made, and how often such ones hold."""
    given = [r for r in analysis.aggregate if _has_interval(r)]
    if not given:
        return []
    methods = "; ".join(dict.fromkeys(r["ci_method"] for r in given))
    return [f"Across environments, nominal 95 % intervals: {methods}, as simulated for normal runs."]


def comparison_notes(analysis: Analysis) -> list[str]:
    """What the brackets and verdicts of the comparisons are."""
    across = [r for r in analysis.comparisons if r["scope"] in (THESE, LIKE_THESE)]
    given = [r for r in across if _has_interval(r)]
    if not given:
        return []
    methods = "; ".join(dict.fromkeys(f"{r['scope']}: {r['ci_method']}" for r in given))
    return [
        f"Comparisons, normalised scores, nominal 95 % intervals: {methods}. Comparable: inside of "
        f"+-{given[0]['margin']:g}. P(improvement): plain percentile bootstrap over runs. "
        "Nothing is corrected for how many are compared."
    ]


def _has_interval(row: Row) -> bool:
    return row["ci_low"] is not None and math.isfinite(row["ci_low"])


def published_beside(grid: Grid, environment: Environment, kind: str) -> list[tuple[int, str, str]]:
    """(mark, value, what) of the numbers that stand beside ours: of this environment, its score and its kind."""
    return [
        (mark, published_value(entry), entry.what)
        for mark, (entry, environments) in enumerate(published_marks(grid).items(), start=1)
        if environment in environments
        and published_kind(entry) == kind
        and entry.metric == environment.score.metric
    ]


def mixed_images(analysis: Analysis) -> list[str]:
    """A line for every family whose runs were not all made by one image; which engine ran it is no matter."""
    said = []
    for family in dict.fromkeys(r["family"] for r in analysis.runs):
        runs = [r for r in analysis.runs if r["family"] == family]
        counts = Counter(r["image"] for r in runs if r["image"])
        host = sum(1 for r in runs if not r["image"] and r["engine"])
        if not counts or (len(counts) == 1 and not host and "," not in next(iter(counts))):
            continue
        parts = [f"{plural(count, 'run')} by {_short_ids(image)}" for image, count in sorted(counts.items())]
        parts += [f"{plural(host, 'run')} on the host, without one"] if host else []
        said.append(f"Mixed container images in family {family}: {'; '.join(parts)}.")
    return said


def _short_ids(image: str) -> str:
    """``sha256:0123456789ab`` of each id."""
    return " and ".join(part.strip()[:19] for part in image.split(","))


def published_notes(grid: Grid, analysis: Analysis) -> list[tuple[int, str, str]]:
    """(mark, kind of score, text) of each published number: where it comes from and how it differs from ours."""
    notes = []
    for mark, (entry, environments) in enumerate(published_marks(grid).items(), start=1):
        names = [e.name for e in environments]
        steps = sorted(
            {r["env_steps"] for r in analysis.runs if r["environment"] in names and r["env_steps"]}
        )
        ends = " to ".join(f"{n:,}" for n in dict.fromkeys((*steps[:1], *steps[-1:])))
        ours = f"; ours have {ends} environment steps" if steps else ""
        kind = published_kind(entry)
        text = (
            f"Published, {', '.join(names)}: {entry.what}: {entry.metric} {published_value(entry)}, {kind}. "
            f"{entry.cited}. Not our protocol unless it says so{ours}."
        )
        notes.append((mark, kind, text))
    return notes


# -- Markdown and LaTeX -----------------------------------------------------------------------------


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[Cell]], left: int = 2) -> str:
    """A pipe table, padded so that it also reads well unrendered."""
    texts = [[_escape_markdown(c) for c in row] for row in rows]
    widths = [max(len(h), 3, *(len(t[i]) for t in texts)) for i, h in enumerate(header)]

    def line(parts: Sequence[str]) -> str:
        padded = [
            p.ljust(w) if i < left else p.rjust(w) for i, (p, w) in enumerate(zip(parts, widths, strict=True))
        ]
        return "| " + " | ".join(padded) + " |"

    rule = ["-" * w if i < left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return "\n".join([line(list(header)), line(rule), *(line(t) for t in texts)])


def _escape_markdown(cell: Cell) -> str:
    text = cell.text.replace("|", "\\|")
    return f"**{text}**" if cell.bold else text


_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def escape_latex(text: str) -> str:
    """``text`` for a LaTeX document; a leading hyphen of a number becomes a minus sign."""
    escaped = "".join(_LATEX.get(character, character) for character in text)
    return re.sub(r"(?<![\w-])-(?=\d)", "$-$", escaped)


def latex_table(
    header: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    caption: str,
    label: str,
    left: int = 2,
    notes: Sequence[str] = (),
) -> str:
    """A complete ``table`` environment; needs ``\\usepackage{booktabs}`` and nothing else.

    Args:
        header, rows: of the table.
        caption, label: of the float.
        left: columns that are aligned to the left.
        notes: below it, a line each.
    """

    def line(parts: Sequence[str]) -> str:
        return " & ".join(parts) + r" \\"

    def cell(c: Cell) -> str:
        return rf"\textbf{{{escape_latex(c.text)}}}" if c.bold else escape_latex(c.text)

    align = "".join("l" if i < left else "r" for i in range(len(header)))
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{escape_latex(caption)}}}",
            rf"  \label{{tab:{label}}}",
            rf"  \begin{{tabular}}{{{align}}}",
            r"    \toprule",
            "    " + line([escape_latex(h) for h in header]),
            r"    \midrule",
            *("    " + line([cell(c) for c in row]) for row in rows),
            r"    \bottomrule",
            r"  \end{tabular}",
            *(
                [
                    r"  \par\medskip",
                    r"  \begin{minipage}{\linewidth}\footnotesize\raggedright",
                    *(f"    {escape_latex(note)}" + r"\par" for note in notes),
                    r"  \end{minipage}",
                ]
                if notes
                else []
            ),
            r"\end{table}",
            "",
        ]
    )


def page(grid: Grid, analysis: Analysis) -> str:
    """The Markdown that ends a run and is kept as ``scores.md``."""
    total, gone = len(grid), len(analysis.missing)
    parts = [f"# {grid.title or grid.suite}"]
    if gone:
        parts.append(
            f"**PARTIAL: {gone} of {total} runs are missing**, and every number below is without them."
        )
    header, rows = score_grid(grid, analysis)
    parts.append(markdown_table(header, rows) if rows else "No run is finished yet.")
    header, rows = score_grid(grid, analysis, BEST)
    if rows:
        parts += ["Best over training (not comparable with the final policy):", markdown_table(header, rows)]
    header, rows = aggregate_grid(analysis)
    if rows:
        parts += ["Across environments (normalised scores):", markdown_table(header, rows, left=1)]
    header, rows = comparison_grid(analysis)
    if rows:
        parts.append(markdown_table(header, rows))
    if analysis.missing:
        parts.append("Missing:\n\n" + missing_list(analysis.missing))
    said = [*notes(grid, analysis), *aggregate_notes(analysis), *comparison_notes(analysis)]
    said.sort(key=lambda note: note.startswith("["))
    parts.append("\n".join(f"* {note}" for note in said))
    costs = analysis.costs[-1]
    if costs["wall_seconds"]:
        parts.append(
            f"Training took {duration(costs['wall_seconds'])} of wall time over {plural(costs['runs'], 'run')}."
        )
    return "\n\n".join(parts) + "\n"


def missing_list(rows: Sequence[Row]) -> str:
    """Missing runs as a list, the first few by name and the others by count."""
    lines = []
    for row in rows[:_SHOWN_MISSING]:
        why = f"{row['reason']}: {row['detail']}" if row["detail"] else row["reason"]
        lines.append(f"* {row['environment']} / {row['architecture']} / seed {row['seed']}: {why}")
    if len(rows) > _SHOWN_MISSING:
        lines.append(f"* and {len(rows) - _SHOWN_MISSING:,} more: see missing.csv")
    return "\n".join(lines)
