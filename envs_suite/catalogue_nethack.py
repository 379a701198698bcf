"""Registry entries of NLE and MiniHack (family ``nethack``)."""

from __future__ import annotations

from typing import Any

from amago.errors import ConfigurationError
from envs_suite.nethack_tasks import FEW_MAPS, MINIHACK, NLE_TASKS
from envs_suite.random_scores import RANDOM_SCORES
from envs_suite.registry import EnvSpec, Param, Params, Published, Score, Split, register

_SUCCESS = Score("success", "higher", 0.0, 1.0, "a success rate: 0 to 1 by definition")
_VIEW = Param(9, "cells around the agent that are seen, to a side, odd", 3, 21)
_BASELINE = (
    "public NeurIPS 2021 challenge baseline: asynchronous PPO with a GRU, 2e9 steps, NetHackChallenge (any "
    "character, all actions, no penalty), where the return is the game's score"
)


def _check_view(params: Params) -> None:
    if params["view"] % 2 == 0:
        raise ConfigurationError(f"NetHack: parameter 'view' must be odd, from 3 to 21, got {params['view']}")


def _make(task: str, params: dict[str, Any], split: Split) -> Any:
    from envs_suite.nethack_envs import NetHackTask

    character = params.get("character")
    return NetHackTask(task, params["steps"], params["view"], character, split)


#: What a return of 1 on the normalised scale is, for the tasks of NLE that are scored by it.
_HIGH = {"score": 750.0, "gold": 1000.0, "eat": 3000.0, "scout": 3000.0}
_HIGH_SOURCE = {
    "score": "nothing, and the mean of the public NeurIPS 2021 challenge baseline after 2e9 steps"
}


def _nle(name: str) -> EnvSpec:
    package_id, steps, success = NLE_TASKS[name]
    env_id = f"nethack-{name}"

    def factory(params: dict[str, Any], num_envs: int, split: Split) -> Any:
        return _make(package_id, params, split)

    score = _SUCCESS
    if not success:
        source = _HIGH_SOURCE.get(name, "nothing, and a round number: no policy's mean is known here")
        score = Score("return", "higher", 0.0, _HIGH[name], source)
    published = (Published("mean episode return", "return", 750.0, _BASELINE, (700.0, 800.0)),)
    return EnvSpec(
        id=env_id,
        family="nethack",
        description=f"NetHack's {package_id} (Kuettler et al. 2020, arXiv 2006.13760).",
        licence="NetHack General Public License (nle)",
        parameters={
            "steps": Param(steps, "steps after which an episode is cut off", 1, 1_000_000),
            "view": _VIEW,
            "character": Param(
                "mon-hum-neu-mal",
                "who is played: the monk of the paper, or any",
                choices=("mon-hum-neu-mal", "@"),
            ),
        },
        check_together=_check_view,
        score=score,
        horizon_of=lambda p: p["steps"],
        factory=factory,
        samples_tasks=True,
        random_score=RANDOM_SCORES.get(env_id),
        published=published if name == "score" else (),
        requires=("nle",),
    )


def _minihack(name: str) -> EnvSpec:
    package_id, steps = MINIHACK[name]
    env_id = f"minihack-{name}"

    def factory(params: dict[str, Any], num_envs: int, split: Split) -> Any:
        return _make(package_id, params, split)

    return EnvSpec(
        id=env_id,
        family="nethack",
        description=f"{package_id} (Samvelyan et al. 2021, arXiv 2109.13202)"
        + ("; evaluation shows maps of training, as there are few." if name in FEW_MAPS else "."),
        licence="Apache-2.0 (minihack), NetHack General Public License (nle)",
        parameters={
            "steps": Param(steps, "steps after which an episode is cut off", 1, 1_000_000),
            "view": _VIEW,
        },
        check_together=_check_view,
        score=_SUCCESS,
        horizon_of=lambda p: p["steps"],
        factory=factory,
        samples_tasks=name not in FEW_MAPS,
        random_score=RANDOM_SCORES.get(env_id),
        requires=("minihack",),
    )


for _name in NLE_TASKS:
    register(_nle(_name))
for _name in MINIHACK:
    register(_minihack(_name))
