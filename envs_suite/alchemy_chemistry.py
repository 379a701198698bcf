"""Chemistries of Alchemy (Wang et al. 2021, arXiv 2102.02926): what stones and potions are and do.

A stone is a corner of a cube: latent coordinates (x, y, z), each -1 or +1, numbered 0 to 7 with bit a set
where coordinate a is +1. Its value is x + y + z, and 15 at (+1, +1, +1). A potion has one of six colours, and
each colour moves stones one way along one edge direction of the cube. A chemistry fixes four things:

* **graph**: which of the cube's 12 edges exist. Edges along an axis can demand a value of either other
  coordinate (a bottleneck); of the 9^3 sets of demands the 109 that leave the cube connected are used, with
  the number of demands (0 to 3) uniform and then the set uniform.
* **potion map** (48): which axis each pair of colours moves along, and which colour of a pair goes up.
* **stone map** (8): which way each latent axis looks.
* **rotation** (4): none, or the looks turned by 45 degrees in the plane of two axes (and scaled, so that
  perceived coordinates are -1, 0 or 1).

167,424 chemistries in all, as in the paper.
"""

from __future__ import annotations

import bisect
import functools
import itertools
from dataclasses import dataclass

import numpy as np

from envs_suite.tasks import draw_until, eval_generator, is_eval_task

NODES, COLOURS, AXES = 8, 6, 3
GRAPHS, POTION_MAPS, STONE_MAPS, ROTATIONS = 109, 48, 8, 4

#: (8, 3) latent coordinates of each node, -1 or +1.
COORDINATES = np.array([[1 if node >> axis & 1 else -1 for axis in range(AXES)] for node in range(NODES)])
#: (8,) reward for putting a stone into the cauldron.
VALUES = COORDINATES.sum(axis=1) + 12 * (COORDINATES == 1).all(axis=1)
#: (8,) what the value indicator of a stone shows: the sum of coordinates over its maximum.
INDICATORS = COORDINATES.sum(axis=1) / 3.0

#: The plane that each rotation turns; the first turns none.
_PLANES = (None, (0, 1), (1, 2), (2, 0))
_AXIS_ORDERS = tuple(itertools.permutations(range(AXES)))
_SIGNS = tuple(itertools.product((-1, 1), repeat=AXES))


@dataclass(frozen=True)
class Chemistry:
    """One chemistry, by its four indices."""

    graph: int = 0
    potion_map: int = 0
    stone_map: int = 0
    rotation: int = 0

    @property
    def is_eval(self) -> bool:
        """Whether this chemistry belongs to the evaluation split."""
        return _is_eval((self.graph, self.potion_map, self.stone_map, self.rotation))

    @property
    def looks(self) -> np.ndarray:
        """(8, 4) what each node looks like: three perceived coordinates and the value indicator."""
        return _all_looks()[self.rotation, self.stone_map]

    @property
    def result(self) -> np.ndarray:
        """(8, 6) node that a stone becomes: [node, potion colour] -> node."""
        return _all_results()[self.graph, self.potion_map]


def _is_eval(indices: Indices) -> bool:
    return is_eval_task(b"alchemy", bytes(indices))


def results_of(indices: np.ndarray) -> np.ndarray:
    """(K, 8, 6) results of chemistries that are given by their indices (K, 4); see `Chemistry.result`."""
    return _all_results()[indices[:, 0], indices[:, 1]]


def looks_of(indices: np.ndarray) -> np.ndarray:
    """(K, 8, 4) looks of chemistries that are given by their indices (K, 4); see `Chemistry.looks`."""
    return _all_looks()[indices[:, 3], indices[:, 2]]


@functools.cache
def _all_looks() -> np.ndarray:
    """(4, 8, 8, 4) looks: [rotation, stone map, node]."""
    indicators = np.broadcast_to(INDICATORS[:, None], (ROTATIONS, STONE_MAPS, NODES, 1))
    return np.concatenate([perceived_coordinates(), indicators], axis=3)


@functools.cache
def _all_results() -> np.ndarray:
    """(109, 48, 8, 6) results: [graph, potion map, node, colour]."""
    axis, up = potion_effects()
    edges, nodes = graph_edges(), np.arange(NODES)[:, None]
    found = np.empty((GRAPHS, POTION_MAPS, NODES, COLOURS), dtype=np.int8)
    for potion_map in range(POTION_MAPS):
        bit = 1 << axis[potion_map]
        uphill = ((nodes & bit) > 0) != up[potion_map]
        found[:, potion_map] = np.where(edges[:, :, axis[potion_map]] & uphill, nodes ^ bit, nodes)
    return found


def _connected(edges: np.ndarray) -> bool:
    """Whether a stone can reach every node from node 0; ``edges`` is (8, 3) bool."""
    seen, stack = {0}, [0]
    while stack:
        node = stack.pop()
        for axis in range(AXES):
            other = node ^ (1 << axis)
            if edges[node, axis] and other not in seen:
                seen.add(other)
                stack.append(other)
    return len(seen) == NODES


