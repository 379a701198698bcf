"""Registry entries of Meta-World (family ``metaworld``)."""

from __future__ import annotations

from typing import Any

from envs_suite.metaworld_tasks import ML10, ML45
from envs_suite.random_scores import RANDOM_SCORES
from envs_suite.registry import EnvSpec, Param, Params, Published, Score, Split, register

_SUCCESS = Score("success", "higher", 0.0, 1.0, "a success rate: 0 to 1 by definition")
_STEPS = 500
_PUBLISHED = {
    "ml10": (
        Published(
            "MAML with TRPO, held-out tasks, after one gradient step",
            "success",
            0.132,
            "Atamuradov 2025 (arXiv 2511.12383), abstract; other attempts and horizon than here",
        ),
    )
}
_ATTEMPTS = Param(3, "attempts at each task and goal", 1, 100)


def _horizon(params: Params) -> int:
    return params["attempts"] * _STEPS + params["attempts"] - 1  # a reset step lies between attempts


def _many(benchmark: str, tasks: dict[str, tuple[str, ...]]) -> EnvSpec:
    def factory(params: dict[str, Any], num_envs: int, split: Split) -> Any:
        from envs_suite.metaworld_envs import MetaWorldTasks

        return MetaWorldTasks(tasks[split], params["attempts"], split)

    env_id = f"metaworld-{benchmark}"
    return EnvSpec(
        id=env_id,
        family="metaworld",
        description=f"Meta-World's {benchmark.upper()}: attempts at {len(tasks['train'])} tasks of a robot's arm, "
        f"evaluated on {len(tasks['eval'])} others.",
        licence="MIT (metaworld), Apache-2.0 (mujoco)",
        parameters={"attempts": _ATTEMPTS},
        score=_SUCCESS,
        horizon_of=_horizon,
        factory=factory,
        samples_tasks=True,
        best_possible=1.0,
        random_score=RANDOM_SCORES.get(env_id),
        published=_PUBLISHED.get(benchmark, ()),
        requires=("metaworld",),
    )


def _one() -> EnvSpec:
    names = tuple(sorted(ML45["train"] + ML45["eval"]))

    def factory(params: dict[str, Any], num_envs: int, split: Split) -> Any:
        from envs_suite.metaworld_envs import MetaWorldTasks

        return MetaWorldTasks((params["task"],), params["attempts"], split, split_goals=True)

    return EnvSpec(
        id="metaworld-ml1",
        family="metaworld",
        description="Meta-World's ML1: attempts at one task of a robot's arm with a hidden goal.",
        licence="MIT (metaworld), Apache-2.0 (mujoco)",
        parameters={"task": Param("reach", "the task", choices=names), "attempts": _ATTEMPTS},
        score=_SUCCESS,
        horizon_of=_horizon,
        factory=factory,
        samples_tasks=True,
        best_possible=1.0,
        random_score=RANDOM_SCORES.get("metaworld-ml1"),
        requires=("metaworld",),
    )


register(_one())
register(_many("ml10", ML10))
register(_many("ml45", ML45))
