"""Registry entries of MiniGrid and of multi-task BabyAI."""

from __future__ import annotations

from typing import Any

from envs_suite.minigrid_tasks import BABYAI, FEW_LEVELS, MINIGRID
from envs_suite.random_scores import RANDOM_SCORES
from envs_suite.registry import EnvSpec, Param, Params, Score, Split, register

_SUCCESS = Score("success", "higher", 0.0, 1.0, "a success rate: 0 to 1 by definition")
_ENCODING = Param(
    "one-hot",
    "image and instruction as flat one-hots, or as symbol numbers and tokens",
    choices=("one-hot", "symbols"),
)

#: What of training comes again in evaluation, where it is not only by chance.
_AGAIN = dict.fromkeys(FEW_LEVELS, "; evaluation shows levels of training, as there are few.")
_AGAIN["dynamic-obstacles-8x8"] = (
    "; evaluation begins like levels of training (there are 46,376 beginnings), and obstacles then move otherwise."
)


def _horizon(attempts: int, steps: int) -> int:
    return attempts * steps + attempts - 1  # a reset step lies between attempts


def _grid(name: str) -> EnvSpec:
    package_id, steps = MINIGRID[name]

    def horizon_of(params: Params) -> int:
        return _horizon(params["attempts"], steps)

    def factory(params: dict[str, Any], num_envs: int, split: Split) -> Any:
        from envs_suite.minigrid_envs import MiniGridTasks

        return MiniGridTasks([package_id], params["attempts"], params["encoding"], split)

    env_id = f"minigrid-{name}"
    return EnvSpec(
        id=env_id,
        family="core",
        description=f"MiniGrid's {package_id}, with the instruction as tokens{_AGAIN.get(name, '.')}",
        licence="Apache-2.0 (minigrid)",
        parameters={"attempts": Param(1, "attempts at each level", 1, 100), "encoding": _ENCODING},
        score=_SUCCESS,
        horizon_of=horizon_of,
        factory=factory,
        samples_tasks=name not in FEW_LEVELS,
        # Obstacles that move at random can leave no way out; all other levels can be solved by design.
        best_possible=None if name.startswith("dynamic") else 1.0,
        random_score=RANDOM_SCORES.get(env_id),
        requires=("minigrid",),
    )


def _babyai() -> EnvSpec:
    def factory(params: dict[str, Any], num_envs: int, split: Split) -> Any:
        from envs_suite.minigrid_envs import MiniGridTasks

        return MiniGridTasks(BABYAI[params["tasks"]][0], params["attempts"], params["encoding"], split)

    return EnvSpec(
        id="babyai",
        family="core",
        description="Attempts at an unknown level of one of BabyAI's tasks (as in AMAGO-2, arXiv 2411.11188).",
        licence="Apache-2.0 (minigrid)",
        parameters={
            "tasks": Param(
                "all", "all tasks of one instruction, or those of one room", choices=tuple(BABYAI)
            ),
            "attempts": Param(2, "attempts at each level", 1, 100),
            "encoding": _ENCODING,
        },
        score=_SUCCESS,
        horizon_of=lambda p: _horizon(p["attempts"], BABYAI[p["tasks"]][1]),
        factory=factory,
        samples_tasks=True,
        random_score=RANDOM_SCORES.get("babyai"),
        requires=("minigrid",),
    )


for _name in MINIGRID:
    register(_grid(_name))
register(_babyai())
