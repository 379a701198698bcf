"""A tiny suite that trains for real, a few seconds a cell, in a folder of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

TINY = """
environments:
  - {{ id: tmaze-passive, params: {{ corridor: 3 }} }}
architectures: {architectures}
seeds: {seeds}
budget: {{ epochs: {epochs} }}
evaluation: {{ episodes: {episodes} }}
checkpoint: {{ every_epochs: 3 }}
gin: |
  Experiment.train_batches_per_epoch = {batches}
  {comment}
"""
DEFAULTS = {
    "architectures": "[ff]",
    "seeds": "[0]",
    "epochs": 4,
    "episodes": 20,
    "batches": 3,
    "comment": "# nothing",
}


@dataclass
class Desk:
    """A folder in which a person types commands."""

    folder: Path

    def write(self, name: str = "tiny", **settings: object) -> None:
        """Write (or change) a suite."""
        text = textwrap.dedent(TINY.format(**{**DEFAULTS, **settings}))
        (self.folder / f"{name}.yaml").write_text(text)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "amago_suite", *arguments]

    def type(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`amago-suite ...`, to its end."""
        return subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """`amago-suite ...`, in the background."""
        with (self.folder / "output.txt").open("wb") as output:
            return subprocess.Popen(self.command(*arguments), cwd=self.folder, stdout=output, stderr=output)

    def cell(self, architecture: str = "ff", seed: int = 0, suite: str = "tiny") -> Path:
        """A cell's folder."""
        return self.folder / "results" / suite / "tmaze-passive" / architecture / f"seed_{seed}"


@pytest.fixture(scope="session")
def make_desk(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Desk]:
    """Desks that several tests share."""
    return lambda name: Desk(tmp_path_factory.mktemp(name))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """An empty desk."""
    return Desk(tmp_path)
