"""Run by a family's own Python: the checks of every environment of that family.

    .venv-jax/bin/python tests/families/in_family.py jax

Prints one JSON object: id -> None, or what is wrong with it.
"""

from __future__ import annotations

import json
import sys
import traceback

import numpy as np
from gymnasium.utils.env_checker import check_env

import envs_suite
from amago.envs import AMAGOEnv
from envs_suite.registry import EnvSpec

STEPS = 1000


def actions(env: AMAGOEnv, rng: np.random.Generator) -> np.ndarray:
    """Uniform actions for all instances."""
    n = env.batched_envs
    if env.discrete:
        return rng.integers(env.action_size, size=(n, 1))
    if env.multibinary:
        return rng.integers(2, size=(n, env.action_size))
    return rng.uniform(-1, 1, size=(n, env.action_size)).astype(np.float32)


def play(env: AMAGOEnv, seed: int, steps: int, task: int | None = None) -> list[np.ndarray]:
    """Everything that is seen in ``steps`` steps from a seeded reset, with resets of what ends."""
    rng = np.random.default_rng(seed)
    n = env.batched_envs
    options = None if task is None else {"task_index": np.full(n, task)}
    obs, _ = env.reset(seed=[seed + i for i in range(n)], options=options)
    seen = [np.concatenate([np.ravel(v) for v in obs.values()])]
    for _ in range(steps):
        obs, reward, terminated, truncated, _ = env.step(actions(env, rng))
        seen.append(np.concatenate([*(np.ravel(v) for v in obs.values()), reward, terminated, truncated]))
        over = np.asarray(terminated | truncated)
        if over.all():
            env.reset()
        elif over.any():
            env.reset(options={"reset_mask": over})
    return seen


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def check_random_steps(spec: EnvSpec, env: AMAGOEnv) -> None:
    """1,000 steps: spaces hold what comes out, episodes end within the horizon and log the score's metric."""
    n = env.batched_envs
    rng = np.random.default_rng(0)
    obs, _ = env.reset(seed=list(range(n)))
    horizon = spec.horizon()
    length = np.zeros(n, dtype=int)
    ended = 0
    steps = 0
    while steps < STEPS or (not ended and steps <= horizon):
        steps += 1
        for key, space in env.observation_space.spaces.items():
            for row in obs[key]:
                assert space.contains(row), f"{key} is not in {space}"
        obs, reward, terminated, truncated, info = env.step(actions(env, rng))
        assert np.isfinite(reward).all(), "a reward is not finite"
        length += 1
        assert (length <= horizon).all(), f"an episode is longer than the horizon of {horizon}"
        over = np.asarray(terminated | truncated)
        if over.any():
            ended += int(over.sum())
            if spec.score.metric != "return":
                assert f"AMAGO_LOG_METRIC {spec.score.metric}" in info, f"{spec.score.metric} is not logged"
            length[over] = 0
            obs, _ = env.reset(**({"options": {"reset_mask": over}} if not over.all() else {}))
    assert ended, f"no episode ended within the horizon of {horizon}"


def check_names(spec: EnvSpec, env: AMAGOEnv) -> None:
    """Where there are several games or tasks, an episode is named after its own; elsewhere after the environment."""
    inner = env.unwrapped
    known = getattr(inner, "games", None) or getattr(inner, "tasks", None) or ("",)
    n = env.batched_envs
    for task in range(min(3, len(known))):
        env.reset(options={"task_index": np.full(n, task)})
        wanted = f"{spec.id}/{known[task]}" if len(known) > 1 else spec.id
        assert env.env_names == [wanted] * n, f"named {env.env_names}, not {wanted}"


def check_actors_differ(env: AMAGOEnv) -> None:
    """Actors with seeds of their own get tasks of their own: the same actions do not show the same to all."""
    first = []
    for seed in range(6):
        rng = np.random.default_rng(0)
        obs, _ = env.reset(seed=[seed] * env.batched_envs)
        seen = [np.ravel(v[0]) for v in obs.values()]
        for _ in range(30):
            obs, reward, terminated, truncated, _ = env.step(actions(env, rng))
            seen += [*(np.ravel(v[0]) for v in obs.values()), reward[:1]]
            if terminated[0] or truncated[0]:
                break
        first.append(np.concatenate(seen).tobytes())
    assert len(set(first)) > 1, "six seeds give one episode"


def check_neighbours(many: AMAGOEnv, one: AMAGOEnv) -> None:
    """An instance plays the same episode, from its seed and actions, whoever plays and ends beside it."""
    n, rng = many.batched_envs, np.random.default_rng(2)
    row = n - 1
    seen, _ = many.reset(seed=[5 + i for i in range(n)])
    alone, _ = one.reset(seed=[5 + row])
    for _ in range(200):
        assert all(np.array_equal(seen[key][row], alone[key][0]) for key in alone), "what is seen differs"
        chosen = actions(many, rng)
        seen, *more, _ = many.step(chosen)
        alone, *less, _ = one.step(chosen[row:])
        assert [value[row] for value in more] == [value[0] for value in less], "rewards or ends differ"
        over = np.asarray(more[1] | more[2])
        if over[row]:
            break
        if over.any():
            seen, _ = many.reset(options={"reset_mask": over})


def check_one(spec: EnvSpec) -> None:
    """All checks of one entry.

    Raises:
        AssertionError: what is wrong.
    """
    n = 3 if spec.vectorised else 1
    env = spec.make(num_envs=n)
    assert (env.batched_envs, env.env_name) == (n, spec.id)
    check_random_steps(spec, env)
    first = play(env, 5, 60)
    assert same(first, play(env, 5, 60)), "one seed gives two episodes in a used environment"
    assert same(first, play(spec.make(num_envs=n), 5, 60)), (
        "one seed gives two episodes in a fresh environment"
    )
    if spec.vectorised:
        check_neighbours(env, spec.make(num_envs=1))
    else:
        check_env(env.env, skip_render_check=True)
    if spec.samples_tasks:
        check_actors_differ(env)
        evaluation = spec.make(num_envs=n, split="eval")
        assert same(
            play(evaluation, 1, 30, task=3), play(spec.make(num_envs=n, split="eval"), 1, 30, task=3)
        ), "an evaluation task differs between two environments"
        check_names(spec, evaluation)
    env.close()


def main(family: str) -> None:
    found: dict[str, str | None] = {}
    for env_id in envs_suite.ids():
        spec = envs_suite.get(env_id)
        if spec.family != family:
            continue
        found[env_id] = None
        try:
            check_one(spec)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            found[env_id] = f"{type(error).__name__}: {error} ({where.name}, line {where.lineno})"
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
