"""NetHack (package nle 1.3.0) and MiniHack (package minihack 1.0.2): a view of the map, numbers and words.

An episode plays one dungeon, fixed by a number that both of NetHack's generators are seeded with; NetHack's own
reseeding is off, and so is its calendar (moon and Friday the 13th come from the seed).

* **Actions**: those of the package's task.
* **Observation**, a dict: ``view`` uint8, flat 0 or 1, the cells around the agent (``view`` to a side) as planes: a
  kind of symbol (:data:`envs_suite.nethack_tasks.SYMBOLS`, or a thing) and the four bits of its colour; ``stats``
  float32 (25,), the status line's numbers as ``sign(v) log(1 + abs(v)) / 5``, and ``message`` float32 (64,), which of 64
  buckets the words of the message fall into (CRC-32 of each word in lower case).
* **Reward**: the package's own.
* **Ends**: terminated when the task or the character ends, truncated when the steps run out.
* **Metrics**: ``success`` (the task's goal was reached), ``depth`` and ``score`` (NetHack's points), at the end. The
  package says "successful" of any end that a task's events bring about, Memento's trap of -1 among them; a success
  is one that was paid.

Dungeons are split between training and evaluation by the hash of (task, number), which leaves tasks with few maps
(`FEW_MAPS`) without one that training never sees; evaluation task i is fixed.
Differences from the papers' agents: they see the whole map as embedded glyphs, a crop of it, and the message as
letters.
"""

from __future__ import annotations

import functools
import warnings
import zlib
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from amago.errors import ConfigurationError
from amago.registry import nearest
from envs_suite.nethack_tasks import SYMBOLS
from envs_suite.optional import need
from envs_suite.tasks import draw_until, eval_generator, is_eval_task
from envs_suite.vector import metric_key, single_task_index

PLANES = len(SYMBOLS) + 1 + 4
STATS, WORDS = 25, 64
_KEYS = ("chars", "colors", "blstats", "message")
_ROWS, _COLUMNS = 21, 79
#: Places in the status line.
_X, _Y, _POINTS, _DEPTH = 0, 1, 9, 12
_MAX_SEED = 2**31
_NEVER = 10**9
_SUCCESS = 2  # the package's end status when the task is over by one of its own events


@functools.cache
def _kinds() -> np.ndarray:
    """(256,) kind of each symbol."""
    kinds = np.full(256, len(SYMBOLS))
    for kind, symbols in enumerate(SYMBOLS):
        kinds[[ord(symbol) for symbol in symbols]] = kind
    return kinds


@functools.cache
def _bucket(word: str) -> int:
    return zlib.crc32(word.encode()) % WORDS


def buckets(message: str) -> np.ndarray:
    """Which buckets the words of a message fall into: float32 (64,) of 0 and 1."""
    found = np.zeros(WORDS, dtype=np.float32)
    words = "".join(c if c.isalnum() else " " for c in message.lower()).split()
    found[[_bucket(word) for word in words]] = 1.0
    return found


def planes(chars: np.ndarray, colours: np.ndarray, x: int, y: int, size: int) -> np.ndarray:
    """The cells around (x, y): uint8 (size * size * PLANES,) of 0 and 1.

    Args:
        chars, colours: (21, 79) uint8; beyond them all is dark.
        x, y: column and row of the agent.
        size: cells to a side, odd.
    """
    half = size // 2
    seen = np.zeros((2, size, size), dtype=np.int64)
    seen[0] = ord(" ")
    top, left = y - half, x - half
    rows = slice(max(top, 0), min(top + size, _ROWS))
    columns = slice(max(left, 0), min(left + size, _COLUMNS))
    inside = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
    seen[0][inside], seen[1][inside] = chars[rows, columns], colours[rows, columns]
    out = np.zeros((size, size, PLANES), dtype=np.uint8)
    np.put_along_axis(out, _kinds()[seen[0]][..., None], 1, axis=2)
    out[..., -4:] = seen[1][..., None] >> np.arange(4) & 1
    return out.reshape(-1)


def is_success(end_status: int, reward: float) -> bool:
    """Whether an episode that ended so, with this last reward, reached its task's goal."""
    return end_status == _SUCCESS and reward > 0