@functools.cache
def _graphs() -> tuple[np.ndarray, np.ndarray]:
    """Edges (109, 8, 3) and prior probabilities (109,), ordered by number of demands."""
    found: list[tuple[int, np.ndarray]] = []
    pairs = list(itertools.product((0, -1, 1), repeat=2))  # demands on the two other axes; 0 is none
    for demands in itertools.product(pairs, repeat=AXES):
        edges = np.ones((NODES, AXES), dtype=bool)
        for axis, pair in enumerate(demands):
            others = [a for a in range(AXES) if a != axis]
            for other, wanted in zip(others, pair, strict=True):
                if wanted:
                    edges[:, axis] &= COORDINATES[:, other] == wanted
        if _connected(edges):
            found.append((sum(d != 0 for pair in demands for d in pair), edges))
    found.sort(key=lambda item: item[0])
    counts = np.array([count for count, _ in found])
    sizes = np.bincount(counts)
    prior = 1.0 / (np.count_nonzero(sizes) * sizes[counts])
    return np.array([edges for _, edges in found]), prior


def graph_edges() -> np.ndarray:
    """(109, 8, 3) bool: whether each node has an edge along each axis. Graph 0 is the whole cube."""
    return _graphs()[0]


def graph_prior() -> np.ndarray:
    """(109,) probability of each graph."""
    return _graphs()[1]


@functools.cache
def _cumulative_prior() -> list[float]:
    """The prior's running sum without its last entry, which is 1."""
    return np.cumsum(graph_prior())[:-1].tolist()


@functools.cache
def potion_effects() -> tuple[np.ndarray, np.ndarray]:
    """Axis (48, 6) and direction (48, 6; True is towards +1) of each potion map's colours."""
    axis = np.zeros((POTION_MAPS, COLOURS), dtype=np.int64)
    up = np.zeros((POTION_MAPS, COLOURS), dtype=bool)
    for i, (order, signs) in enumerate(itertools.product(_AXIS_ORDERS, _SIGNS)):
        for colour in range(COLOURS):
            pair, second = divmod(colour, 2)
            axis[i, colour] = order[pair]
            up[i, colour] = bool(second) == (signs[order[pair]] == 1)
    return axis, up


@functools.cache
def perceived_coordinates() -> np.ndarray:
    """(4, 8, 8, 3) perceived coordinates, each -1, 0 or 1: [rotation, stone map, node]."""
    aligned = np.array([COORDINATES * np.array(signs) for signs in _SIGNS], dtype=np.float64)
    perceived = np.repeat(aligned[None], ROTATIONS, axis=0)
    for rotation, plane in enumerate(_PLANES):
        if plane is not None:
            i, j = plane
            perceived[rotation, ..., i] = (aligned[..., i] - aligned[..., j]) / 2
            perceived[rotation, ..., j] = (aligned[..., i] + aligned[..., j]) / 2
    return perceived


#: Of graph, potion map, stone map and rotation.
Indices = tuple[int, int, int, int]


def _draw_indices(rng: np.random.Generator, split: str, bottlenecks: bool, rotations: bool) -> Indices:
    prior = _cumulative_prior()

    def draw() -> Indices:
        # The four numbers are drawn in any case, so that leaving one out does not shift the others.
        chance, potion_map, stone_map, rotation = rng.random(4).tolist()
        return (
            bisect.bisect_right(prior, chance) if bottlenecks else 0,
            int(potion_map * POTION_MAPS),
            int(stone_map * STONE_MAPS),
            int(rotation * ROTATIONS) if rotations else 0,
        )

    wanted = split == "eval"
    return draw_until(draw, lambda indices: _is_eval(indices) == wanted, "chemistry")


def draw_chemistry(
    rng: np.random.Generator, split: str, bottlenecks: bool = True, rotations: bool = True
) -> Chemistry:
    """A chemistry of a split: graphs by their prior, everything else uniform."""
    return Chemistry(*_draw_indices(rng, split, bottlenecks, rotations))


@dataclass
class Episode:
    """Everything random about one episode.

    Attributes:
        chemistry: holds for all trials.
        stones: (trials, 3) latent node of each stone at the start of each trial.
        potions: (trials, 12) colour of each potion.
    """

    chemistry: Chemistry
    stones: np.ndarray
    potions: np.ndarray


def draw_parts(
    rng: np.random.Generator,
    task_index: int | None,
    trials: int,
    split: str,
    bottlenecks: bool,
    rotations: bool,
    stones: int = 3,
    potions: int = 12,
) -> tuple[Indices, np.ndarray, np.ndarray]:
    """Draw an episode from ``rng`` or, when given, as fixed by ``task_index``: its chemistry's indices, stones, potions.

    Stones are uniform over the nodes, potions uniform over the colours (which is the same as uniform over
    their effects), each trial anew.
    """
    if task_index is not None:
        rng = eval_generator(task_index, 2102, int(bottlenecks), int(rotations))
    indices = _draw_indices(rng, split, bottlenecks, rotations)
    return indices, rng.integers(NODES, size=(trials, stones)), rng.integers(COLOURS, size=(trials, potions))


def episode_of(parts: tuple[Indices, np.ndarray, np.ndarray]) -> Episode:
    """What was drawn by `draw_parts`."""
    indices, stones, potions = parts
    return Episode(Chemistry(*indices), stones, potions)
