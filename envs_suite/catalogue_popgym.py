"""Registry entries of POPGym's 48 environments: one table, three difficulties each."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from envs_suite.random_scores import RANDOM_SCORES
from envs_suite.registry import RSM, EnvSpec, Param, Params, Published, Score, Split, register

DIFFICULTIES = ("easy", "medium", "hard")

#: popgym's name -> the most steps of an episode at (easy, medium, hard).
HORIZONS: dict[str, tuple[int, int, int]] = {
    "Autoencode": (103, 207, 311),
    "Battleship": (64, 100, 144),
    "Concentration": (104, 208, 104),
    "CountRecall": (51, 103, 207),
    "HigherLower": (51, 103, 155),
    "LabyrinthEscape": (1023, 1023, 1023),
    "LabyrinthExplore": (1023, 1023, 1023),
    "MineSweeper": (14, 30, 54),
    "MultiarmedBandit": (200, 400, 600),
    "NoisyPositionOnlyCartPole": (200, 200, 200),
    "NoisyPositionOnlyPendulum": (200, 200, 200),
    "PositionOnlyCartPole": (200, 400, 600),
    "PositionOnlyPendulum": (200, 150, 100),
    "RepeatFirst": (51, 415, 831),
    "RepeatPrevious": (51, 103, 155),
    "VelocityOnlyCartpole": (200, 400, 600),
}

#: Mean return of a policy that never errs, where that is plain from the rules.
BEST = {
    "Autoencode": 1.0,
    "CountRecall": 1.0,
    "PositionOnlyCartPole": 1.0,
    "RepeatFirst": 1.0,
    "RepeatPrevious": 1.0,
}

_MORAD = "Morad et al. 2023 (arXiv 2303.01859), PPO, 15M steps, 3 trials"
#: PPO with a GRU, and the best of the paper's 13 memory models: MMER at (easy, medium, hard).
GRU_AND_BEST: dict[str, tuple[tuple[float, float], ...]] = {
    "Autoencode": ((-0.283, -0.283), (-0.425, -0.420), (-0.456, -0.448)),
    "CountRecall": ((0.177, 0.509), (-0.528, -0.519), (-0.475, -0.470)),
    "HigherLower": ((0.529, 0.529), (0.511, 0.513), (0.506, 0.509)),
    "MultiarmedBandit": ((0.619, 0.631), (0.538, 0.598), (0.516, 0.574)),
    "NoisyPositionOnlyCartPole": ((0.995, 0.995), (0.642, 0.659), (0.390, 0.404)),
    "PositionOnlyCartPole": ((1.0, 1.0), (1.0, 1.0), (1.0, 1.0)),
    "RepeatFirst": ((1.0, 1.0), (1.0, 1.0), (0.940, 0.969)),
    "RepeatPrevious": ((1.0, 1.0), (-0.315, 0.789), (-0.428, 0.191)),
}

#: Shares of right answers in CountRecallMedium, with 95 % intervals where they are given.
_COUNT_RECALL_MEDIUM: dict[str, tuple[float, tuple[float, float] | None]] = {
    "Transformer": (0.998, (0.997, 0.999)),
    "GRU": (0.930, (0.896, 0.971)),
    "no memory": (0.680, (0.660, 0.697)),
}

_SCORE = Score(
    metric="return",
    direction="higher",
    low=-1.0,
    high=1.0,
    source="bounds of the episode return by design of the benchmark (arXiv 2303.01859)",
)


#: A hit is 1 / 12 and a miss 1 / (cells - 12), so that a whole episode of misses costs more than 1.
_BATTLESHIP = replace(
    _SCORE, source=f"{_SCORE.source}; an episode of misses alone has -1.23 (easy), -1.14 or -1.09 (hard)"
)


def _slug(name: str) -> str:
    """CamelCase to kebab-case, with one spelling of "cartpole" (popgym has two)."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name.replace("CartPole", "Cartpole")).lower()


def _published(name: str, level: int) -> tuple[Published, ...]:
    found = []
    if name in GRU_AND_BEST:
        gru, best = GRU_AND_BEST[name][level]
        what = "maximum over training of the mean episode return (MMER)"
        found.append(Published(f"PPO-GRU, {what}", "return", gru, _MORAD, unconfirmed=True))
        found.append(Published(f"best of 13 memory models, {what}", "return", best, _MORAD, unconfirmed=True))
    if (name, level) == ("CountRecall", 1):
        for who, (value, interval) in _COUNT_RECALL_MEDIUM.items():
            found.append(Published(f"{who}, share of right answers", "accuracy", value, RSM, interval))
    if (name, level) == ("MineSweeper", 1):
        source = "AMAGO paper's figure as read by a user (issue 79 of its repository)"
        found.append(Published("AMAGO, about 18M steps", "return", 0.06, source, unconfirmed=True))
    return tuple(found)


def _entry(name: str, level: int) -> EnvSpec:
    env_id = f"popgym-{_slug(name)}-{DIFFICULTIES[level]}"
    popgym_id = f"popgym-{name}{DIFFICULTIES[level].capitalize()}-v0"
    horizon = HORIZONS[name][level]

    def horizon_of(params: Params) -> int:
        return horizon

    def factory(params: dict[str, Any], num_envs: int, split: Split) -> Any:
        from envs_suite.popgym_envs import POPGymAMAGO

        return POPGymAMAGO(popgym_id)

    return EnvSpec(
        id=env_id,
        family="labyrinth" if name.startswith("Labyrinth") else "core",
        description=f"POPGym's {popgym_id}, with a step timer.",
        licence="MIT (popgym)" + (", GPL-3.0 (mazelib)" if name.startswith("Labyrinth") else ""),
        score=_BATTLESHIP if name == "Battleship" else _SCORE,
        horizon_of=horizon_of,
        factory=factory,
        best_possible=BEST.get(name),
        random_score=RANDOM_SCORES.get(env_id),
        published=_published(name, level),
        requires=("popgym", "mazelib") if name.startswith("Labyrinth") else ("popgym",),
    )


for _name in HORIZONS:
    for _level in range(3):
        register(_entry(_name, _level))


def _make_multi(params: dict[str, Any], num_envs: int, split: Split) -> Any:
    from envs_suite.popgym_multi import MultiDomainPOPGymAMAGO

    return MultiDomainPOPGymAMAGO(params["attempts"] - 1)


register(
    EnvSpec(
        id="multidomain-popgym",
        family="core",
        description="27 POPGym games in one space; which one is not told, and only the last attempt counts (AMAGO).",
        licence="MIT (popgym)",
        parameters={"attempts": Param(2, "attempts at the drawn game, of which the last counts", 1, 100)},
        score=Score(
            "return",
            "higher",
            -1.0,
            1.0,
            "bounds of every game's episode return by design of the benchmark (arXiv 2303.01859)",
        ),
        # The longest game lasts 831 steps, and a reset step lies between attempts.
        horizon_of=lambda p: p["attempts"] * 831 + p["attempts"] - 1,
        factory=_make_multi,
        random_score=RANDOM_SCORES.get("multidomain-popgym"),
        requires=("popgym",),
    )
)
