"""Where the project's own files lie: this package is used from a checkout (or an editable install)."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCHEMAS = ROOT / "workflow" / "schemas"
CONFIG = ROOT / "config"
SUITES = CONFIG / "suites"
ARCHITECTURES = CONFIG / "architectures"
ENVIRONMENTS = CONFIG / "environments"
BASE_GIN = CONFIG / "base.gin"
SNAKEFILE = ROOT / "Snakefile"
PROFILE = ROOT / "profiles" / "default"

#: Where runs write, below the folder that a command is typed in.
RESULTS = Path("results")
#: Results of another configuration are moved here, never deleted.
SUPERSEDED = ".superseded"


def shown(path: Path) -> str:
    """``path`` as a person would type it: relative to the project or to here, where it lies inside."""
    for base in (Path.cwd(), ROOT):
        try:
            return str(path.resolve().relative_to(base))
        except ValueError:
            continue
    return str(path)
