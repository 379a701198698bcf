"""Rulesets for XLand-MiniGrid: solvable by a second, naive search; encoded as the package reads them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import envs_suite
from amago.errors import ConfigurationError
from envs_suite.xland_rulesets import (
    HOLD_GOAL,
    HOLD_RULE,
    MOST_RULES,
    MOST_THINGS,
    PAIR_GOAL,
    PAIR_RULE,
    Rule,
    Ruleset,
    draw_ruleset,
    solvable,
)

A, B, C, D = (3, 1), (4, 2), (5, 3), (7, 4)


def reachable_by_trying(ruleset: Ruleset) -> bool:
    """Whether the goal can be met at all, by depth-first trial of every rule on a list of things."""
    tried = set()

    def met(things: list) -> bool:
        left = list(things)
        for tile in ruleset.goal_tiles:
            if tile not in left:
                return False
            left.remove(tile)
        return True

    def search(things: list) -> bool:
        key = tuple(sorted(things))
        if key in tried:
            return False
        tried.add(key)
        if met(things):
            return True
        for rule in ruleset.rules:
            left = list(things)
            if all(tile in left for tile in rule.inputs):
                for tile in rule.inputs:
                    left.remove(tile)
                if search([*left, rule.output]):
                    return True
        return False

    return search(list(ruleset.things))


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("distractors", [0, 3])
def test_every_ruleset_can_be_solved(depth: int, distractors: int) -> None:
    """Guards the generator: the goal is met by some order of rules, found by an independent search."""
    rng = np.random.default_rng(depth)
    for _ in range(300):
        ruleset = draw_ruleset(rng, depth, distractors)
        assert reachable_by_trying(ruleset)
        assert len(ruleset.rules) <= MOST_RULES and len(ruleset.things) <= MOST_THINGS
        used = [tile for rule in ruleset.rules for tile in rule.inputs]
        assert max(Counter(used).values(), default=1) == 1


def test_rulesets_differ() -> None:
    """Guards against a generator that makes the same few tasks: kinds of goals and rules, and depth, all occur."""
    rng = np.random.default_rng(1)
    drawn = [draw_ruleset(rng, 2, 3) for _ in range(300)]
    assert len({ruleset.key() for ruleset in drawn}) == 300
    assert {ruleset.goal for ruleset in drawn} == {1, 3, 4}
    assert {rule.kind for ruleset in drawn for rule in ruleset.rules} == {1, 2, 3}
    # Some goals lie about already, others need several rules.
    needed = [sum(rule.output in ruleset.goal_tiles for rule in ruleset.rules) for ruleset in drawn]
    assert min(needed) == 0 and max(needed) == 2


def test_dead_ends_are_noticed() -> None:
    """Guards `solvable`: a missing thing, and a rule that destroys what the goal needs, are refused."""
    assert solvable(Ruleset(HOLD_GOAL, (A,), (), (A, B)))
    assert not solvable(Ruleset(HOLD_GOAL, (A,), (), (B,)))
    makes = Rule(PAIR_RULE, (B, C), A)
    assert solvable(Ruleset(HOLD_GOAL, (A,), (makes,), (B, C)))
    spoils = Rule(HOLD_RULE, (B,), D)
    assert not solvable(Ruleset(HOLD_GOAL, (A,), (makes, spoils), (B, C)))
    assert not solvable(Ruleset(PAIR_GOAL, (A, B), (makes,), (B, C))), "the rule uses up what the goal needs"


def test_arrays_are_the_packages_encoding() -> None:
    """Guards the numbers handed to the package: kind first, then tile and colour of each thing, then 0."""
    ruleset = Ruleset(PAIR_GOAL, (A, B), (Rule(HOLD_RULE, (C,), A), Rule(PAIR_RULE, (A, C), D)), (C, B))
    goal, rules, things = ruleset.arrays()
    assert goal.tolist() == [4, 3, 1, 4, 2]
    assert rules[0].tolist() == [1, 5, 3, 3, 1, 0, 0]
    assert rules[1].tolist() == [3, 3, 1, 5, 3, 7, 4]
    assert not rules[2:].any()
    assert things[:3].tolist() == [[5, 3], [4, 2], [0, 0]]
    assert {array.dtype for array in (goal, rules, things)} == {np.dtype(np.uint8)}


def test_the_same_task_has_the_same_key() -> None:
    """Guards the split of training and evaluation: order of rules and things does not make a task another."""
    rules = (Rule(HOLD_RULE, (C,), A), Rule(PAIR_RULE, (A, B), D))
    one = Ruleset(HOLD_GOAL, (D,), rules, (C, B))
    other = Ruleset(HOLD_GOAL, (D,), rules[::-1], (B, C))
    assert one.key() == other.key() != Ruleset(HOLD_GOAL, (A,), rules, (C, B)).key()


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"size": 8}, ["size", "odd"]),
        ({"size": 2}, ["size", "7 to 25"]),
        ({"attempts": 0}, ["attempts", "1 to"]),
        ({"rooms": "3"}, ["rooms", "'1', '2', '4'"]),
        ({"rooms": 4}, ["rooms", "'4'", "got 4"]),
        ({"rooms": "4", "size": 7}, ["4 rooms", "'size' = 7", "9 or more"]),
        ({"depth": 2, "distractors": 14}, ["depth", "distractors", "16 fit"]),
    ],
)
def test_impossible_sizes_are_one_clear_line(params: dict, words: list[str]) -> None:
    """Guards the messages for parameters that no level can have, told without the package."""
    with pytest.raises(ConfigurationError) as caught:
        envs_suite.get("xland").check(params)
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in ["xland", *words]), message


def test_too_large_rulesets_are_refused() -> None:
    """Guards `draw_ruleset` against a ruleset that its arrays cannot hold."""
    with pytest.raises(ConfigurationError, match="at most 16"):
        draw_ruleset(np.random.default_rng(0), 2, 9)
