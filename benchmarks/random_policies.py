"""Scores of uniformly random actions in every environment of the registry.

    python benchmarks/random_policies.py [ID ...]      print a table (default: all ids)
    python benchmarks/random_policies.py --write       also write envs_suite/random_scores.py
    python benchmarks/random_policies.py --oracle      doors that an agent who knows the room can reach
    python benchmarks/random_policies.py --alchemy     players of Symbolic Alchemy that know its rules

Actions are uniform over the action space that the agent sees; episodes are seeded 0, 1, 2, ... on top of
``--seed``; parameters are the defaults. The standard error is that of the mean over episodes.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np

import envs_suite
from amago.envs.amago_env import AMAGOEnv, logged_metrics
from amago.errors import ConfigurationError
from envs_suite.random_scores import RANDOM_SCORES
from envs_suite.registry import Measured

SEED = 0


def random_actions(env: AMAGOEnv, rng: np.random.Generator) -> np.ndarray:
    """Uniform actions for all actors: (N, 1) integers, (N, A) of 0 and 1, or (N, A) floats in [-1, 1]."""
    n = env.batched_envs
    if env.discrete:
        return rng.integers(0, env.action_size, size=(n, 1))
    if env.multibinary:
        return rng.integers(0, 2, size=(n, env.action_size))
    return rng.uniform(-1.0, 1.0, size=(n, env.action_size)).astype(np.float32)


def random_episodes(spec: envs_suite.EnvSpec, episodes: int, seed: int) -> np.ndarray:
    """The score's metric in ``episodes`` episodes of random actions, (episodes,)."""
    width = min(episodes, 100) if spec.vectorised else 1
    env = spec.make(num_envs=width)
    rng = np.random.default_rng(seed)
    scores: list[float] = []
    for first in range(0, episodes, width):
        # One whole episode of each actor: none is favoured for being short.
        env.reset(seed=[seed * 1_000_003 + first + i for i in range(width)])
        returns, got = np.zeros(width), np.full(width, np.nan)
        finished = np.zeros(width, dtype=bool)
        while not finished.all():
            _, reward, terminated, truncated, info = env.step(random_actions(env, rng))
            returns[~finished] += reward[~finished]
            ended = (terminated | truncated) & ~finished
            if ended.any():
                if spec.score.metric == "return":
                    got[ended] = returns[ended]
                else:
                    values, mask = logged_metrics(info, width)[spec.score.metric]
                    got[ended & mask] = values[ended & mask]
                finished |= ended
            over = terminated | truncated
            if over.any() and not finished.all():
                env.reset(options={"reset_mask": over})
        scores.extend(got.tolist())
    return np.array(scores[:episodes])


def oracle_doors(size: int = 9, total_steps: int = 500, tasks: int = 200_000, seed: int = SEED) -> float:
    """Mean number of doors of an agent that knows the room (evaluation and training rooms alike).

    One inner episode takes the way to the key, the way to the door (one step at least for either) and
    a reset step, which the last one need not take.
    """
    places = np.random.default_rng(seed).integers(size, size=(tasks, 3, 2))
    ways = np.abs(np.diff(places, axis=1)).sum(axis=2)
    steps = np.maximum(ways, 1).sum(axis=1)
    return float(((total_steps + 1) // (steps + 1)).mean())


def alchemy_players(episodes: int, seed: int) -> dict[str, np.ndarray]:
    """Return of each trial, (episodes, 10), of every player of `envs_suite.alchemy_players`; the oracle's also
    where no graph lacks an edge."""
    from envs_suite.alchemy import SymbolicAlchemy
    from envs_suite.alchemy_players import Oracle, Player, PosteriorPlayer, RandomHeuristic

    players: dict[str, tuple[Player, bool]] = {
        "RandomHeuristic": (RandomHeuristic(seed), True),
        "PosteriorPlayer": (PosteriorPlayer(seed), True),
        "Oracle": (Oracle(), True),
        "Oracle, no bottlenecks": (Oracle(), False),
    }
    found = {}
    for name, (player, bottlenecks) in players.items():
        env, returns = SymbolicAlchemy(bottlenecks=bottlenecks), []
        for episode in range(episodes):
            obs, _ = env.reset(seed=seed * 1_000_003 + episode)
            player.begin(env.episode.chemistry)
            terminated = False
            while not terminated:
                obs, _, terminated, _, _ = env.step(player.act(obs))
            returns.append(env.returns)
        found[name] = np.array(returns)
    return found


def _write(measured: dict[str, Measured]) -> None:
    """Rewrite `envs_suite/random_scores.py`; entries that were not measured now stay."""
    path = Path(__file__).parents[1] / "envs_suite" / "random_scores.py"
    head = path.read_text().split("RANDOM_SCORES:")[0]
    lines = [
        f'    "{env_id}": Measured({m.mean:.4f}, {m.standard_error:.4f}, {m.episodes}, {m.seed}),\n'
        for env_id, m in sorted({**RANDOM_SCORES, **measured}.items())
    ]
    path.write_text(f"{head}RANDOM_SCORES: dict[str, Measured] = {{\n{''.join(lines)}}}\n")
    print(f"wrote {path}")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("ids", nargs="*", help="environment ids (default: all)")
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--oracle", action="store_true")
    parser.add_argument("--alchemy", action="store_true")
    options: Any = parser.parse_args(arguments)
    if options.oracle:
        print(f"dark-key-to-door, known room: {oracle_doors(seed=options.seed):.2f} doors in 500 steps")
        return
    if options.alchemy:
        for name, trials in alchemy_players(options.episodes, options.seed).items():
            total = trials.sum(axis=1)
            error_of_mean = float(total.std(ddof=1)) / math.sqrt(len(total))
            first, last = trials[:, 0].mean(), trials[:, -1].mean()
            print(
                f"{name:22} {total.mean():8.2f} +- {error_of_mean:.2f}  first trial {first:.2f}, last {last:.2f}"
            )
        return
    measured: dict[str, Measured] = {}
    print(f"{'environment':44} {'metric':8} {'mean':>9} {'s.e.':>8}  episodes (seed {options.seed})")
    for env_id in options.ids or envs_suite.ids():
        spec = envs_suite.get(env_id)
        try:
            scores = random_episodes(spec, options.episodes, options.seed)
        except ConfigurationError as error:
            print(f"{env_id:44} left out: {error}")
            continue
        mean, error_of_mean = float(scores.mean()), float(scores.std(ddof=1)) / math.sqrt(len(scores))
        measured[env_id] = Measured(mean, error_of_mean, len(scores), options.seed)
        print(
            f"{env_id:44} {spec.score.metric:8} {mean:9.4f} {error_of_mean:8.4f}  {len(scores)}", flush=True
        )
    if options.write:
        _write(measured)


if __name__ == "__main__":
    main()
