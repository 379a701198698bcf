"""One of several processes of a test: ``python one_process.py ROLE FOLDER [EPOCHS]``.

Roles: ``gradient`` and ``train`` for processes with one averaged gradient, ``learn`` and ``collect``
for a learner and its collectors.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

import torch

from amago.cli_utils import switch_async_mode
from amago.errors import TrainingInterrupted
from amago.loading import Batch
from amago.parallel import join
from amago.updates import Updater
from tests.unit.agent import small_agents
from tests.unit.core.small_run import configure, experiment

#: Real transitions of four sequences: the halves have different numbers of them.
LENGTHS = (6, 2, 5, 1)


def batches() -> list[Batch]:
    """Three batches of four sequences."""
    return [small_agents.make_batch(lengths=LENGTHS, seed=s) for s in range(3)]


def rows(batch: Batch, first: int, end: int) -> Batch:
    """Some of a batch's sequences."""
    names = ("rl2s", "rews", "dones", "actions", "time_idxs", "mask")
    return Batch(
        {k: v[first:end] for k, v in batch.obs.items()}, *(getattr(batch, n)[first:end] for n in names)
    )


def updater(batches_per_update: int = 1, precision: str = "no", compile_mode: str | None = None, **settings):
    """A small agent without random draws in its loss, and what trains it."""
    torch.manual_seed(0)
    agent = small_agents.build(num_critics=1, num_critics_td=1, **settings)
    optimizer = torch.optim.AdamW(agent.trainable_params, lr=1e-3)
    device = torch.device("cpu")
    return agent, Updater(agent, optimizer, 0, 1e9, batches_per_update, precision, compile_mode, device)


def after_updates(parts: list[list[Batch]], **settings) -> dict[str, torch.Tensor]:
    """Gradients of the first update, and weights and statistics after one update for each list."""
    agent, update = updater(batches_per_update=len(parts[0]), **settings)
    found: dict[str, torch.Tensor] = {}
    update.optimizer.register_step_pre_hook(
        lambda *_: (
            found.update(
                {f"grad {n}": p.grad.clone() for n, p in agent.named_parameters() if p.grad is not None}
            )
            if not found
            else None
        )
    )
    count = 0
    for pieces in parts:
        for piece in pieces:
            update.step(piece, False, count)
            count += 1
    return found | {k: v.clone() for k, v in agent.state_dict().items()}


def main() -> None:
    role, folder = sys.argv[1], Path(sys.argv[2])
    epochs = int(sys.argv[3]) if len(sys.argv) > 3 else 10**6
    torch.set_num_threads(1)
    if role == "gradient":
        processes = join()
        first = 2 * processes.rank
        torch.save(
            after_updates([[rows(b, first, first + 2)] for b in batches()]), folder / f"{processes.rank}.pt"
        )
        processes.wait()
        return
    configure()
    run = experiment(folder, epochs=epochs, start=False, ckpt_interval=1)
    if role != "train":
        switch_async_mode(run, role)
    run.start()
    try:
        run.learn()
    except TrainingInterrupted:
        sys.exit(75)
    if role == "train":
        torch.save(run.policy.state_dict(), folder / f"{run.processes.rank}.pt")
        run.processes.wait()


if __name__ == "__main__":
    main()
