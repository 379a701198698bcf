"""Registry entry of Symbolic Alchemy, with the scores of the players that know its rules."""

from __future__ import annotations

import dataclasses
from typing import Any

from envs_suite.random_scores import RANDOM_SCORES
from envs_suite.registry import EnvSpec, Measured, Param, Params, Published, Score, Split, register

#: Mean return of each player of `envs_suite.alchemy_players` over 1,000 training episodes with the default
#: parameters: `benchmarks/random_policies.py --alchemy` prints them again.
PLAYER_SCORES = {
    "RandomHeuristic": Measured(147.82, 1.52, 1000, 0),
    "PosteriorPlayer": Measured(276.61, 1.58, 1000, 0),
    "Oracle": Measured(288.56, 1.50, 1000, 0),
}

#: The oracle's where no graph lacks an edge; how stones look makes no difference to it.
_ORACLE_WITHOUT_BOTTLENECKS = Measured(316.88, 1.21, 1000, 0)

_TRIALS = 10
#: Steps that use up all of a trial: twelve potions, and three stones for the cauldron.
_ENOUGH_STEPS = 15
_SOURCE = (
    "doing nothing, and exact planning by a player that is told the chemistry, 1,000 episodes "
    "({}; benchmarks/random_policies.py --alchemy)"
)
_WANG = "Wang et al. 2021 (arXiv 2102.02926), 1,000 episodes"
_ALKHAMISSI = "AlKhamissi et al. 2021 (arXiv 2112.08360), as its repository reports it"

_PUBLISHED = (
    Published("random heuristic", "return", 145.7, _WANG, unconfirmed=True),
    Published("V-MPO with a gated transformer", "return", 155.4, _WANG, unconfirmed=True),
    Published(
        "ideal observer (told nothing, exact inference and search)", "return", 284.4, _WANG, unconfirmed=True
    ),
    Published("search oracle (told the chemistry)", "return", 288.5, _WANG, unconfirmed=True),
    Published("A2C with episodic planning network, no extra rewards", "return", 236.06, _ALKHAMISSI),
    Published(
        "A2C with episodic planning network, changed observations and shaped rewards",
        "return",
        272.85,
        _ALKHAMISSI,
    ),
)


def _rules(params: Params) -> dict[str, Any]:
    return {
        "trials": params["trials"],
        "steps_per_trial": params["steps_per_trial"],
        "bottlenecks": params["bottlenecks"],
        "rotations": params["rotations"],
    }


def _make(params: dict[str, Any], num_envs: int, split: Split) -> Any:
    from envs_suite.alchemy import SymbolicAlchemyVector

    return SymbolicAlchemyVector(num_envs, **_rules(params), split=split)


def _make_original(params: dict[str, Any], num_envs: int, split: Split) -> Any:
    from envs_suite.alchemy_original import OriginalAlchemy

    return OriginalAlchemy(**_rules(params), split=split)


def _bounds(params: Params) -> tuple[float, float, str] | None:
    """Of other graphs, and another number of trials: a player that is told the chemistry plans each by itself."""
    trials, steps, whole = params["trials"], params["steps_per_trial"], not params["bottlenecks"]
    if trials == _TRIALS and steps >= _ENOUGH_STEPS and not whole:
        return None
    oracle = _ORACLE_WITHOUT_BOTTLENECKS if whole else PLAYER_SCORES["Oracle"]
    source = _SOURCE.format("no bottlenecks" if whole else "default parameters")
    if trials != _TRIALS:
        source += f"; of ten trials, in proportion for {trials}"
    if steps < _ENOUGH_STEPS:
        source += f"; of trials of 20 steps, perhaps out of reach in {steps} steps"
    return 0.0, oracle.mean * trials / _TRIALS, source


_GAME = EnvSpec(
    id="symbolic-alchemy",
    family="core",
    description="Ten trials with stones and potions whose hidden chemistry lasts an episode (Wang et al. 2021).",
    licence="MIT (this project)",
    parameters={
        "trials": Param(_TRIALS, "trials of an episode, all with one chemistry", 1, 1000),
        "steps_per_trial": Param(20, "steps of each trial", 1, 1000),
        "bottlenecks": Param(True, "draw graphs with missing edges, not only the whole cube"),
        "rotations": Param(True, "draw looks that are turned by 45 degrees"),
    },
    score=Score(
        "return",
        "higher",
        0.0,
        PLAYER_SCORES["Oracle"].mean,
        _SOURCE.format("default parameters"),
    ),
    bounds_of=_bounds,
    horizon_of=lambda p: p["trials"] * p["steps_per_trial"],
    factory=_make,
    vectorised=True,
    samples_tasks=True,
    best_possible=PLAYER_SCORES["Oracle"].mean,
    random_score=RANDOM_SCORES.get("symbolic-alchemy"),
    yardsticks={
        "random heuristic of the paper": PLAYER_SCORES["RandomHeuristic"],
        "exact posterior, plans for a chemistry drawn from it": PLAYER_SCORES["PosteriorPlayer"],
        "oracle, told the chemistry": PLAYER_SCORES["Oracle"],
    },
    published=_PUBLISHED,
)

register(_GAME)
register(
    dataclasses.replace(
        _GAME,
        id="symbolic-alchemy-original",
        description="The same episodes in the authors' own package, dm_alchemy, which a user installs.",
        licence="Apache-2.0 (dm_alchemy)",
        factory=_make_original,
        vectorised=False,
        random_score=RANDOM_SCORES.get("symbolic-alchemy-original"),
        requires=("dm_alchemy",),
    )
)
