"""Environment steps per CPU-second with random actions, resets included.

    python -m benchmarks.environments [ID ...] [--json FILE]

One instance and, where there is a vectorised form, 16 and 256 instances that one call moves (every
instance's step counts as one). Forms take turns, a second of CPU time each and five turns; the figure is the
median, and so is the ratio. Actions are drawn beforehand; an episode's end resets its instance, which goes on
with its own generator. What is stepped is the environment itself: the class of the single form where it has
one of its own, and the vectorised class; ``--wrapped`` steps both through `AMAGOEnv`, as training does.
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
TURNS = 5


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
    steps, i, start = 0, 0, time.process_time()
    while (spent := time.process_time() - start) < seconds:
        for _ in range(20):
            steps += step(i)
            i += 1
    return steps / spent


def single_step(env: gym.Env) -> Callable[[int], int]:
    """Makes one step of one instance."""
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(BLOCK)]
    env.reset(seed=0)

    def step(i: int) -> int:
        _, _, terminated, truncated, _ = env.step(actions[i % BLOCK])
        if terminated or truncated:
            env.reset()
        return 1

    return step


def batched_step(env: Any, actions: np.ndarray) -> Callable[[int], int]:
    """Makes one step of all instances of a vectorised environment or an `AMAGOEnv`; actions (BLOCK, N, ...)."""
    n = actions.shape[1]
    env.reset(seed=list(range(n)))

    def step(i: int) -> int:
        _, _, terminated, truncated, _ = env.step(actions[i % BLOCK])
        over = terminated | truncated
        if over.any():
            env.reset(options={"reset_mask": over} if n > 1 else None)
        return n

    return step


def _random_actions(env: AMAGOEnv) -> np.ndarray:
    """(BLOCK, N, 1) integers or (BLOCK, N, A) floats, as an `AMAGOEnv` takes them."""
    rng = np.random.default_rng(0)
    if env.discrete:
        return rng.integers(env.action_size, size=(BLOCK, env.batched_envs, 1))
    return rng.uniform(-1, 1, size=(BLOCK, env.batched_envs, env.action_size))


def _steppers(spec: envs_suite.EnvSpec, wrapped: bool) -> dict[str, Callable[[int], int]]:
    singles = _single_forms()
    single = singles[spec.id]() if spec.id in singles else spec.make().env
    if wrapped:
        one = AMAGOEnv(single)
        forms = {"single": batched_step(one, _random_actions(one))}
    else:
        forms = {"single": single_step(single)}
    for width in WIDTHS if spec.vectorised else ():
        many = spec.make(num_envs=width)
        actions = _random_actions(many)
        if wrapped:
            forms[str(width)] = batched_step(many, actions)
        else:
            forms[str(width)] = batched_step(many.env, actions[..., 0] if many.discrete else actions)
    return forms


def measure(
    spec: envs_suite.EnvSpec, seconds: float, turns: int = TURNS, wrapped: bool = False
) -> dict[str, float]:
    """Form -> median steps per CPU-second; and "ratio", of the widest form to the single one."""
    forms = _steppers(spec, wrapped)
    for step in forms.values():
        _rate(step, seconds / 4)  # caches, tables and first blocks of draws
    rates: dict[str, list[float]] = {form: [] for form in forms}
    for _ in range(turns):
        for form, step in forms.items():
            rates[form].append(_rate(step, seconds))
    found = {form: float(np.median(values)) for form, values in rates.items()}
    if spec.vectorised:
        widest = rates[str(WIDTHS[-1])]
        found["ratio"] = float(np.median(np.divide(widest, rates["single"])))
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("ids", nargs="*", help="environment ids (default: all)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of CPU time, a turn")
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--wrapped", action="store_true", help="step through AMAGOEnv")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    options: Any = parser.parse_args(arguments)
    rows: dict[str, dict[str, float]] = {}
    widths = " ".join(f"{f'x {w}':>12}" for w in WIDTHS)
    print(f"{'environment':44} {'single':>10} {widths}  {f'x {WIDTHS[-1]} / single':>15}   steps/CPU-s")
    for env_id in options.ids or envs_suite.ids():
        try:
            rows[env_id] = row = measure(
                envs_suite.get(env_id), options.seconds, options.turns, options.wrapped
            )
        except ConfigurationError as error:
            print(f"{env_id:44} left out: {error}")
            continue
        cells = " ".join(f"{row[str(w)]:12,.0f}" if str(w) in row else f"{'-':>12}" for w in WIDTHS)
        ratio = f"{row['ratio']:15.1f}" if "ratio" in row else f"{'-':>15}"
        print(f"{env_id:44} {row['single']:10,.0f} {cells}  {ratio}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
