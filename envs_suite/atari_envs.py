"""Atari 2600 games (package ale-py 0.12.1, GPL-2.0, with its ROMs), one or many, rewards as they are.

An episode draws one of the given games and plays it to its end. Every step presses one action for ``frame_skip``
frames; the observation is the brighter of the last two frames at each pixel (sprites flicker), made smaller. The
protocol is that of Machado et al. 2018 (arXiv 1709.06009): sticky actions (each frame repeats the previous
action with probability 0.25), all 18 actions, no end at the loss of a life, no idle start.

* **Actions** (18): those of the joystick and its button; a single game can offer only those that it uses.
* **Observation** uint8 (size, size, 1), or 3 in colour: channels last.
* **Reward**: the game's own, never clipped.
* **Ends**: terminated when the game is over, truncated after ``frames`` frames.
* **Metrics**: ``human_normalised``, the return on the scale where random play is 0 and a professional tester 1
  (:mod:`envs_suite.atari_games`), and ``game``, the number of the game in the order given.

Evaluation episode i plays game i mod (number of games). The emulator's only chance, the sticky actions, comes
from the reset's generator; the ROM is loaded anew for every episode (some 50 ms).

Differences from AMAGO's ``AtariGame``: greyscale by default and channels last, both kinds of frames are the
brighter of the last two, resizing is exact area averaging, and games are drawn from the reset's generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from amago.errors import ConfigurationError
from amago.registry import nearest
from envs_suite.atari_games import GAMES
from envs_suite.frames import Shrink
from envs_suite.optional import need
from envs_suite.tasks import eval_generator
from envs_suite.vector import metric_key, single_task_index

ACTIONS = 18
_MAX_SEED = 2**31


def find_rom(game: str) -> Path:
    """Where the ROM of ``game`` lies.

    Raises:
        ConfigurationError: no such game, or no such file; one line.
    """
    roms = need("ale_py.roms", "Atari", "atari")
    known = sorted(roms.get_all_rom_ids())
    if game not in known:
        raise ConfigurationError(f"ale-py has no game {game!r}; {nearest(game, known)}")
    path = roms.get_rom_path(game)
    if path is None or not Path(path).is_file():
        raise ConfigurationError(
            f"the ROM of Atari game {game!r} is missing ({path}); install ale-py again with: make family-atari"
        )
    return Path(path)


class AtariGames(gym.Env):
    """Games of the Arcade Learning Environment; see the module's docstring.

    Args:
        games: names of ROMs, such as "pong".
        size: of the observation's side, pixels.
        colour: three channels instead of one.
        frame_skip: frames of a step.
        sticky: probability with which a frame repeats the previous action.
        frames: after which an episode is truncated.
        minimal_actions: offer only what the game uses; for a single game.

    Raises:
        ConfigurationError: no game, an unknown one or one without ROM, or sizes that cannot be.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]
    takes_task_index = True

    def __init__(
        self,
        games: Sequence[str],
        size: int = 84,
        colour: bool = False,
        frame_skip: int = 4,
        sticky: float = 0.25,
        frames: int = 108_000,
        minimal_actions: bool = False,
    ) -> None:
        if not games:
            raise ConfigurationError("AtariGames needs at least one game")
        if not 1 <= size <= 160:
            raise ConfigurationError(f"AtariGames.size must be from 1 to 160 pixels, got {size}")
        if frame_skip < 1 or frames < 1:
            raise ConfigurationError(
                f"AtariGames needs at least one frame a step and an episode, got {frame_skip} and {frames}"
            )
        if minimal_actions and len(games) > 1:
            raise ConfigurationError(
                "AtariGames.minimal_actions needs a single game: others use other actions"
            )
        ale_py = need("ale_py", "Atari", "atari")
        self.games = tuple(games)
        self._roms = [find_rom(game) for game in self.games]
        self.colour, self.frame_skip, self.frames_limit = colour, frame_skip, frames
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self.ale = ale_py.ALEInterface()
        self.ale.setFloat("repeat_action_probability", sticky)
        self.ale.setInt("frame_skip", 1)
        self.ale.setBool("sound", False)
        self.ale.setInt("random_seed", 0)
        self.ale.loadROM(self._roms[0])
        self._actions = self.ale.getMinimalActionSet() if minimal_actions else self.ale.getLegalActionSet()
        self._shrinks: dict[tuple[int, ...], Shrink] = {}
        self.size = size
        self.observation_space = spaces.Box(0, 255, (size, size, 3 if colour else 1), dtype=np.uint8)
        self.action_space = spaces.Discrete(len(self._actions))
        self.number = 0

    @property
    def game(self) -> str:
        """The game of this episode."""
        return self.games[self.number]

    @property
    def task_name(self) -> str | None:
        """The game, where there are several."""
        return self.game if len(self.games) > 1 else None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        index = single_task_index(options)
        rng = self.np_random if index is None else eval_generator(index, len(self.games), 2600)
        drawn = int(rng.integers(len(self.games)))
        self.number = drawn if index is None else index % len(self.games)
        self.ale.setInt("random_seed", int(rng.integers(1, _MAX_SEED)))
        self.ale.loadROM(self._roms[self.number])
        self.ale.reset_game()
        self.frames, self.total = 0, 0.0
        return self._observation(self._screen()), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        pressed = self._actions[int(action)]
        reward = 0.0
        before = None
        for frame in range(self.frame_skip):
            if frame == self.frame_skip - 1 and frame > 0:
                before = self._screen()
            reward += float(self.ale.act(pressed))
            self.frames += 1
            if self.ale.game_over() or self.frames >= self.frames_limit:
                break
        screen = self._screen()
        if before is not None:
            np.maximum(screen, before, out=screen)
        self.total += reward
        terminated = bool(self.ale.game_over())
        truncated = not terminated and self.frames >= self.frames_limit
        info = self._metrics() if terminated or truncated else {}
        return self._observation(screen), reward, terminated, truncated, info

    def _metrics(self) -> dict[str, Any]:
        named = {"game": float(self.number)}
        if self.game in GAMES:
            low, high = GAMES[self.game]
            named["human_normalised"] = (self.total - low) / (high - low)
        return {metric_key(name): value for name, value in named.items()}

    def _screen(self) -> np.ndarray:
        return self.ale.getScreenRGB() if self.colour else self.ale.getScreenGrayscale()

    def _observation(self, screen: np.ndarray) -> np.ndarray:
        shape = screen.shape[:2]
        if shape not in self._shrinks:
            self._shrinks[shape] = Shrink(shape[0], shape[1], self.size)
        return self._shrinks[shape](screen)
