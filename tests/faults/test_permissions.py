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


@pytest.fixture
def held_to_modes() -> tuple[str, ...]:
    """What goes before a command that is to be held to permissions."""
    if os.geteuid() != 0:
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("needs setpriv, to be held to permissions as root")
    return ORDINARY


@pytest.mark.parametrize("place", PLACES)
def test_one_line_that_names_the_file(
    finished: Desk, tmp_path: Path, place: str, held_to_modes: tuple[str, ...]
) -> None:
    """No traceback, nothing lost: with the permission back, the suite is as finished as it was."""
    desk = Desk(shutil.copytree(finished.folder, tmp_path / "desk"))
    cell = desk.folder / "results" / "tiny" / "tmaze-passive" / "ff" / "seed_0"
    closed = cell / place
    assert closed.exists()
    before = {p: p.read_bytes() for p in cell.rglob("*") if p.is_file()}
    mode = closed.stat().st_mode
    for command in COMMANDS:
        words = command.format(cell=cell.relative_to(desk.folder)).split()
        closed.chmod(0)
        done = subprocess.run(
            [*held_to_modes, *desk.command(*words)],
            cwd=desk.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        closed.chmod(mode)
        said = done.stdout + done.stderr
        assert "Traceback" not in said, (command, said)
        if done.returncode != 0:
            assert done.returncode in (1, 2), (command, said)
            assert "ermission denied" in said or "is not readable" in said, (command, said)
    after = {p: p.read_bytes() for p in cell.rglob("*") if p.is_file()}
    assert before.items() <= after.items()


@pytest.mark.parametrize("name", ["COMPLETE", "policy.safetensors", ""])
def test_a_checkpoint_that_cannot_be_read_is_not_taken_for_damaged(
    finished: Desk, desk: Desk, held_to_modes: tuple[str, ...], name: str
) -> None:
    """A file server's bad moment must not cost what was trained: older checkpoints stay unused, none is removed."""
    desk.write(epochs=4)
    cell = desk.cell(desk.folder / "results")
    assert desk.type("train", str(cell)).returncode == 0
    desk.write()  # more epochs: it has to go on
    desk.cell(desk.folder / "results")
    checkpoints = sorted((cell / "state/run/ckpts/training_states").iterdir())
    assert len(checkpoints) > 1
    closed = checkpoints[-1] / name
    mode = closed.stat().st_mode
    closed.chmod(0)
    command = [*held_to_modes, *desk.command("train", str(cell))]
    done = subprocess.run(command, cwd=desk.folder, capture_output=True, text=True, check=False)
    closed.chmod(mode)
    assert done.returncode == 1
    assert "Permission denied; mend that, or delete" in done.stdout, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert desk.type("train", str(cell)).returncode == 0
    whole = finished.folder / "results" / "tiny" / "tmaze-passive" / "ff" / "seed_0"
    assert (cell / "policy.safetensors").read_bytes() == (whole / "policy.safetensors").read_bytes()
    kept = [int(p.name[6:14]) for p in (cell / "state/run/ckpts/training_states").iterdir()]
    assert max(kept) == 6
