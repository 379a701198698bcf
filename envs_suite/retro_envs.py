"""Games of consoles (package stable-retro 1.0.1, MIT; its cores have licences of their own).

The package brings the ROM of one game, Airstriker (Sega Genesis); others are a user's own, brought in by
``python -m stable_retro.import FOLDER``.

* **Actions**: MultiBinary, one for each of the console's buttons; impossible combinations are left out.
* **Observation** uint8 (size, size, 3), or 1 without colour: channels last.
* **Reward**: what the game's scenario says, summed over ``frame_skip`` frames.
* **Ends**: terminated when the scenario says so, truncated after ``frames`` frames.

A game from one state is the same every time. What differs between episodes is how long nothing is pressed at
first: from 0 to ``idle`` frames, from the reset's generator (evaluation episode i: i mod (``idle`` + 1)).

A process can have one emulator. All instances of a process share it: whoever steps puts its own machine state
in first (some 60 microseconds). So they must play one game, and one whose scenario is no script, which would keep
something of its own.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from amago.errors import ConfigurationError
from amago.registry import nearest
from envs_suite.frames import Shrink
from envs_suite.optional import need
from envs_suite.vector import single_task_index


def find_game(game: str, state: str = "") -> None:
    """See that ``game`` is known and has its ROM, and ``state`` ("" for its own beginning).

    Raises:
        ConfigurationError: it is not, or has not; one line with the way out.
    """
    data = _package().data
    known = sorted(data.list_games())
    if game not in known:
        raise ConfigurationError(f"stable-retro has no game {game!r}; {nearest(game, known)}")
    try:
        data.get_romfile_path(game)
    except FileNotFoundError:
        raise ConfigurationError(
            f"the ROM of {game!r} is missing: stable-retro brings only Airstriker-Genesis-v0; bring in your own "
            "with: .venv-atari/bin/python -m stable_retro.import FOLDER"
        ) from None
    states = sorted(data.list_states(game))
    if state and state not in states:
        raise ConfigurationError(f"{game!r} has no state {state!r}; {nearest(state, states)}")


def _package() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return need("stable_retro", "a console's game", "atari")


class _Console:
    """The one emulator of this process, and whose machine state is in it."""

    current: ClassVar[_Console | None] = None

    def __init__(self, game: str, state: str) -> None:
        package = _package()
        scenario = package.data.get_file_path(game, "scenario.json")
        self.scripted = bool(json.loads(Path(scenario).read_text()).get("scripts")) if scenario else False
        self.game, self.state, self.users = game, state, 0
        own = {"state": state} if state else {}
        self.env = package.make(
            game, use_restricted_actions=package.Actions.FILTERED, render_mode=None, **own
        )
        self.inside: object | None = None

    @classmethod
    def take(cls, game: str, state: str) -> _Console:
        """The emulator with this game, for one more user.

        Raises:
            ConfigurationError: another game is in it, or its scenario cannot be shared.
        """
        console = cls.current
        if console is None:
            console = cls.current = cls(game, state)
        if (console.game, console.state) != (game, state):
            raise ConfigurationError(
                f"stable-retro can play one game in a process: {console.game!r} is in the emulator, close it before "
                f"{game!r}"
            )
        if console.scripted and console.users:
            raise ConfigurationError(
                f"the scenario of {game!r} is a script, which several actors cannot share: use env_mode async"
            )
        console.users += 1
        return console

    def leave(self) -> None:
        """One user fewer; the last one turns it off."""
        self.users -= 1
        if self.users == 0:
            self.env.close()
            _Console.current = None


class RetroGame(gym.Env):
    """A game of stable-retro; see the module's docstring.

    Args:
        game: such as "Airstriker-Genesis-v0".
        state: where it starts; "" for the game's own beginning.
        size: of the observation's side, pixels.
        colour: three channels instead of one.
        frame_skip: frames of a step.
        frames: after which an episode is truncated.
        idle: most frames at the start that nothing is pressed.

    Raises:
        ConfigurationError: an unknown game or state, a missing ROM, sizes that cannot be, or a second game.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]
    takes_task_index = True

    def __init__(
        self,
        game: str = "Airstriker-Genesis-v0",
        state: str = "",
        size: int = 84,
        colour: bool = True,
        frame_skip: int = 4,
        frames: int = 18_000,
        idle: int = 30,
    ) -> None:
        if not 1 <= size <= 160 or min(frame_skip, frames) < 1 or idle < 0:
            raise ConfigurationError(
                "RetroGame needs a size from 1 to 160, at least one frame a step and an episode, and no negative idle"
            )
        find_game(game, state)
        self._console: _Console | None = _Console.take(game, state)
        env = self._console.env
        self.colour, self.frame_skip, self.frames_limit, self.idle = colour, frame_skip, frames, idle
        height, width, _ = env.observation_space.shape
        self._shrink = Shrink(height, width, size)
        self._machine: bytes | None = None
        self.observation_space = spaces.Box(0, 255, (size, size, 3 if colour else 1), dtype=np.uint8)
        self.action_space = spaces.MultiBinary(env.action_space.n)

    @contextmanager
    def _turn(self) -> Iterator[Any]:
        """The emulator with this instance's machine state in it."""
        console = self._console
        if console is None:
            raise ConfigurationError("this RetroGame was closed; make another")
        if console.inside is not self:
            other = console.inside
            if isinstance(other, RetroGame):
                other._machine = console.env.em.get_state()
            console.inside = self
            if self._machine is not None:
                console.env.em.set_state(self._machine)
                # Rewards are differences to the frame before: let that be this one.
                console.env.data.reset()
                console.env.data.update_ram()
        yield console.env

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        index = single_task_index(options)
        drawn = int(self.np_random.integers(self.idle + 1))
        wait = drawn if index is None else index % (self.idle + 1)
        with self._turn() as env:
            screen, _ = env.reset()
            nothing = np.zeros(env.action_space.n, dtype=np.int8)
            for _ in range(wait):
                screen, *_ = env.step(nothing)
        self.frames = 0
        return self._observation(screen), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        reward, terminated = 0.0, False
        pressed = np.asarray(action, dtype=np.int8)
        with self._turn() as env:
            for _ in range(self.frame_skip):
                screen, gained, terminated, _, _ = env.step(pressed)
                reward += float(gained)
                self.frames += 1
                if terminated or self.frames >= self.frames_limit:
                    break
        truncated = not terminated and self.frames >= self.frames_limit
        return self._observation(screen), reward, bool(terminated), truncated, {}

    def _observation(self, screen: np.ndarray) -> np.ndarray:
        if not self.colour:
            # Luma of ITU-R BT.601 in whole numbers.
            weighted = screen.astype(np.int32) @ np.array([299, 587, 114], dtype=np.int32)
            screen = ((weighted + 500) // 1000).astype(np.uint8)
        return self._shrink(screen)

    def close(self) -> None:
        if self._console is not None:
            if self._console.inside is self:
                self._console.inside = None
            self._console.leave()
            self._console = None
