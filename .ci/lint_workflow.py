"""`snakemake --lint`, with one kind of finding allowed by name.

A cell's container is chosen by the engine (``config/engines``), not by a rule, so the linter's demand for a
container or conda environment in every rule stays unmet on purpose. Everything else fails the check.
The linter's text is read because the pinned release prints text for ``--lint json`` too.
"""

from __future__ import annotations

import subprocess
import sys

ALLOWED = {"Specify a conda environment or container for each rule."}
PLACE = "Lints for "
FINDING = "    * "


def findings(text: str) -> list[tuple[str, str]]:
    """(place, title) of every finding in the linter's output, allowed or not."""
    found, place = [], ""
    for line in text.splitlines():
        if line.startswith(PLACE):
            place = line.removeprefix(PLACE).removesuffix(":")
        elif line.startswith(FINDING):
            found.append((place, line.removeprefix(FINDING).removesuffix(":")))
    return found


def verdict(text: str, returncode: int) -> tuple[int, str]:
    """Exit code and what to print: 0 clean, 1 with findings, 2 when the linter itself failed."""
    found = findings(text)
    wrong = [f"{place}: {title}" for place, title in found if title not in ALLOWED]
    if wrong:
        return 1, "\n".join([*wrong, f"snakemake --lint: {len(wrong)} found"])
    if returncode and not found:
        return 2, text
    return 0, "snakemake --lint: clean"


def main() -> int:
    """Lint the workflow in the current folder with its default suite."""
    command = [sys.executable, "-m", "snakemake", "--lint"]
    lint = subprocess.run(command, capture_output=True, text=True, check=False)
    code, message = verdict(lint.stderr + lint.stdout, lint.returncode)
    print(message)
    return code


if __name__ == "__main__":
    sys.exit(main())
