"""Rulesets for XLand-MiniGrid (Nikulin et al. 2023, arXiv 2312.12044), made here instead of downloaded.

A ruleset is a goal, rules by which things turn into other things, and the things that lie about at the
start. It is grown backwards as in the paper: the goal names things, and each of them lies about or is made by
a rule from new things, to a depth. Things and rules that lead nowhere are added.

Different from the paper's benchmarks: goals and rules are the kinds that know no direction, every thing has
one use, and no ruleset has a dead end: `solvable` searches all collections of things that can come about, and
from each of them the goal must still be within reach.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from amago.errors import ConfigurationError
from envs_suite.tasks import draw_until

Tile = tuple[int, int]
Things = tuple[Tile, ...]

#: Most rules and things of a ruleset: arrays have room for so many.
MOST_RULES, MOST_THINGS = 12, 16
#: Numbers of the package: balls, squares, pyramids, keys, hexes, stars, in every colour but the floor's.
_SHAPES = (3, 4, 5, 7, 11, 12)
_COLOURS = (1, 2, 3, 4, 5, 6, 8, 9, 10, 11)
TILES: tuple[Tile, ...] = tuple(product(_SHAPES, _COLOURS))

#: Goals: hold a thing, stand beside one, have two side by side.
HOLD_GOAL, BESIDE_GOAL, PAIR_GOAL = 1, 3, 4
#: Rules: a thing that is picked up, walked up to, or put beside another turns into something else.
HOLD_RULE, BESIDE_RULE, PAIR_RULE = 1, 2, 3


@dataclass(frozen=True)
class Rule:
    """``kind`` turns ``inputs`` (two for a pair) into ``output``."""

    kind: int
    inputs: Things
    output: Tile


@dataclass(frozen=True)
class Ruleset:
    """A task: what to reach, by which rules, from what."""

    goal: int
    goal_tiles: Things
    rules: tuple[Rule, ...]
    things: Things

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The package's encoding: goal (5,), rules (12, 7), things (16, 2), all uint8, padded with 0."""
        goal = np.zeros(5, dtype=np.uint8)
        goal[: 1 + 2 * len(self.goal_tiles)] = [self.goal, *np.ravel(self.goal_tiles)]
        rules = np.zeros((MOST_RULES, 7), dtype=np.uint8)
        for row, rule in zip(rules, self.rules, strict=False):
            numbers = [rule.kind, *np.ravel(rule.inputs), *rule.output]
            row[: len(numbers)] = numbers
        things = np.zeros((MOST_THINGS, 2), dtype=np.uint8)
        things[: len(self.things)] = self.things
        return goal, rules, things

    def key(self) -> bytes:
        """The same for the same task, whatever the order of rules and things."""
        parts = (
            self.goal,
            sorted(self.goal_tiles),
            sorted((rule.kind, sorted(rule.inputs), rule.output) for rule in self.rules),
            sorted(self.things),
        )
        return repr(parts).encode()


def draw_ruleset(rng: np.random.Generator, depth: int, distractors: int) -> Ruleset:
    """A solvable ruleset.

    Args:
        rng: all randomness.
        depth: the most rules between a thing at the start and the goal.
        distractors: things that are of no use; up to as many rules among them.

    Raises:
        ConfigurationError: more rules or things than fit.
    """
    most = 2 * 2**depth + distractors
    if most > MOST_THINGS:
        raise ConfigurationError(
            f"rulesets of depth {depth} with {distractors} distractors can have {most} things; at most "
            f"{MOST_THINGS} fit: take less of either"
        )
    return draw_until(lambda: _grow(rng, depth, distractors), solvable, "solvable ruleset")


def _grow(rng: np.random.Generator, depth: int, distractors: int) -> Ruleset:
    unused = [TILES[i] for i in rng.permutation(len(TILES))]
    goal = int(rng.choice([HOLD_GOAL, BESIDE_GOAL, PAIR_GOAL]))
    goal_tiles = tuple(unused.pop() for _ in range(2 if goal == PAIR_GOAL else 1))
    rules: list[Rule] = []
    things: list[Tile] = []

    def make(tile: Tile, left: int) -> None:
        if left == 0 or rng.random() < 0.3:
            things.append(tile)
            return
        kind = int(rng.choice([HOLD_RULE, BESIDE_RULE, PAIR_RULE]))
        inputs = tuple(unused.pop() for _ in range(2 if kind == PAIR_RULE else 1))
        rules.append(Rule(kind, inputs, tile))
        for one in inputs:
            make(one, left - 1)

    for tile in goal_tiles:
        make(tile, depth)
    useless = [unused.pop() for _ in range(distractors)]
    things += useless
    for tile in useless:
        if len(rules) < MOST_RULES and rng.random() < 0.5:
            kind = int(rng.choice([HOLD_RULE, BESIDE_RULE]))
            rules.append(Rule(kind, (tile,), unused.pop()))
    order = rng.permutation(len(rules))
    return Ruleset(goal, goal_tiles, tuple(rules[i] for i in order), tuple(things))


def is_reached(ruleset: Ruleset, things: Things) -> bool:
    """Whether the goal can be met with these things as they are."""
    return not Counter(ruleset.goal_tiles) - Counter(things)


def successors(ruleset: Ruleset, things: Things) -> Iterator[Things]:
    """What the things can become by one rule."""
    have = Counter(things)
    for rule in ruleset.rules:
        used = Counter(rule.inputs)
        if not used - have:
            yield tuple(sorted((have - used + Counter([rule.output])).elements()))


def solvable(ruleset: Ruleset) -> bool:
    """Whether the goal stays within reach from everything that can come about."""
    start = tuple(sorted(ruleset.things))
    after: dict[Things, list[Things]] = {}
    waiting = [start]
    while waiting:
        things = waiting.pop()
        if things not in after:
            after[things] = list(successors(ruleset, things))
            waiting += after[things]
    good = {things for things in after if is_reached(ruleset, things)}
    grew = True
    while grew:
        more = {things for things in after if things not in good and good.intersection(after[things])}
        good |= more
        grew = bool(more)
    return good == after.keys()
