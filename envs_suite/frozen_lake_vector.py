"""The vectorised form of Meta-FrozenLake: look-ups in tables that all instances share.

A cell is x * n + y; one more, with the number n * n, is the start when an attempt has just begun: what follows
from it is what follows from the start, and only the observation tells the two apart.
"""

from __future__ import annotations

import numpy as np
from gymnasium import spaces

from envs_suite.ahead import Ahead
from envs_suite.frozen_lake import (
    HOLE_COST,
    MOVES,
    LakeRules,
    draw_candidates,
    draw_episode,
    is_eval_map,
    observation_space,
    solvable,
)
from envs_suite.tasks import draw_until
from envs_suite.vector import BatchedEnv, Moved

#: Maps that an instance draws at once, good and bad.
_CANDIDATES = 128


class MetaFrozenLakeVector(BatchedEnv):
    """N lakes with the dynamics of :class:`envs_suite.frozen_lake.MetaFrozenLake`.

    Args:
        num_envs: N.
        size, k_episodes, hard_mode, recover_mode, slip, split: see the single form.
    """

    def __init__(
        self,
        num_envs: int,
        size: int,
        k_episodes: int = 10,
        hard_mode: bool = False,
        recover_mode: bool = False,
        slip: float = 0.0,
        split: str = "train",
    ) -> None:
        super().__init__(num_envs, observation_space(), spaces.Discrete(5))
        self.rules = rules = LakeRules(size, k_episodes, hard_mode, recover_mode, slip, split)
        n, horizon = num_envs, rules.horizon
        self._goal, self._begun, self._cells = size * size - 1, size * size, size * size + 1
        self._lake_row = np.arange(n) * self._cells  # where an instance's cells begin in flat arrays
        self._time_row = np.arange(n) * (horizon + 1)
        self._columns = np.arange(n)
        self._names = [f"success_attempt_{i}" for i in range(k_episodes)]
        self._after = _transitions(size)
        self._seen = _observations(size, k_episodes)
        self.cell = np.full(n, self._begun)
        self._shown = np.zeros(n, dtype=np.int64)  # attempts done, times the cells: the row in `_seen`
        self._last_step = np.zeros(n, dtype=np.int64)  # the clock when the attempt's time is up
        self._order = np.zeros(n, dtype=np.int64)  # where the instance's order of actions begins in `_after`
        self.t = np.zeros(n, dtype=np.int64)  # counted where a table has a row for every step
        self._lake = np.zeros((n, self._cells), dtype=bool)
        self.holes = self._lake.copy() if hard_mode else self._lake
        self.successes = np.zeros((k_episodes, n))
        # Tables that the rules never read are not kept.
        self.slips = np.zeros((n, horizon + 1), dtype=np.int8) if slip > 0 else None
        self.opens = np.zeros((n, horizon + 1), dtype=bool) if hard_mode else None
        self.displaced = np.zeros((n, horizon + 1, 2), dtype=np.int8) if hard_mode else None
        # Without hard mode and slip nothing is drawn but maps, so that many can be drawn at once.
        self._only_maps = not hard_mode and slip == 0
        self._ahead = Ahead(n, self._draw_ahead)

    @property
    def lake(self) -> np.ndarray:
        """(N, n, n) bool: holes at the start of each attempt."""
        return self._lake[:, :-1].reshape(self.num_envs, self.rules.size, self.rules.size)

    @property
    def swapped(self) -> np.ndarray:
        """(N,) bool: actions 1 and 3 are swapped."""
        return self._order > 0

    def _draw(self, i: int, rng: np.random.Generator, task_index: int | None) -> None:
        ahead = self._ahead.take(i, rng) if self._only_maps and task_index is None else None
        if ahead is not None:
            self._lake[i, :-1] = ahead
            return
        episode = draw_episode(self.rules, rng, task_index)
        self._lake[i, :-1] = episode.holes.ravel()
        self._order[i] = 5 * self._cells if episode.swapped else 0
        if self.slips is not None:
            self.slips[i, :-1] = episode.slips
        if self.opens is not None and self.displaced is not None:
            self.opens[i, :-1] = episode.opens
            self.displaced[i] = episode.displaced

    def _draw_ahead(self, rng: np.random.Generator) -> list[np.ndarray]:
        """The good maps among the next candidates, flat."""
        wanted = self.rules.split == "eval"

        def draw() -> list[np.ndarray]:
            candidates = draw_candidates(rng, self.rules.size, _CANDIDATES)
            return [m.ravel() for m in candidates[all_solvable(candidates)] if is_eval_map(m) == wanted]

        return draw_until(draw, bool, "solvable lake")

    def _begin(self, who: np.ndarray) -> None:
        self.cell[who] = self._begun
        self._shown[who] = 0
        self._last_step[who] = self._clock + self.rules.attempt_limit
        self.successes[:, who] = 0.0
        self.t[who] = 0
        if self.rules.hard_mode:
            self.holes[who] = self._lake[who]

    def _move(self, actions: np.ndarray) -> Moved:
        rules = self.rules
        chosen = 5 * self.cell
        if self.slips is not None:
            slip = self.slips.ravel()[self._time_row + self.t]
            actions = np.where((slip > 0) & (actions > 0), slip, actions)
        chosen += actions
        if rules.hard_mode:
            chosen += self._order
        target = self._after[chosen]
        # A hole never lies below the agent, so that one which did not move does not fall.
        fell = self.holes.ravel()[self._lake_row + target]
        reached = target == self._goal
        rewards = reached.astype(np.float32)
        over = self._last_step == self._clock
        over |= reached
        if rules.recover_mode:
            rewards[fell] = HOLE_COST
            np.copyto(target, self._here(), where=fell)
        else:
            over |= fell
        if self.opens is not None:
            self._open_holes(target, over)
        if np.count_nonzero(reached):
            self.successes[self._shown[reached] // self._cells, self._columns[reached]] = 1.0
        if self.slips is not None or self.opens is not None:
            self.t += 1
        np.copyto(target, self._begun, where=over)
        np.copyto(self._last_step, self._clock + rules.attempt_limit, where=over)
        np.add(self._shown, self._cells, out=self._shown, where=over)
        self.cell = target
        terminated = self._shown == self._cells * rules.k_episodes
        return rewards, terminated, self._metrics() if np.count_nonzero(terminated) else {}

    def _here(self) -> np.ndarray:
        """Where the agents stand (N,), the start being the start."""
        return np.where(self.cell == self._begun, 0, self.cell)

    def _open_holes(self, target: np.ndarray, over: np.ndarray) -> None:
        """Hard mode: holes behind those who moved; all as it was where the attempt is over."""
        assert self.opens is not None
        here = self._here()
        behind = self.opens.ravel()[self._time_row + self.t] & (target != here)
        self.holes.ravel()[(self._lake_row + here)[behind]] = True
        self.holes[over] = self._lake[over]

    def _metrics(self) -> dict[str, np.ndarray]:
        by_attempt = self.successes.copy()
        named = dict(zip(self._names, by_attempt, strict=True))
        named["success"] = np.add.reduce(by_attempt, axis=0) / self.rules.k_episodes
        named["success_last"] = by_attempt[-1]
        return named

    def _observe(self) -> np.ndarray:
        obs = self._seen[self._shown + self.cell].view(np.float32).reshape(self.num_envs, 4)
        if self.displaced is not None:
            n = self.rules.size
            shift = self.displaced.reshape(-1, 2)[self._time_row + self.t]
            x, y = np.divmod(self._here(), n)
            obs[:, 0] = np.clip(x + shift[:, 0], 0, n - 1) / n
            obs[:, 1] = np.clip(y + shift[:, 1], 0, n - 1) / n
        return obs


def all_solvable(holes: np.ndarray) -> np.ndarray:
    """:func:`envs_suite.frozen_lake.solvable` for many maps (K, n, n): (K,) bool."""
    count, n, _ = holes.shape
    if n > 8:
        return np.array([solvable(m) for m in holes])
    # A map is a word with a bit for every cell; each turn floods all neighbours of what is reached.
    bit = np.uint64(1) << np.arange(n * n, dtype=np.uint64)
    free = (~holes.reshape(count, -1)).astype(np.uint64) @ bit
    columns = np.arange(n * n) % n
    not_first, not_last = bit[columns > 0].sum(), bit[columns < n - 1].sum()
    one, row = np.uint64(1), np.uint64(n)
    reached = np.ones(count, dtype=np.uint64)
    while True:
        wider = reached | reached << row | reached >> row
        wider |= (reached & not_last) << one
        wider |= (reached & not_first) >> one
        wider &= free
        if (wider == reached).all():
            return (reached & bit[-1]) > 0
        reached = wider


def _transitions(size: int) -> np.ndarray:
    """Flat [whether actions are swapped, cell, action]: the cell that follows."""
    place = np.stack(np.divmod(np.arange(size * size), size), axis=-1)
    place = np.concatenate([place, place[:1]])  # an attempt's begin is at the start
    after = np.clip(place[None, :, None] + MOVES[:, None], 0, size - 1)
    return (after[..., 0] * size + after[..., 1]).ravel()


def _observations(size: int, attempts: int) -> np.ndarray:
    """Flat [attempts done, cell]: the four float32 of an observation, as one complex128 to look up at once."""
    x, y = np.divmod(np.arange(size * size), size)
    seen = np.zeros((attempts + 1, size * size + 1, 4), dtype=np.float32)
    seen[:, :-1, 0], seen[:, :-1, 1] = x / size, y / size
    seen[:, -1, 2] = 1.0
    seen[..., 3] = (np.arange(attempts + 1) / attempts)[:, None]
    return seen.reshape(-1, 4).view(np.complex128).ravel()
