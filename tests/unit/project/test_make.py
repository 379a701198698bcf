"""The Makefile's front page and its refusal of an old Python."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def make(*words: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run make there without the flags of a make that runs the tests."""
    command = ["make", "--no-print-directory", *words]
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_make_alone_lists_every_target() -> None:
    """A target that help does not name is a target that nobody finds."""
    targets = re.search(r"^\.PHONY: help (.*)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert targets is not None
    listed = [line.split()[1] for line in make().stdout.splitlines()]
    assert listed == targets.group(1).split()
    assert make("help").stdout == make().stdout


def test_an_old_python_is_one_clear_line(tmp_path: Path) -> None:
    """Python's own complaint would be a resolver's page of errors; nothing may be left behind."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for needed in ("requirements", "containers"):
        shutil.copytree(ROOT / needed, tmp_path / needed)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    old = tmp_path / "old-python"
    # Stands in for an old interpreter: evaluates the check as if its version were 3.9.
    old.write_text(
        '#!/bin/sh\nexec python3 -c "import sys; sys.version_info = (3, 9, 1); exec(sys.argv[1])" "$2"\n'
    )
    old.chmod(0o755)
    done = make("run", f"PYTHON={old}", folder=tmp_path)
    assert done.returncode != 0
    assert done.stderr.splitlines()[0].startswith("Python 3.11 or newer is needed")
    assert "is 3.9" in done.stderr.splitlines()[0]
    assert not (tmp_path / ".venv").exists()
