"""Links and paths that the documentation names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    """A moved page must take the links to it along."""
    for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if "://" not in link:
            assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_in_code_marks_exist(page: Path) -> None:
    """`config/suites/` in a page is a promise; what runs write (results/, .venv) and patterns are not checked."""
    top = {path.name for path in ROOT.iterdir()} | {"config", "profiles"}
    for path in re.findall(r"`([\w.-]+/[\w./-]*)`", page.read_text()):
        first = path.split("/")[0]
        if first in top - {"results", ".venv", "build"}:
            assert (ROOT / path).exists(), path
