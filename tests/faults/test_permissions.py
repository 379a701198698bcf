"""Files that may not be read or written: one line that names the file, whichever command meets it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.faults.conftest import Desk

pytestmark = pytest.mark.slow

#: Root may read and write everything; without these two capabilities it is held to modes like all others.
ORDINARY = (
    "setpriv",
    "--bounding-set=-dac_override,-dac_read_search",
    "--inh-caps=-dac_override,-dac_read_search",
)
COMMANDS = (
    "run tiny.yaml", "status tiny.yaml", "tables tiny.yaml", "verify tiny.yaml", "gc tiny.yaml", "train {cell}",
    "evaluate {cell}",
)  # fmt: skip
PLACES = ("", "state", "episodes.csv", "policy.safetensors")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A suite that has run."""
    desk = Desk(tmp_path_factory.mktemp("finished"))
    desk.write()
    done = desk.type("run", "tiny.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    return desk


@pytest.mark.parametrize("place", PLACES)
def test_one_line_that_names_the_file(finished: Desk, tmp_path: Path, place: str) -> None:
    """No traceback, nothing lost: with the permission back, the suite is as finished as it was."""
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("needs setpriv, to be held to permissions as root")
    desk = Desk(shutil.copytree(finished.folder, tmp_path / "desk"))
    cell = desk.folder / "results" / "tiny" / "tmaze-passive" / "ff" / "seed_0"
    closed = cell / place
    assert closed.exists()
    before = {p: p.read_bytes() for p in cell.rglob("*") if p.is_file()}
    mode = closed.stat().st_mode
    for command in COMMANDS:
        words = command.format(cell=cell.relative_to(desk.folder)).split()
        closed.chmod(0)
        prefix = ORDINARY if os.geteuid() == 0 else ()
        done = subprocess.run(
            [*prefix, *desk.command(*words)], cwd=desk.folder, capture_output=True, text=True, check=False
        )
        closed.chmod(mode)
        said = done.stdout + done.stderr
        assert "Traceback" not in said, (command, said)
        if done.returncode != 0:
            assert done.returncode in (1, 2), (command, said)
            assert "ermission denied" in said or "is not readable" in said, (command, said)
    after = {p: p.read_bytes() for p in cell.rglob("*") if p.is_file()}
    assert before.items() <= after.items()
