"""Environment steps per CPU-second with random actions, resets included.

    python benchmarks/environments.py [ID ...] [--json FILE]

Each environment runs for ``--seconds`` of CPU time in this process: as one instance, and, where there is
a vectorised form, as 16 and 256 instances that one call moves (every instance's step counts as one).
Actions are drawn beforehand. The single form is the class of its own, not one vectorised instance.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

import envs_suite
from amago.envs.amago_env import AMAGOEnv
from amago.errors import ConfigurationError

WIDTHS = (16, 256)
BLOCK = 512


def _single_forms() -> dict[str, Callable[[], gym.Env]]:
    """Single forms of the environments that are written here, with the registry's defaults."""
    from envs_suite.alchemy import SymbolicAlchemy
    from envs_suite.frozen_lake import MetaFrozenLake
    from envs_suite.half_cheetah import HalfCheetahV4_MetaVelocity
    from envs_suite.key_door import RoomKeyDoor
    from envs_suite.maze_runner import MazeRunnerGymEnv
    from envs_suite.tmaze import TMazeAltActive, TMazeAltPassive

    return {
        "tmaze-passive": lambda: TMazeAltPassive(50, penalty=-1 / 50),
        "tmaze-active": lambda: TMazeAltActive(50, penalty=-1 / 50),
        "meta-frozen-lake": lambda: MetaFrozenLake(5),
        "maze-runner": lambda: MazeRunnerGymEnv(15, 1, 3, 400),
        "dark-key-to-door": lambda: RoomKeyDoor(),
        "symbolic-alchemy": lambda: SymbolicAlchemy(),
        "half-cheetah-velocity": lambda: HalfCheetahV4_MetaVelocity(),
    }


def _rate(step: Callable[[int], int], seconds: float) -> float:
    """Steps per CPU-second of ``step`` (called with 0, 1, 2, ...; returns how many steps it made)."""
    for i in range(20):
        step(i)
    steps, i, start = 0, 0, time.process_time()
    while (spent := time.process_time() - start) < seconds:
        for _ in range(20):
            steps += step(i)
            i += 1
    return steps / spent


def single_rate(env: gym.Env, seconds: float) -> float:
    """Steps per CPU-second of one instance."""
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(BLOCK)]
    env.reset(seed=0)

    def step(i: int) -> int:
        _, _, terminated, truncated, _ = env.step(actions[i % BLOCK])
        if terminated or truncated:
            env.reset()
        return 1

    return _rate(step, seconds)


def batched_rate(env: AMAGOEnv, seconds: float) -> float:
    """Steps per CPU-second, over all instances, through `AMAGOEnv`."""
    n = env.batched_envs
    rng = np.random.default_rng(0)
    actions: np.ndarray
    if env.discrete:
        actions = rng.integers(env.action_size, size=(BLOCK, n, 1))
    else:
        actions = rng.uniform(-1, 1, size=(BLOCK, n, env.action_size))
    env.reset(seed=list(range(n)))

    def step(i: int) -> int:
        _, _, terminated, truncated, _ = env.step(actions[i % BLOCK])
        over = terminated | truncated
        if over.any():
            env.reset(options={"reset_mask": over})
        return n

    return _rate(step, seconds)


def measure(spec: envs_suite.EnvSpec, seconds: float) -> dict[str, float]:
    """Form -> steps per CPU-second."""
    singles = _single_forms()
    env = singles[spec.id]() if spec.id in singles else spec.make().env
    rates = {"single": single_rate(env, seconds)}
    for width in WIDTHS if spec.vectorised else ():
        rates[str(width)] = batched_rate(spec.make(num_envs=width), seconds)
    return rates


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("ids", nargs="*", help="environment ids (default: all)")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    options: Any = parser.parse_args(arguments)
    rows: dict[str, dict[str, float]] = {}
    print(
        f"{'environment':44} {'single':>10} " + " ".join(f"{f'x {w}':>12}" for w in WIDTHS) + "  steps/CPU-s"
    )
    for env_id in options.ids or envs_suite.ids():
        try:
            rows[env_id] = measure(envs_suite.get(env_id), options.seconds)
        except ConfigurationError as error:
            print(f"{env_id:44} left out: {error}")
            continue
        cells = [f"{rows[env_id].get(str(w), float('nan')):12,.0f}" for w in WIDTHS]
        print(
            f"{env_id:44} {rows[env_id]['single']:10,.0f} " + " ".join(cells).replace("nan", "  -"),
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
