"""What jobs run in: this machine itself, or a container of their own.

`settings` is what a person chose, `job` what is to be run. ``host`` runs a job in this process; the
others share `boxed`, which plans a box to its last detail and sees it to its end, and differ only in
who starts it (`sdk` for Docker and Podman, `apptainer`). `box` and `init` are what a job meets inside.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from amago_suite.engines.job import Job
from amago_suite.engines.settings import Settings


class Engine(Protocol):
    """Runs jobs."""

    name: str

    def check(self) -> None:
        """Find out whether jobs can be run at all.

        Raises:
            ConfigurationError: the engine is not there or may not be used; one line with the way out.
        """

    def run(self, job: Job, settings: Settings) -> int:
        """Run a job to its end, its output to this process's own.

        Returns:
            Exit code: 0 done, 1 failed for good, 75 interrupted and resumable.

        Raises:
            AmagoError: nothing was started, and why.
        """

    def clean(self, suite_folder: Path) -> int:
        """Remove what killed launchers left of a suite's jobs. Returns how many there were."""


def engine(name: str) -> Engine:
    """An engine by its name, one of `settings.ENGINES`."""
    # Imported here, because neither the host nor the inside of a box needs the package docker.
    if name == "docker":
        from amago_suite.engines.sdk import Docker

        return Docker()
    if name == "podman":
        from amago_suite.engines.sdk import Podman

        return Podman()
    if name == "apptainer":
        from amago_suite.engines.apptainer import Apptainer

        return Apptainer()
    from amago_suite.engines.host import Host

    return Host()
