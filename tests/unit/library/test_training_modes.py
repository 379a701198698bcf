"""One policy trained by several processes, in halves of precision, in pieces of a batch, or compiled."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from amago.cli_utils import switch_async_mode
from amago.errors import TrainingInterrupted
from amago.storage import Shard
from tests.unit.core.small_run import configure, experiment
from tests.unit.library.one_process import after_updates, batches, rows, updater

SCRIPT = Path(__file__).with_name("one_process.py")


class Started:
    """Processes of a test; none outlives it."""

    def __init__(self) -> None:
        self.all: list[subprocess.Popen] = []

    def __call__(self, *arguments: Any, **environment: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), *map(str, arguments)],
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.all.append(process)
        return process


@pytest.fixture
def start() -> Iterator[Started]:
    started = Started()
    yield started
    for process in started.all:
        if process.poll() is None:
            process.kill()
        process.communicate()


def until(holds: Callable[[], bool], *alive: subprocess.Popen, seconds: float = 60) -> None:
    """Wait; a process that ends meanwhile fails the test with what it said."""
    end = time.monotonic() + seconds
    while not holds():
        for process in alive:
            assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


# -- a learner and its collectors ------------------------------------------------------------------------


@pytest.mark.slow
def test_collectors_join_and_leave_while_a_learner_learns(tmp_path: Path, start: Started) -> None:
    """A collector before the learner, one killed, one that comes later; the learner is stopped and goes on."""
    fifo, states = tmp_path / "replay/buffer/fifo", tmp_path / "run/ckpts/training_states"

    def collected_by(process: subprocess.Popen) -> set[str]:
        return {p.name for p in fifo.glob(f"*-{process.pid}-*.safetensors")}

    def learned_from() -> set[str]:
        newest = sorted(states.glob("*/COMPLETE"))[-1:]
        found = [json.loads((p.parent / "state.json").read_text())["dataset"]["fifo"] for p in newest]
        return {entry["file"] for entry in found[0]} if found else set()

    first = start("collect", tmp_path)
    until(lambda: bool(collected_by(first)), first)
    assert not states.exists(), "a collector writes no checkpoints"
    learner = start("learn", tmp_path)
    until(lambda: any(str(first.pid) in name for name in learned_from()), first, learner)
    first.kill()
    second = start("collect", tmp_path)
    until(lambda: any(f"-{second.pid}-" in name for name in learned_from()), second, learner)
    second.terminate()
    learner.terminate()
    assert second.wait(30) == 75 and learner.wait(30) == 75
    for path in fifo.glob("*.safetensors"):
        Shard(path)  # whole, whatever was killed
    newest = max(states.iterdir())
    state = json.loads((newest / "state.json").read_text())
    assert state["epoch"] > 1 and state["gradient_steps"] > 0
    assert state["env_steps"] > 0, "the learner counts what collectors did"
    assert len(list(fifo.glob("*.safetensors"))) < state["epoch"] + 60, "old trajectories are deleted"

    again = start("learn", tmp_path, state["epoch"] + 2)
    assert again.wait(60) == 0, again.communicate()[1]
    progress = [
        int(line.split(",")[0]) for line in (tmp_path / "run/progress.csv").read_text().splitlines()[1:]
    ]
    assert progress == list(range(state["epoch"] + 2)), "the learner's own rows, each once"


def test_a_collector_acts_with_the_learners_newest_policy(tmp_path: Path) -> None:
    """It reads the policy before every epoch, and leaves the learner's files alone."""
    configure()
    learner = switch_async_mode(experiment(tmp_path, start=False), "learn")
    learner.start()
    with torch.no_grad():
        next(iter(learner.policy.parameters())).add_(1.0)
    learner.write_latest_policy()
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}

    collectors = [switch_async_mode(experiment(tmp_path, start=False, epochs=1), "collect") for _ in range(2)]
    for collector in collectors:
        collector.start()
        collector.learn()
        for name, value in learner.policy.state_dict().items():
            assert torch.equal(value, collector.policy.state_dict()[name]), name
    assert {p: p.read_bytes() for p in before} == before
    one, two = (sorted(c.dataset.fifo_folder.glob("*.safetensors"))[i] for i, c in enumerate(collectors))
    assert one.read_bytes() != two.read_bytes(), "one seed, but each collector its own episodes"

    assert learner.dataset.on_epoch(0) == 2 * 8 * 4, "two collectors, 8 steps, 4 actors"
    assert learner.dataset.on_epoch(0) == 0
    assert len(learner.dataset) == len(Shard(one)) + len(Shard(two))


def test_a_learner_without_data_waits_and_can_be_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It burns no epochs and says, once, what it waits for; SIGTERM ends the waiting."""
    configure()
    learner = switch_async_mode(experiment(tmp_path, start=False, verbose=True), "learn")
    learner.start()
    looks: list[int] = []

    def look(epoch: int) -> int:
        looks.append(epoch)
        if len(looks) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return 0

    learner.dataset.on_epoch = look
    with pytest.raises(TrainingInterrupted):
        learner.learn()
    assert learner.epoch == 0
    assert capsys.readouterr().out.count("waiting for collectors") == 1


# -- one averaged gradient -------------------------------------------------------------------------------


def _two(start: Started, *arguments: Any) -> None:
    """Two processes as ``torchrun --nproc_per_node 2`` starts them, run to their end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "ACCELERATE_USE_CPU": "true",
    }
    both = [start(*arguments, RANK=str(r), LOCAL_RANK=str(r), **shared) for r in range(2)]
    for process in both:
        said = process.communicate(timeout=100)[1]
        assert process.returncode == 0, said