def is_eval_dungeon(task: str, number: int) -> bool:
    """Whether a dungeon belongs to the evaluation split."""
    return is_eval_task(b"nethack", task.encode(), str(number).encode())


class NetHackTask(gym.Env):
    """A task of NLE or MiniHack; see the module's docstring.

    Args:
        task: id of the package, such as "NetHackScore-v0" or "MiniHack-Room-5x5-v0".
        steps: after which an episode is truncated.
        view: cells to a side that are seen, odd.
        character: role, race, gender and alignment, such as "mon-hum-neu-mal", or "@" for any; None for the task's own.
        split: "train" or "eval": which dungeons are used.

    Raises:
        ConfigurationError: an unknown task, an even or too large view, no step, or nle or minihack is not installed.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]
    takes_task_index = True

    def __init__(
        self, task: str, steps: int, view: int = 9, character: str | None = None, split: str = "train"
    ) -> None:
        if view % 2 == 0 or not 3 <= view <= _ROWS:
            raise ConfigurationError(f"NetHackTask.view must be odd, from 3 to {_ROWS}, got {view}")
        if steps < 1:
            raise ConfigurationError(f"NetHackTask.steps must be at least 1, got {steps}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            need("minihack" if task.startswith("MiniHack") else "nle", task, "nethack")
            if task not in gym.registry:
                known = sorted(name for name in gym.registry if name.startswith(("NetHack", "MiniHack")))
                raise ConfigurationError(
                    f"neither nle nor minihack has a task {task!r}; {nearest(task, known)}"
                )
            own: dict[str, Any] = {} if character is None else {"character": character}
            made: Any = gym.make(
                task,
                disable_env_checker=True,
                observation_keys=_KEYS,
                save_ttyrec_every=0,
                fix_moon_phase=True,
                **own,
            )
        self.task, self.steps, self.size, self.split = task, steps, view, split
        self.env: Any = made.unwrapped
        self.env._max_episode_steps = _NEVER  # counted here, because it ends a step late and as a loss
        self.observation_space = spaces.Dict(
            {
                "view": spaces.Box(0, 1, (view * view * PLANES,), dtype=np.uint8),
                "stats": spaces.Box(-10.0, 10.0, (STATS,), dtype=np.float32),
                "message": spaces.Box(0.0, 1.0, (WORDS,), dtype=np.float32),
            }
        )
        self.action_space = spaces.Discrete(int(self.env.action_space.n))

    def _draw(self, task_index: int | None) -> int:
        rng = self.np_random if task_index is None else eval_generator(task_index, 1987)
        wanted = task_index is not None or self.split == "eval"
        return draw_until(
            lambda: int(rng.integers(_MAX_SEED)), lambda n: is_eval_dungeon(self.task, n) == wanted, "dungeon"
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        super().reset(seed=seed)
        self.dungeon = self._draw(single_task_index(options))
        self.env.seed(core=self.dungeon, disp=self.dungeon, reseed=False)
        raw, _ = self.env.reset()
        self.t = 0
        return self._observation(raw), {}

    def step(self, action: int) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        raw, reward, terminated, _, own = self.env.step(int(action))
        obs = self._observation(raw)
        self.t += 1
        truncated = not terminated and self.t >= self.steps
        info = {}
        if terminated or truncated:
            named = {
                "success": float(is_success(int(own["end_status"]), float(reward))),
                "depth": float(self.last["depth"]),
                "score": float(self.last["score"]),
            }
            info = {metric_key(name): value for name, value in named.items()}
        return obs, float(reward), bool(terminated), truncated, info

    def _observation(self, raw: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        stats = raw["blstats"][:STATS].astype(np.float64)
        x, y = int(stats[_X]), int(stats[_Y])
        self.last = {"depth": stats[_DEPTH], "score": stats[_POINTS]}
        return {
            "view": planes(raw["chars"], raw["colors"], x, y, self.size),
            "stats": (np.sign(stats) * np.log1p(np.abs(stats)) / 5).astype(np.float32),
            "message": buckets(bytes(raw["message"]).partition(b"\0")[0].decode("latin-1")),
        }

    def close(self) -> None:
        self.env.close()
