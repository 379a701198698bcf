"""One learner and any number of collectors, as separate processes that share only folders.

Collectors write trajectories, each under names of its own, and read the newest policy before every
epoch. The learner takes in whatever is new before every epoch, publishes its policy after it, and is
the only one that deletes trajectories and writes checkpoints. Any of them may come and go: files appear
whole or not at all. How often is a matter of the clock, so these runs are not exactly repeatable.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from typing import TYPE_CHECKING

from amago.seeding import SeedTree

if TYPE_CHECKING:
    from amago.experiment import Experiment

#: Seconds between two looks for the first data.
POLL_SECONDS = 0.5


def prepare(experiment: Experiment) -> None:
    """Set up one side, before anything is built."""
    x = experiment
    if x.mode == "learn":
        x.dataset.share_as("learn")
        return
    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    # Collectors with one seed must not all collect the same.
    x.seeds = x.own_seeds = SeedTree(x.seeds.integer("collector", name))
    x.log_dir = x.run_folder / "collectors" / name
    x.dataset.share_as("collect", name)


def wait_for_data(experiment: Experiment) -> None:
    """Let a learner wait until collectors have brought enough to learn from."""
    said = not (experiment.verbose and experiment.processes.is_main)
    while not experiment.dataset.ready_for_training:
        if not said:
            said = True
            print(f"{experiment.run_name}: waiting for collectors to bring data to learn from", flush=True)
        experiment._check_stop_while_acting()
        time.sleep(POLL_SECONDS)
        experiment.env_steps += experiment.dataset.on_epoch(experiment.epoch) or 0