def test_the_averaged_gradient_is_the_whole_batchs(tmp_path: Path, start: Started) -> None:
    """Two processes with half a batch each, with different numbers of real transitions: gradients, weights
    and running statistics after three updates are those of one process with the whole batch."""
    _two(start, "gradient", tmp_path)
    whole = after_updates([[b] for b in batches()])
    ranks = [torch.load(tmp_path / f"{r}.pt", weights_only=True) for r in range(2)]
    assert sum(name.startswith("grad ") for name in whole) > 20
    for name, value in whole.items():
        assert torch.equal(ranks[0][name], ranks[1][name]), f"{name} differs between the processes"
        torch.testing.assert_close(ranks[0][name], value, rtol=1e-4, atol=2e-6, msg=name)


@pytest.mark.slow
def test_two_processes_train_together_and_resume_exactly(tmp_path: Path, start: Started) -> None:
    """Both collect into one buffer and hold the same weights; stopped at epoch 2 and continued, the same bits."""
    _two(start, "train", tmp_path / "a", 4)
    _two(start, "train", tmp_path / "b", 2)
    _two(start, "train", tmp_path / "b", 4)
    weights = [torch.load(tmp_path / f, weights_only=True) for f in ("a/0.pt", "a/1.pt", "b/0.pt", "b/1.pt")]
    for name, value in weights[0].items():
        assert all(torch.equal(value, other[name]) for other in weights[1:]), name
    parts = {p.name for p in (tmp_path / "a/replay/buffer/fifo").glob("*.safetensors")}
    assert {"00000003-0000.safetensors", "00000003-0001.safetensors"} <= parts
    progress = [
        line.split(",")[:2] for line in (tmp_path / "a/run/progress.csv").read_text().splitlines()[1:]
    ]
    assert progress == [[str(e), str(2 * 4 * 8 * (e + 1))] for e in range(4)], "one file; steps of both"


def test_one_process_does_not_import_accelerate(tmp_path: Path) -> None:
    """The usual case does not pay for the unusual one."""
    code = "import sys, amago.experiment, amago.updates; print('accelerate' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


# -- pieces of a batch, half precision, compilation --------------------------------------------------------


def test_accumulated_gradients_are_the_big_batchs() -> None:
    """`batches_per_update=2`, halves of equal numbers of real transitions, statistics of values off."""
    big = batches()
    for batch in big:
        assert batch.mask is not None
        batch.mask[:] = True
    whole = after_updates([[b] for b in big], popart=False)
    pieces = after_updates([[rows(b, 0, 2), rows(b, 2, 4)] for b in big], popart=False)
    for name, value in whole.items():
        if "in_norm" not in name:  # it counts what it sees, which is two batches here
            torch.testing.assert_close(pieces[name], value, rtol=1e-4, atol=2e-6, msg=name)


def test_bf16_computes_in_half_precision_and_keeps_weights_whole() -> None:
    """The loss is close to that of float32; weights, statistics and the optimiser stay float32."""
    batch = batches()[0]
    losses, seen = {}, []
    for precision in ("no", "bf16"):
        agent, update = updater(precision=precision)
        layer = next(m for m in agent.modules() if isinstance(m, torch.nn.Linear))
        layer.register_forward_hook(lambda module, inputs, out: seen.append(out.dtype))
        losses[precision] = float(update.step(batch, True, 0)["loss"])
        floats = [v for v in agent.state_dict().values() if v.is_floating_point()]
        assert {v.dtype for v in floats} == {torch.float32} and all(v.isfinite().all() for v in floats)
    assert torch.bfloat16 in seen and torch.float32 in seen
    assert losses["bf16"] == pytest.approx(losses["no"], rel=0.03)
    assert losses["bf16"] != losses["no"]


def test_a_run_in_bf16_learns(tmp_path: Path) -> None:
    """`Experiment(mixed_precision="bf16")`, from collecting to the last checkpoint."""
    configure()
    run = experiment(tmp_path, epochs=2, mixed_precision="bf16")
    run.learn()
    assert run.gradient_steps == 8
    assert all(v.isfinite().all() for v in run.policy.state_dict().values() if v.is_floating_point())


@pytest.mark.slow
def test_a_compiled_update_gives_the_same_numbers() -> None:
    """`Experiment(compile="default")`: weights after an update, with and without the compiler."""
    batch = batches()[0]
    found = {}
    for mode in (None, "default"):
        agent, update = updater(compile_mode=mode)
        update.step(batch, False, 0)
        found[mode] = agent.state_dict()
    for name, value in found[None].items():
        torch.testing.assert_close(found["default"][name], value, rtol=1e-3, atol=1e-5, msg=name)
