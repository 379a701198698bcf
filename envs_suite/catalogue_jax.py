"""Registry entries of gymnax, XLand-MiniGrid, navix and jumanji (family ``jax``)."""

from __future__ import annotations

from typing import Any

from amago.errors import ConfigurationError
from envs_suite.random_scores import RANDOM_SCORES
from envs_suite.registry import EnvSpec, Param, Params, Published, Score, Split, register
from envs_suite.xland_rulesets import MOST_THINGS

_BLINES = (
    "checkpoints that gymnax's README lists (PPO or evolution strategies, lightly tuned; budget not stated)"
)

#: id's ending -> (gymnax's id, steps, upper bound of the return, where that comes from, best possible, published).
GYMNAX: dict[str, tuple[str, int, float, str, float | None, float | None]] = {
    "acrobot": ("Acrobot-v1", 500, -100.0, "the return at which gymnasium calls it solved", None, -80.0),
    "cartpole": ("CartPole-v1", 500, 500.0, "the longest episode", 500.0, 500.0),
    "mountain-car": (
        "MountainCar-v0",
        200,
        -110.0,
        "the return at which gymnasium calls it solved",
        None,
        -118.0,
    ),
    "mountain-car-continuous": (
        "MountainCarContinuous-v0",
        999,
        90.0,
        "the return at which gymnasium calls it solved",
        None,
        92.0,
    ),
    "pendulum": ("Pendulum-v1", 200, 0.0, "no cost, which the swing up always has", None, -130.0),
    "catch": ("Catch-bsuite", 9, 1.0, "the ball is caught", 1.0, 1.0),
    "deep-sea": ("DeepSea-bsuite", 8, 0.99, "the treasure, less eight moves of 0.01 / 8", 0.99, None),
    "discounting-chain": (
        "DiscountingChain-bsuite",
        100,
        1.1,
        "the chain with the largest reward",
        1.1,
        None,
    ),
    "umbrella-chain": ("UmbrellaChain-bsuite", 10, 1.0, "the right choice at the start", None, None),
    "four-rooms": ("FourRooms-misc", 500, 1.0, "the goal is reached", 1.0, 1.0),
    "meta-maze": ("MetaMaze-misc", 200, 32.0, "the published checkpoint", None, 32.0),
    "point-robot": ("PointRobot-misc", 100, 10.0, "the published checkpoint", None, 10.0),
    "bernoulli-bandit": ("BernoulliBandit-misc", 100, 90.0, "the published checkpoint", None, 90.0),
}


def _gymnax(name: str) -> EnvSpec:
    package_id, steps, high, why, best, published = GYMNAX[name]
    env_id = f"gymnax-{name}"
    random_score = RANDOM_SCORES.get(env_id)

    def horizon_of(params: Params) -> int:
        return steps

    def factory(params: dict[str, Any], num_envs: int, split: Split) -> Any:
        from envs_suite.gymnax_envs import GymnaxVector

        return GymnaxVector(num_envs, package_id)

    return EnvSpec(
        id=env_id,
        family="jax",
        description=f"gymnax's {package_id}, compiled and vectorised.",
        licence="Apache-2.0 (gymnax)",
        score=Score(
            "return",
            "higher",
            high - 1.0 if random_score is None else random_score.mean,
            high,
            f"uniformly random actions (measured here), and {why}",
        ),
        horizon_of=horizon_of,
        factory=factory,
        vectorised=True,
        best_possible=best,
        random_score=random_score,
        published=() if published is None else (Published("best checkpoint", "return", published, _BLINES),),
        requires=("gymnax",),
    )


# -- bsuite's memory chain ---------------------------------------------------------------------------


def _make_chain(params: dict[str, Any], num_envs: int, split: Split) -> Any:
    from envs_suite.gymnax_envs import GymnaxVector

    return GymnaxVector(num_envs, "MemoryChain-bsuite", {"memory_length": params["length"]})


_CHAIN = EnvSpec(
    id="gymnax-memory-chain",
    family="jax",
    description="bsuite's memory chain in gymnax: a bit is shown at the start and asked for at the end.",
    licence="Apache-2.0 (gymnax)",
    parameters={"length": Param(5, "steps over which the bit must be kept", 1, 900)},
    score=Score("return", "higher", -1.0, 1.0, "a wrong and a right answer"),
    horizon_of=lambda p: p["length"] + 1,
    factory=_make_chain,
    vectorised=True,
    best_possible=1.0,
    random_score=RANDOM_SCORES.get("gymnax-memory-chain"),
    requires=("gymnax",),
)


# -- XLand-MiniGrid ------------------------------------------------------------------------------------


def _check_xland(params: Params) -> None:
    if params["size"] % 2 == 0:
        raise ConfigurationError(
            f"environment 'xland': parameter 'size' must be odd, from 7 to 25, got {params['size']}"
        )
    # The package needs a free cell for each of so many things, there or not, and one for the agent.
    walls = {"1": 0, "2": params["size"] - 2, "4": 2 * params["size"] - 5}[params["rooms"]]
    if (params["size"] - 2) ** 2 - walls <= MOST_THINGS:
        raise ConfigurationError(
            f"environment 'xland': {params['rooms']} rooms do not fit into parameter 'size' = {params['size']}: make it "
            f"{params['size'] + 2} or more, or 'rooms' fewer"
        )
    most = 2 * 2 ** params["depth"] + params["distractors"]
    if most > MOST_THINGS:
        raise ConfigurationError(
            f"environment 'xland': depth {params['depth']} with {params['distractors']} distractors can need {most} "
            f"things, and {MOST_THINGS} fit: lower 'distractors' or 'depth'"
        )


