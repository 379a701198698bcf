"""Players of Symbolic Alchemy that learn nothing between episodes: yardsticks for agents that do.

* :class:`RandomHeuristic` (the paper's): random potions on stones that are not yet the best, then the positive
  stones into the cauldron. It knows the rules, not the chemistry.
* :class:`PosteriorPlayer`: an exact posterior over all 167,424 chemistries from what was seen, and plans that
  are optimal for a chemistry drawn from it. Not the paper's ideal observer, which searches over the
  outcomes of every action and takes minutes an episode, but the same knowledge.
* :class:`Oracle` (the paper's): is told the chemistry and plans each trial exactly; the best possible score.

All act on the observation of :mod:`envs_suite.alchemy`, one game at a time.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from envs_suite.alchemy import POTION_FEATURES, POTIONS, STONE_FEATURES, STONES, TARGETS
from envs_suite.alchemy_chemistry import (
    AXES,
    COLOURS,
    GRAPHS,
    NODES,
    POTION_MAPS,
    ROTATIONS,
    STONE_MAPS,
    VALUES,
    Chemistry,
    graph_edges,
    graph_prior,
    perceived_coordinates,
    potion_effects,
)

_LOOKS = 3**AXES
NO_OP = 0


@dataclass(frozen=True)
class Option:
    """A way to use one stone: worth ``value``, by dipping it into potions of these effects, in order.

    Effect 2 a + 1 moves along axis a towards +1, 2 a towards -1.
    """

    value: int
    effects: tuple[int, ...]

    @functools.cached_property
    def counts(self) -> tuple[int, ...]:
        """How many potions of each effect it takes, (6,)."""
        return tuple(self.effects.count(effect) for effect in range(COLOURS))


@functools.cache
def options(graph: int, start: int) -> tuple[tuple[Option, ...], np.ndarray, np.ndarray]:
    """Every way to use a stone that no other way beats, with their values (k,) and counts (k, 6).

    A stone that is worth less than nothing is left out of the cauldron. Visiting a node twice only wastes
    potions, so paths that do not are enough.
    """
    edges = graph_edges()[graph]
    found: dict[tuple[int, ...], Option] = {}

    def walk(node: int, seen: frozenset[int], effects: tuple[int, ...]) -> None:
        option = Option(max(int(VALUES[node]), 0), effects)
        if option.counts not in found or found[option.counts].value < option.value:
            found[option.counts] = option
        for axis in range(AXES):
            other = node ^ (1 << axis)
            if edges[node, axis] and other not in seen:
                walk(other, seen | {other}, (*effects, 2 * axis + (other >> axis & 1)))

    walk(start, frozenset({start}), ())

    def beaten(one: Option) -> bool:
        return any(
            other is not one
            and other.value >= one.value
            and all(a <= b for a, b in zip(other.counts, one.counts, strict=True))
            for other in found.values()
        )

    kept = tuple(option for option in found.values() if not beaten(option))
    return kept, np.array([o.value for o in kept]), np.array([o.counts for o in kept])


def plan(graph: int, nodes: Sequence[int], supply: Sequence[int]) -> tuple[int, list[Option]]:
    """The best use of stones and potions when the chemistry is known, exactly.

    Args:
        graph: index of the graph.
        nodes: latent node of each stone.
        supply: (6,) potions of each effect.

    Returns:
        the sum of values, and each stone's option.
    """
    values, counts = np.zeros(1), np.zeros((1, COLOURS), dtype=np.int64)
    picks = np.zeros((1, 0), dtype=np.int64)
    for node in nodes:
        _, own_values, own_counts = options(graph, node)
        together = counts[:, None] + own_counts
        fits = (together <= np.asarray(supply)).all(axis=2)
        first, own = np.nonzero(fits)
        values = values[first] + own_values[own]
        counts = together[first, own]
        picks = np.column_stack([picks[first], own])
    # Among equals the plan that takes the fewest potions, so that none are wasted.
    best = np.lexsort((counts.sum(axis=1), -values))[0]
    chosen = [options(graph, node)[0][k] for node, k in zip(nodes, picks[best], strict=True)]
    return int(values[best]), chosen


@dataclass
class Table:
    """What an observation shows: looks (3,) and values (3,) of stones, colours (12,); -1 / 0 for gone."""

    looks: np.ndarray
    values: np.ndarray
    colours: np.ndarray

    @staticmethod
    def read(observation: np.ndarray) -> Table:
        split = STONES * STONE_FEATURES
        stones = observation[:split].reshape(STONES, STONE_FEATURES)
        potions = observation[split:].reshape(POTIONS, POTION_FEATURES)
        gone = stones[:, 4] > 0.5
        sums = np.rint(stones[:, 3] * 3).astype(int)
        looks = np.where(gone, -1, _look_code(stones[:, :3]))
        values = np.where(gone, 0, np.where(sums == 3, 15, sums))
        colours = np.where(potions[:, 1] > 0.5, -1, np.rint((potions[:, 0] + 1) * 3)).astype(int)
        return Table(looks, values, colours)

    def cash(self, at_least: int = 1) -> int | None:
        """The action that puts a positive stone into the cauldron, if there is one."""
        slots = np.flatnonzero((self.looks >= 0) & (self.values >= at_least))
        return 1 + int(slots[0]) * TARGETS if len(slots) else None


def _look_code(coordinates: np.ndarray) -> np.ndarray:
    """Perceived coordinates (..., 3) as one number, 0 to 26."""
    return ((np.rint(coordinates).astype(int) + 1) * np.array([1, 3, 9])).sum(axis=-1)


@functools.cache
def _nodes_of_looks() -> np.ndarray:
    """(4, 8, 27) node that has a look: [rotation, stone map, look]; -1 where none has."""
    nodes = np.full((ROTATIONS, STONE_MAPS, _LOOKS), -1)
    codes = _look_code(perceived_coordinates())
    for rotation in range(ROTATIONS):
        for stone_map in range(STONE_MAPS):
            nodes[rotation, stone_map, codes[rotation, stone_map]] = np.arange(NODES)
    return nodes


def dip(slot: int, potion: int) -> int:
    """The action that dips a stone into a potion."""
    return 2 + slot * TARGETS + potion


class Player(Protocol):
    """Plays one game; ``begin`` before the first observation of an episode."""

    def begin(self, chemistry: Chemistry) -> None: ...

    def act(self, observation: np.ndarray) -> int: ...


class RandomHeuristic:
    """See the module's docstring."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)

    def begin(self, chemistry: Chemistry) -> None:
        """Nothing: the chemistry is not looked at."""

    def act(self, observation: np.ndarray) -> int:
        table = Table.read(observation)
        slots = np.flatnonzero((table.looks >= 0) & (table.values < 15))
        potions = np.flatnonzero(table.colours >= 0)
        if len(slots) and len(potions):
            return dip(int(self.rng.choice(slots)), int(self.rng.choice(potions)))
        cash = table.cash()
        return NO_OP if cash is None else cash


