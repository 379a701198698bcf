"""Which tasks of MiniGrid and BabyAI (minigrid 3.2.0) the registry offers, and the words that they use."""

from __future__ import annotations

#: id's ending -> (package's id, the most steps of an attempt).
MINIGRID: dict[str, tuple[str, int]] = {
    "blocked-unlock-pickup": ("MiniGrid-BlockedUnlockPickup-v0", 576),
    "door-key-5x5": ("MiniGrid-DoorKey-5x5-v0", 250),
    "door-key-8x8": ("MiniGrid-DoorKey-8x8-v0", 640),
    "dynamic-obstacles-8x8": ("MiniGrid-Dynamic-Obstacles-8x8-v0", 256),
    "empty-8x8": ("MiniGrid-Empty-8x8-v0", 256),
    "fetch-8x8-n3": ("MiniGrid-Fetch-8x8-N3-v0", 320),
    "four-rooms": ("MiniGrid-FourRooms-v0", 100),
    "go-to-door-8x8": ("MiniGrid-GoToDoor-8x8-v0", 256),
    "key-corridor-s3r3": ("MiniGrid-KeyCorridorS3R3-v0", 270),
    "lava-crossing-s9n1": ("MiniGrid-LavaCrossingS9N1-v0", 324),
    "lava-gap-s7": ("MiniGrid-LavaGapS7-v0", 196),
    "memory-s7": ("MiniGrid-MemoryS7-v0", 245),
    "memory-s11": ("MiniGrid-MemoryS11-v0", 605),
    "memory-s13": ("MiniGrid-MemoryS13-v0", 845),
    "memory-s17-random": ("MiniGrid-MemoryS17Random-v0", 1445),
    "multi-room-n2-s4": ("MiniGrid-MultiRoom-N2-S4-v0", 40),
    "multi-room-n4-s5": ("MiniGrid-MultiRoom-N4-S5-v1", 80),
    "multi-room-n6": ("MiniGrid-MultiRoom-N6-v0", 120),
    "red-blue-doors-6x6": ("MiniGrid-RedBlueDoors-6x6-v0", 720),
    "unlock": ("MiniGrid-Unlock-v0", 288),
    "unlock-pickup": ("MiniGrid-UnlockPickup-v0", 288),
}

#: Those with one level (empty) to some tens of thousands (unlock), told apart by map, place, direction and instruction:
#: training comes across most of them, so that evaluation holds none out.
_FEW = """
    door-key-5x5 door-key-8x8 empty-8x8 lava-crossing-s9n1 lava-gap-s7 memory-s7 memory-s11 memory-s13 memory-s17-random
    red-blue-doors-6x6 unlock
"""
FEW_LEVELS = frozenset(_FEW.split())

_SMALL = """
    GoToRedBallGrey-v0 GoToRedBall-v0 GoToRedBallNoDists-v0 GoToObj-v0 GoToObjS4-v0 GoToObjS6-v1
    GoToLocal-v0 GoToLocalS5N2-v0 GoToLocalS6N2-v0 GoToLocalS6N3-v0 GoToLocalS6N4-v0 GoToLocalS7N4-v0
    GoToLocalS7N5-v0 GoToLocalS8N2-v0 GoToLocalS8N3-v0 GoToLocalS8N4-v0 GoToLocalS8N5-v0
    GoToLocalS8N6-v0 GoToLocalS8N7-v0 OpenRedDoor-v0 PickupLoc-v0 PickupDist-v0 PickupDistDebug-v0
    UnlockPickup-v0 UnlockPickupDist-v0 OneRoomS8-v0 GoToObjMazeS4R2-v0 GoToRedBlueBall-v0
"""
_LARGE = """
    GoTo-v0 GoToOpen-v0 GoToObjMaze-v0 GoToObjMazeOpen-v0 GoToObjMazeS4-v0 GoToObjMazeS5-v0
    GoToObjMazeS6-v0 GoToObjMazeS7-v0 GoToImpUnlock-v0 GoToDoor-v0 GoToObjDoor-v0 Open-v0 OpenDoor-v0
    OpenDoorDebug-v0 OpenDoorColor-v0 OpenDoorLoc-v0 OpenRedBlueDoors-v0 Pickup-v0 UnblockPickup-v0
    PickupAbove-v0 Unlock-v0 UnlockLocal-v0 UnlockLocalDist-v0 KeyInBox-v0 BlockedUnlockPickup-v0
    UnlockToUnlock-v0 ActionObjDoor-v0 FindObjS5-v0 FindObjS6-v0 FindObjS7-v0 KeyCorridor-v0
    KeyCorridorS3R1-v0 KeyCorridorS3R2-v0 KeyCorridorS3R3-v0 KeyCorridorS4R3-v0 KeyCorridorS5R3-v0
    KeyCorridorS6R3-v0 OneRoomS12-v0 OneRoomS16-v0 OneRoomS20-v0
"""
#: BabyAI's tasks of one room and one instruction: an attempt takes 72 steps at most.
BABYAI_SMALL = tuple(f"BabyAI-{name}" for name in _SMALL.split())
#: With mazes and longer tasks: all but those of several instructions, as in AMAGO-2. 1,080 steps at most.
BABYAI_TASKS = BABYAI_SMALL + tuple(f"BabyAI-{name}" for name in _LARGE.split())
#: Name -> (tasks, the most steps of an attempt).
BABYAI: dict[str, tuple[tuple[str, ...], int]] = {"all": (BABYAI_TASKS, 1080), "small": (BABYAI_SMALL, 72)}

_WORDS = """
    a after and at avoid ball behind blue box door end fetch find from front get go goal green grey
    hallway in key lava left matching must near next object of on open opening pick purple put reach
    red right room rooms square the then to traverse unlock up use yellow you your
"""
#: Words of all instructions; token = position + 2.
WORDS = tuple(_WORDS.split())
