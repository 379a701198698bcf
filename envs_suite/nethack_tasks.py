"""Tasks of NLE and MiniHack that are in the registry, and what their screens' symbols mean."""

from __future__ import annotations

#: NLE's tasks: name in the registry -> (id of the package, the most steps, whether success is the score).
NLE_TASKS: dict[str, tuple[str, int, bool]] = {
    "score": ("NetHackScore-v0", 5000, False),
    "gold": ("NetHackGold-v0", 5000, False),
    "eat": ("NetHackEat-v0", 5000, False),
    "scout": ("NetHackScout-v0", 5000, False),
    "staircase": ("NetHackStaircase-v0", 5000, True),
    "staircase-pet": ("NetHackStaircasePet-v0", 5000, True),
    "oracle": ("NetHackOracle-v0", 5000, True),
}

_MINIHACK = """
    Room-5x5 100, Room-Random-5x5 100, Room-15x15 300, Room-Random-15x15 300, Room-Dark-15x15 300,
    Room-Monster-15x15 300, Room-Trap-15x15 300, Room-Ultimate-15x15 300, Corridor-R2 1000, Corridor-R3 1000,
    Corridor-R5 1000, KeyRoom-S5 200, KeyRoom-Dark-S5 200, KeyRoom-S15 400, MazeWalk-9x9 200, MazeWalk-15x15 1000,
    MazeWalk-Mapped-9x9 200, CorridorBattle 350, Memento-Short-F2 5000, Memento-F2 5000, Memento-F4 5000,
    River 350, River-Narrow 350, River-Lava 350, HideNSeek 200, HideNSeek-Big 400, ExploreMaze-Easy 500,
    ExploreMaze-Hard 500, Eat 250, Pray 250, Wear 250, LockedDoor 250, LavaCross-Full 250, Quest-Easy 500
"""
#: MiniHack's tasks: name in the registry -> (id of the package, the most steps).
MINIHACK: dict[str, tuple[str, int]] = {
    name.lower(): (f"MiniHack-{name}-v0", int(steps))
    for name, steps in (entry.split() for entry in _MINIHACK.split(","))
}

#: Those whose map is always the same, or one of two or four: the numbers of evaluation give other dice, no other map.
FEW_MAPS = frozenset({"room-5x5", "room-15x15", "memento-short-f2", "memento-f2", "memento-f4"})

#: Kinds of symbols on a map, each a plane of what is seen; what is in none belongs to the last, things.
SYMBOLS: tuple[str, ...] = (
    " ",  # dark, or rock
    ".",  # floor, or an open doorway
    "|-",  # walls, open doors
    "#",  # corridors
    "+",  # doors, spellbooks
    "<",
    ">",
    "^",  # traps
    "{}",  # fountains, water, lava
    "_\\",  # altars, thrones
    "@",  # people
    "abcdefghijklmnopqrstuvwxyz",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "&;:'~",  # demons, sea monsters, lizards, golems, worms' tails
    "0`",  # iron balls, boulders
)