class Oracle:
    """See the module's docstring."""

    def begin(self, chemistry: Chemistry) -> None:
        self.chemistry = chemistry

    def act(self, observation: np.ndarray) -> int:
        table = Table.read(observation)
        dips = planned_dips(self.chemistry, table)
        if dips:
            return dip(*dips[0])
        cash = table.cash()
        return NO_OP if cash is None else cash


def planned_dips(chemistry: Chemistry, table: Table) -> list[tuple[int, int]]:
    """The best plan for what lies on the table, as (stone, potion) pairs in order."""
    axis, up = potion_effects()
    effect_of = 2 * axis[chemistry.potion_map] + up[chemistry.potion_map]
    bottles: list[list[int]] = [[] for _ in range(COLOURS)]
    for potion in np.flatnonzero(table.colours >= 0).tolist():
        bottles[effect_of[table.colours[potion]]].append(potion)
    slots = np.flatnonzero(table.looks >= 0).tolist()
    nodes = _nodes_of_looks()[chemistry.rotation, chemistry.stone_map, table.looks[slots]].tolist()
    _, chosen = plan(chemistry.graph, nodes, [len(b) for b in bottles])
    return [
        (slot, bottles[effect].pop())
        for slot, option in zip(slots, chosen, strict=True)
        for effect in option.effects
    ]


