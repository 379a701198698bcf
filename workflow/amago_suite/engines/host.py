"""No box: the job runs in this very process, with the machine's own packages."""

from __future__ import annotations

import sys

from amago_suite.cell import read_cell
from amago_suite.engines.job import Job
from amago_suite.engines.settings import HOST, Settings


class Host:
    """The machine itself. Inside of a box it is the engine too: one job, one process."""

    name = HOST

    def check(self) -> None:
        """Nothing can be missing."""

    def run(self, job: Job, settings: Settings) -> int:
        """See `engines.Engine.run`; limits are not kept, and the network is there."""
        from amago_suite.families import hand_over

        # Where the family has an environment of its own, this process goes on as the same command there.
        hand_over(read_cell(job.folder).family, sys.argv[1:])
        if job.stage == "train":
            from amago_suite.train import train

            return train(job.folder, parent=job.parent, log=job.log)
        from amago_suite.evaluate import evaluate

        return evaluate(job.folder, parent=job.parent, log=job.log)

    def clean(self, suite_folder: object) -> int:
        """Jobs of the host die with their launchers."""
        return 0
