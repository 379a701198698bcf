"""Symbolic Alchemy in its authors' package: what is said without it, and the two games side by side with it."""

from __future__ import annotations

import importlib.util
import sys
import warnings

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs_suite
from amago.errors import ConfigurationError
from amago_suite import families
from amago_suite.grid import plan
from envs_suite.alchemy import POTION_FEATURES, POTIONS, SymbolicAlchemy
from envs_suite.alchemy_chemistry import GRAPHS, graph_prior
from envs_suite.alchemy_original import OriginalAlchemy, constraints
from envs_suite.optional import BY_HAND

ID = "symbolic-alchemy-original"

with_package = pytest.mark.skipif(
    importlib.util.find_spec("dm_alchemy") is None,
    reason=f"needs the package dm_alchemy, which is on no index: {BY_HAND['dm_alchemy']}",
)


def _without_package(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] == "dm_alchemy"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "dm_alchemy", None)


def test_an_absent_package_is_one_line_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards what a user reads who has no dm_alchemy: no family brings it, a command does."""
    _without_package(monkeypatch)
    for call in (envs_suite.get(ID).make, OriginalAlchemy):
        with pytest.raises(ConfigurationError, match="dm_alchemy") as caught:
            call()
        message = str(caught.value)
        assert "\n" not in message
        assert message.endswith(BY_HAND["dm_alchemy"])
        assert "family" not in message
    assert envs_suite.get(ID).install == BY_HAND["dm_alchemy"]


def test_it_is_told_before_anything_starts(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards `amago-suite run`: the same line, with the suite's name, and not that the core is missing."""
    _without_package(monkeypatch)
    file = tmp_path / "odd.yaml"
    file.write_text(f"environments: [{ID}]\narchitectures: [ff]\nseeds: [0]\nbudget: {{ epochs: 1 }}\n")
    with pytest.raises(ConfigurationError) as caught:
        families.check_environments(plan(str(file)).environments, "odd.yaml")
    assert str(caught.value).startswith(f"odd.yaml: environment '{ID}' needs")
    assert str(caught.value).endswith(BY_HAND["dm_alchemy"])


def test_constraints_spell_the_graphs() -> None:
    """Guards the translation: 109 different spellings, by number of demands, each with an X on its diagonal."""
    spelt = [constraints(graph) for graph in range(GRAPHS)]
    demands = [sum(word in ("1", "-1") for row in rows for word in row) for rows in spelt]
    assert [demands.count(n) for n in range(5)] == [1, 12, 48, 48, 0]
    assert len({str(rows) for rows in spelt}) == GRAPHS
    assert all(rows[axis].index("X") == axis for rows in spelt for axis in range(3))


@with_package
@pytest.mark.parametrize(
    "rules",
    [
        {},
        {"trials": 3, "steps_per_trial": 7, "split": "eval"},
        {"trials": 2, "steps_per_trial": 33, "bottlenecks": False},
        {"trials": 2, "steps_per_trial": 33, "rotations": False},
    ],
    ids=str,
)
def test_both_games_step_for_step(rules: dict) -> None:
    """Guards our own implementation and the adapter: one seed, one action sequence, one episode in both packages.

    All but the colour of a potion that is gone, which is 1 in theirs.
    """
    ours, theirs = SymbolicAlchemy(**rules), OriginalAlchemy(**rules)
    rng = np.random.default_rng(1)
    for seed in range(20):
        options = {"task_index": seed} if rules.get("split") == "eval" else None
        mine, yours = ours.reset(seed=seed, options=options)[0], theirs.reset(seed=seed, options=options)[0]
        rest: list = [None, False]
        while True:
            potions = mine[-POTIONS * POTION_FEATURES :].reshape(POTIONS, POTION_FEATURES)
            potions[potions[:, 1] == 1, 0] = 1
            np.testing.assert_allclose(mine, yours, atol=1e-6)
            if rest[1]:
                break
            action = int(rng.integers(40))
            mine, *rest = ours.step(action)
            yours, *other = theirs.step(action)
            assert rest == other


@with_package
def test_graphs_and_their_prior_are_the_packages() -> None:
    """Guards the draws that the adapter makes instead of the package: the same graphs with the same probabilities."""
    from dm_alchemy.types import graphs

    distribution = graphs.graph_distr(graphs.possible_constraints())
    theirs = {str(graphs.constraint_from_graph(graph)): p for graph, p in distribution.items()}
    ours = {str(constraints(graph)): p for graph, p in enumerate(graph_prior())}
    assert ours == pytest.approx(theirs)


@with_package
def test_gymnasium_accepts_it() -> None:
    """Guards the adapter's interface, and determinism from the seed in a used object."""
    env = OriginalAlchemy(trials=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env, skip_render_check=True)
    first = env.reset(seed=3)[0]
    env.step(5)
    assert (env.reset(seed=3)[0] == first).all()
    assert (OriginalAlchemy(trials=2).reset(seed=3)[0] == first).all()
