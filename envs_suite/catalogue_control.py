"""Registry entries of simulated bodies and vehicles: gymnasium's own, and the cheetah with a hidden target."""

from __future__ import annotations

from typing import Any

from amago.errors import ConfigurationError
from envs_suite.optional import INSTALL
from envs_suite.random_scores import RANDOM_SCORES
from envs_suite.registry import EnvSpec, Param, Params, Score, Split, register

# -- HalfCheetah with a hidden target velocity -------------------------------------------------------


def _check_cheetah(params: Params) -> None:
    if params["min_velocity"] >= params["max_velocity"]:
        raise ConfigurationError(
            "environment 'half-cheetah-velocity': parameter 'min_velocity' must be below 'max_velocity' "
            f"({params['max_velocity']:g}), got {params['min_velocity']:g}"
        )


def _make_cheetah(params: dict[str, Any], num_envs: int, split: Split) -> Any:
    from envs_suite.half_cheetah import HalfCheetahVelocityVector

    return HalfCheetahVelocityVector(
        num_envs,
        task_min_velocity=params["min_velocity"],
        task_max_velocity=params["max_velocity"],
        steps=params["steps"],
        split=split,
    )


register(
    EnvSpec(
        id="half-cheetah-velocity",
        family="core",
        description="HalfCheetah runs at a target velocity that only rewards tell (Finn et al. 2017).",
        licence="MIT (this project, gymnasium), Apache-2.0 (mujoco)",
        parameters={
            "min_velocity": Param(0.0, "least target velocity, m/s", 0, 20),
            "max_velocity": Param(3.0, "greatest target velocity, m/s", 0, 20),
            "steps": Param(1000, "steps of an episode, 0.05 s each", 1, 100_000),
        },
        check_together=_check_cheetah,
        score=Score(
            "velocity_error",
            "lower",
            0.0,
            1.5,
            "no error, and the mean error (m/s) of standing still with targets uniform on 0 to 3",
        ),
        horizon_of=lambda p: p["steps"],
        factory=_make_cheetah,
        vectorised=True,
        samples_tasks=True,
        best_possible=0.0,
        random_score=RANDOM_SCORES.get("half-cheetah-velocity"),
        requires=("mujoco",),
        install=INSTALL["mujoco"],
    )
)