def _make_xland(params: dict[str, Any], num_envs: int, split: Split) -> Any:
    from envs_suite.xland_envs import XLandVector

    return XLandVector(
        num_envs,
        size=params["size"],
        rooms=int(params["rooms"]),
        attempts=params["attempts"],
        depth=params["depth"],
        distractors=params["distractors"],
        split=split,
    )


_XLAND = EnvSpec(
    id="xland",
    family="jax",
    description="Attempts at an unknown goal under unknown rules in XLand-MiniGrid (Nikulin et al. 2023).",
    licence="Apache-2.0 (xminigrid)",
    parameters={
        "size": Param(9, "cells to a side with the walls, odd", 7, 25),
        "rooms": Param("1", "rooms with doors between them", choices=("1", "2", "4")),
        "attempts": Param(4, "attempts at each ruleset, of 3 * size * size steps", 1, 100),
        "depth": Param(1, "the most rules between a thing at the start and the goal", 0, 2),
        "distractors": Param(3, "things of no use", 0, 14),
    },
    check_together=_check_xland,
    score=Score("success", "higher", 0.0, 1.0, "a success rate: 0 to 1 by definition"),
    horizon_of=lambda p: p["attempts"] * 3 * p["size"] ** 2,
    factory=_make_xland,
    vectorised=True,
    samples_tasks=True,
    best_possible=None,  # what the goal is must be found out first
    random_score=RANDOM_SCORES.get("xland"),
    requires=("xminigrid",),
)


# -- navix ---------------------------------------------------------------------------------------------

#: id's ending -> (navix's id, cells to a side, best possible return).
NAVIX: dict[str, tuple[str, int, float | None]] = {
    "empty-random-8x8": ("Navix-Empty-Random-8x8-v0", 8, 1.0),
    "door-key-random-8x8": ("Navix-DoorKey-Random-8x8-v0", 8, 1.0),
    "simple-crossing-s9n3": ("Navix-SimpleCrossingS9N3-v0", 9, 1.0),
    "lava-gap-s7": ("Navix-LavaGapS7-v0", 7, 1.0),
    "dynamic-obstacles-8x8": ("Navix-Dynamic-Obstacles-8x8-v0", 8, None),  # a ball may be in the way
}


def _navix(name: str) -> EnvSpec:
    package_id, size, best = NAVIX[name]
    steps = 4 * size * size

    def horizon_of(params: Params) -> int:
        return steps

    def factory(params: dict[str, Any], num_envs: int, split: Split) -> Any:
        from envs_suite.navix_envs import NavixVector

        return NavixVector(num_envs, package_id, steps)

    return EnvSpec(
        id=f"navix-{name}",
        family="jax",
        description=f"navix's {package_id}: a room of MiniGrid's, compiled and vectorised.",
        licence="Apache-2.0 (navix)",
        score=Score("return", "higher", 0.0, 1.0, "the goal is reached never, or always"),
        horizon_of=horizon_of,
        factory=factory,
        vectorised=True,
        best_possible=best,
        random_score=RANDOM_SCORES.get(f"navix-{name}"),
        requires=("navix",),
    )


# -- jumanji -------------------------------------------------------------------------------------------

#: id's ending -> (jumanji's id, steps, low, high, where the bounds come from, best possible return).
JUMANJI: dict[str, tuple[str, int, float, float, str, float | None]] = {
    "maze": ("Maze-v0", 100, 0.0, 1.0, "the target is reached never, or always", 1.0),
    "minesweeper": ("Minesweeper-v0", 90, 0.0, 90.0, "no cell opened, and all 90 without a mine", None),
    "rubiks-cube-7": (
        "RubiksCube-partly-scrambled-v0",
        20,
        0.0,
        1.0,
        "the cube is solved never, or always",
        1.0,
    ),
    "sliding-tiles": (
        "SlidingTilePuzzle-v0",
        500,
        0.0,
        25.0,
        "as many tiles in place at the end as at the start, and all 25 from none",
        None,
    ),
    "snake": ("Snake-v1", 4000, 0.0, 143.0, "no fruit, and a snake that fills the 12 x 12 cells", 143.0),
}


def _jumanji(name: str) -> EnvSpec:
    package_id, steps, low, high, source, best = JUMANJI[name]

    def horizon_of(params: Params) -> int:
        return steps

    def factory(params: dict[str, Any], num_envs: int, split: Split) -> Any:
        from envs_suite.jumanji_envs import JumanjiVector

        return JumanjiVector(num_envs, package_id, steps)

    return EnvSpec(
        id=f"jumanji-{name}",
        family="jax",
        description=f"jumanji's {package_id}, compiled and vectorised.",
        licence="Apache-2.0 (jumanji)",
        score=Score("return", "higher", low, high, source),
        horizon_of=horizon_of,
        factory=factory,
        vectorised=True,
        best_possible=best,
        random_score=RANDOM_SCORES.get(f"jumanji-{name}"),
        requires=("jumanji",),
    )


for _name in GYMNAX:
    register(_gymnax(_name))
register(_CHAIN)
register(_XLAND)
for _name in NAVIX:
    register(_navix(_name))
for _name in JUMANJI:
    register(_jumanji(_name))
