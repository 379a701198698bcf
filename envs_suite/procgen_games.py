"""The 16 Procgen games with the returns they are normalised by (Cobbe et al. 2020, arXiv 1912.01588, appendix)."""

from __future__ import annotations

from typing import NamedTuple


class Bounds(NamedTuple):
    """Return of a trivial policy, and the most that is possible or practical, in the modes easy and hard."""

    easy: tuple[float, float]
    hard: tuple[float, float]


#: Game -> bounds.
GAMES: dict[str, Bounds] = {
    "bigfish": Bounds((1.0, 40.0), (0.0, 40.0)),
    "bossfight": Bounds((0.5, 13.0), (0.5, 13.0)),
    "caveflyer": Bounds((3.5, 12.0), (2.0, 13.4)),
    "chaser": Bounds((0.5, 13.0), (0.5, 14.2)),
    "climber": Bounds((2.0, 12.6), (1.0, 12.6)),
    "coinrun": Bounds((5.0, 10.0), (5.0, 10.0)),
    "dodgeball": Bounds((1.5, 19.0), (1.5, 19.0)),
    "fruitbot": Bounds((-1.5, 32.4), (-0.5, 27.2)),
    "heist": Bounds((3.5, 10.0), (2.0, 10.0)),
    "jumper": Bounds((3.0, 10.0), (1.0, 10.0)),
    "leaper": Bounds((3.0, 10.0), (1.5, 10.0)),
    "maze": Bounds((5.0, 10.0), (4.0, 10.0)),
    "miner": Bounds((1.5, 13.0), (1.5, 20.0)),
    "ninja": Bounds((3.5, 10.0), (2.0, 10.0)),
    "plunder": Bounds((4.5, 30.0), (3.0, 30.0)),
    "starpilot": Bounds((2.5, 64.0), (1.5, 35.0)),
}
#: Games that have a memory mode: larger levels, of which only a part is seen.
MEMORY_GAMES = ("caveflyer", "dodgeball", "heist", "jumper", "maze", "miner")
#: "memory" plays the games that have no memory mode in hard mode, as AMAGO-2 does.
MODES = ("easy", "hard", "memory")

#: Sets of games for the multi-game environment.
SETS: dict[str, tuple[str, ...]] = {
    "all": tuple(GAMES),
    "memory": MEMORY_GAMES,
    "four": ("bigfish", "climber", "coinrun", "starpilot"),
}


def mode_of(game: str, mode: str) -> str:
    """The package's mode for a game: "easy", "hard" or "memory"."""
    return "hard" if mode == "memory" and game not in MEMORY_GAMES else mode


def bounds(game: str, mode: str) -> tuple[float, float]:
    """Returns that normalisation calls 0 and 1; those of hard mode for memory mode, which has none of its own."""
    return GAMES[game].easy if mode == "easy" else GAMES[game].hard
