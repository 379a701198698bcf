"""What is trained, with which settings, and when it counts as solved.

Values are those of one small configuration (`benchmarks.learning.training.SMALL`) where a case does
not say otherwise. The references are runs of AMAGO v3.3 at the same settings.
"""

from __future__ import annotations

from amago.nets.tstep_encoders import CNNTstepEncoder
from benchmarks.learning.training import Case, Reference
from benchmarks.learning.worlds import pixel_view, two_scales
from envs_suite.maze_hindsight import MazeGoalRelabeler
from envs_suite.tmaze_exploration import TMazeExploration

_MEMORY = ("rnn", "transformer")


def _discounts(*values: float, reward: float) -> dict[str, object]:
    """The last discount acts; the others only learn."""
    settings: dict[str, object] = {}
    for agent in ("Agent", "MultiTaskAgent"):
        settings |= {f"{agent}.gamma": values[-1], f"{agent}.reward_multiplier": reward}
    rest = list(values[:-1])
    return settings | {"Multigammas.discrete": rest, "Multigammas.continuous": rest}


def _tmaze(corridor: int, updates: int, epochs: int, **more: object) -> Case:
    return Case(
        f"T-Maze, corridor {corridor}",
        "tmaze-passive",
        params={"corridor": corridor},
        steps=2 * (corridor + 1),
        updates=updates,
        epochs=epochs,
        metric="success",
        goal=0.95,
        architectures=_MEMORY,
        exploration=TMazeExploration,
        gin={
            **_discounts(0.9, 0.97, 0.9999, reward=100.0),
            "TMazeExploration.steps_anneal": 100 * (corridor + 1) - 100,
        },
        **more,  # type: ignore[arg-type]
    )


def _lake(size: int) -> Case:
    return Case(
        f"Frozen lake {size} x {size}, 3 attempts",
        "meta-frozen-lake",
        params={"size": size, "attempts": 3},
        steps=3 * size * size,
        updates=60,
        epochs=40,
        metric="success",
        goal=None,
        rate=1e-3,
        architectures=("ff", "rnn"),
        parts=("success_attempt_0", "success_attempt_1", "success_attempt_2"),
        gin={**_discounts(0.8, 0.9, 0.95, reward=10.0), "EpsilonGreedy.steps_anneal": 600},
    )


def _two_scales(agent: str) -> Case:
    return Case(
        f"Two T-Mazes, rewards 1 : 100, {agent}",
        lambda split: two_scales(6),
        horizon=7,
        steps=28,
        updates=60,
        epochs=110,
        metric="success",
        goal=0.95,
        rate=1e-3,
        agent=agent,
        exploration=TMazeExploration,
        parts=("success_small", "success_large"),
        gin={
            **_discounts(0.9, 0.97, 0.99, reward=1.0),
            "TMazeExploration.horizon": 6,
            "TMazeExploration.steps_anneal": 600,
        },
    )


def _maze(relabel: bool) -> Case:
    return Case(
        f"Maze 9 x 9, 2 goals, {'hindsight' if relabel else 'no hindsight'}",
        "maze-runner",
        params={"size": 9, "min_goals": 2, "max_goals": 2, "time_limit": 64},
        steps=64,
        updates=60,
        epochs=20,
        metric="goal_fraction",
        goal=None,
        rate=1e-3,
        relabeler=(lambda: MazeGoalRelabeler(9)) if relabel else None,
        gin=_discounts(0.8, 0.9, 0.95, reward=10.0),
    )


CASES: dict[str, Case] = {
    "cartpole": Case(
        "CartPole",
        "gym-cartpole",
        steps=75,
        updates=50,
        epochs=40,
        metric="return",
        goal=450.0,
        milestone=150.0,
        rate=1e-3,
        context=32,
        save_len=32,
        replay=600,
        gin={
            **_discounts(0.9, 0.97, 0.99, reward=1.0),
            "EpsilonGreedy.steps_anneal": 300,
            "Agent.n_step": 8,
            "Agent.tau": 0.05,
        },
    ),
    "pendulum": Case(
        "Pendulum",
        "gym-pendulum",
        steps=100,
        updates=120,
        epochs=30,
        metric="return",
        goal=-250.0,
        rate=1e-3,
        context=32,
        gin={
            **_discounts(0.8, 0.9, 0.95, reward=1.0),
            "EpsilonGreedy.steps_anneal": 600,
            "Agent.n_step": 3,
            "Agent.tau": 0.05,
        },
    ),
    "tmaze-15": _tmaze(
        15, 77, 60, reference={"rnn": Reference(7700, 1160, 57), "transformer": Reference(5600, 840, 49)}
    ),
    "tmaze-50": _tmaze(50, 77, 60),
    "lake-3": _lake(3),
    "lake-4": _lake(4),
    "key-door-3": Case(
        "Dark key-to-door 3 x 3",
        "dark-key-to-door",
        params={"size": 3, "attempt_steps": 15, "total_steps": 45},
        steps=45,
        updates=60,
        epochs=100,
        metric="return",
        goal=None,
        rate=1e-3,
        architectures=("ff", "rnn"),
        gin=_discounts(0.8, 0.9, 0.95, reward=10.0),
    ),
    "minigrid-pixels": Case(
        "MiniGrid Empty 6 x 6, random start, pixels",
        lambda split: pixel_view("MiniGrid-Empty-Random-6x6-v0"),
        horizon=144,
        steps=36,
        updates=30,
        epochs=40,
        metric="success",
        goal=0.95,
        rate=1e-3,
        batch_size=8,
        context=24,
        tstep=CNNTstepEncoder,
        gin={
            **_discounts(0.8, 0.9, 0.95, reward=10.0),
            "CNNTstepEncoder.img_features": 64,
            "CNNTstepEncoder.d_output": 64,
        },
    ),
    "two-scales-multitask": _two_scales("multitask"),
    "two-scales-agent": _two_scales("agent"),
    "maze-hindsight": _maze(True),
    "maze-plain": _maze(False),
    "popgym-repeat-first-easy": Case(
        "RepeatFirst, easy (previous action in sight)",
        "popgym-repeat-first-easy",
        steps=52,
        updates=45,
        epochs=40,
        metric="return",
        goal=0.95,
        rate=1e-3,
        gin=_discounts(0.9, 0.97, 0.99, reward=10.0),
        reference={"rnn": Reference(12000, 650, 70)},
    ),
    "popgym-repeat-previous-easy": Case(
        "RepeatPrevious, easy",
        "popgym-repeat-previous-easy",
        steps=52,
        updates=45,
        epochs=40,
        metric="return",
        goal=0.95,
        rate=1e-3,
        gin=_discounts(0.5, 0.8, 0.9, reward=10.0),
    ),
}
