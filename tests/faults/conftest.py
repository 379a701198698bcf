"""Real small disks, read-only folders, and a suite that trains for real."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SUITE = """
environments:
  - { id: tmaze-passive, params: { corridor: 3 } }
architectures: [ff]
seeds: [0]
budget: { epochs: %d }
evaluation: { episodes: 10 }
checkpoint: { every_epochs: 2 }
gin: |
  Experiment.train_batches_per_epoch = 2
"""


@dataclass
class SmallDisk:
    """A file system of a few hundred kilobytes."""

    folder: Path

    def fill(self, leave: int = 0) -> None:
        """Leave ``leave`` bytes free, more or less (whole pages)."""
        block = bytes(4096)
        with (self.folder / "filler").open("ab") as file:
            while self.free() > leave:
                try:
                    file.write(block)
                    file.flush()
                except OSError:
                    return

    def free(self) -> int:
        import os

        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def empty(self) -> None:
        (self.folder / "filler").unlink()

    def read_only(self, on: bool) -> None:
        _mount("-o", f"remount,{'ro' if on else 'rw'}", str(self.folder))


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")


@pytest.fixture
def make_disk(tmp_path: Path) -> Iterator[Callable[..., SmallDisk]]:
    """Mounts tmpfs of a given size; skips where that is not allowed."""
    mounted: list[Path] = []

    def make(kilobytes: int) -> SmallDisk:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        _mount("-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder))
        mounted.append(folder)
        return SmallDisk(folder)

    yield make
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)


@dataclass
class Desk:
    """A folder with a suite in which commands are typed; results may lie elsewhere."""

    folder: Path

    def write(self, epochs: int = 6, more: str = "") -> None:
        (self.folder / "tiny.yaml").write_text(textwrap.dedent(SUITE % epochs) + textwrap.indent(more, "  "))

    def cell(self, results: Path) -> Path:
        """Write the only cell into ``results``, as a run would, and give its folder."""
        from amago_suite.folders.prepare import prepare
        from amago_suite.grid import plan

        grid = plan(str(self.folder / "tiny.yaml"), results=results)
        prepare(grid)
        return grid.cells[0].folder

    def type(self, *arguments: str, **more: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # type: ignore[call-overload, no-any-return]
            self.command(*arguments),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
            **more,
        )

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "amago_suite", *arguments]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """An empty desk."""
    folder = tmp_path / "desk"
    folder.mkdir()
    return Desk(folder)