class Posterior:
    """The exact posterior over chemistries.

    Attributes:
        graph, potion_map, stone_map, rotation: (H,) indices of the chemistries that are still possible.
        weight: (H,) their prior probabilities, not normalised (what is seen follows from the chemistry).
    """

    def __init__(self) -> None:
        shape = (GRAPHS, POTION_MAPS, STONE_MAPS, ROTATIONS)
        indices = np.indices(shape, dtype=np.uint8).reshape(4, -1)
        self.graph, self.potion_map, self.stone_map, self.rotation = indices
        self.weight = graph_prior()[self.graph]

    def __len__(self) -> int:
        return len(self.weight)

    def _keep(self, possible: np.ndarray) -> None:
        if not possible.all():
            for name in ("graph", "potion_map", "stone_map", "rotation", "weight"):
                setattr(self, name, getattr(self, name)[possible])

    def see_stone(self, look: int, value: int) -> None:
        """A stone looks so and is worth so much."""
        node = _nodes_of_looks()[self.rotation, self.stone_map, look]
        self._keep((node >= 0) & (VALUES[node] == value))

    def see_dip(self, look: int, colour: int, became: int) -> None:
        """A stone of one look was dipped into a colour and then had another look, or the same."""
        axes, ups = potion_effects()
        nodes = _nodes_of_looks()
        node = nodes[self.rotation, self.stone_map, look]
        axis, up = axes[self.potion_map, colour], ups[self.potion_map, colour]
        moves = graph_edges()[self.graph, node, axis] & ((node >> axis & 1) != up)
        after = np.where(moves, node ^ (1 << axis), node)
        self._keep((node >= 0) & (nodes[self.rotation, self.stone_map, became] == after))

    def draw(self, rng: np.random.Generator) -> Chemistry:
        """A chemistry drawn from the posterior."""
        total = np.cumsum(self.weight)
        i = min(int(np.searchsorted(total, rng.random() * total[-1], side="right")), len(total) - 1)
        return Chemistry(*(int(a[i]) for a in (self.graph, self.potion_map, self.stone_map, self.rotation)))


class PosteriorPlayer:
    """See the module's docstring.

    It follows a drawn chemistry's plan until something else happens than the plan said, then draws anew. Where
    a plan has nothing more to gain it draws up to ``looks_again`` more before cashing in; stones that stay
    worthless are dipped into what is left, which costs nothing and tells something.

    Args:
        seed: of its draws.
        looks_again: further chemistries to ask before a trial's stones are cashed.
    """

    def __init__(self, seed: int = 0, looks_again: int = 5) -> None:
        self.rng = np.random.default_rng(seed)
        self.looks_again = looks_again

    def begin(self, chemistry: Chemistry) -> None:
        """Forget everything; the chemistry is not looked at."""
        self.posterior = Posterior()
        self.believed: Chemistry | None = None
        self.last: tuple[Table, int, int] | None = None

    def _learn(self, table: Table) -> None:
        possible = len(self.posterior)
        if self.last is not None:
            before, slot, potion = self.last
            # A potion that is back means that a new trial was laid out: the outcome went unseen.
            if table.colours[potion] < 0:
                self.posterior.see_dip(
                    int(before.looks[slot]), int(before.colours[potion]), int(table.looks[slot])
                )
        for look, value in zip(table.looks.tolist(), table.values.tolist(), strict=True):
            if look >= 0:
                self.posterior.see_stone(look, value)
        self.last = None
        if len(self.posterior) < possible and not self._still_believed():
            self.believed = None

    def _still_believed(self) -> bool:
        p, b = self.posterior, self.believed
        return b is not None and bool(
            (
                (p.graph == b.graph)
                & (p.potion_map == b.potion_map)
                & (p.stone_map == b.stone_map)
                & (p.rotation == b.rotation)
            ).any()
        )

    def act(self, observation: np.ndarray) -> int:
        table = Table.read(observation)
        self._learn(table)
        for _ in range(1 + self.looks_again):
            if self.believed is None:
                self.believed = self.posterior.draw(self.rng)
            dips = planned_dips(self.believed, table)
            if dips:
                return self._dip(table, *dips[0])
            if len(self.posterior) == 1:
                break
            self.believed = None
        cash = table.cash()
        if cash is not None:
            return cash
        slots, potions = np.flatnonzero(table.looks >= 0), np.flatnonzero(table.colours >= 0)
        if len(slots) and len(potions) and len(self.posterior) > 1:
            return self._dip(table, int(self.rng.choice(slots)), int(self.rng.choice(potions)))
        return NO_OP

    def _dip(self, table: Table, slot: int, potion: int) -> int:
        self.last = (table, slot, potion)
        return dip(slot, potion)
