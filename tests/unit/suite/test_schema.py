"""Wrong suite files: one line that names the file, the key, and what is allowed."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import envs_suite
from amago.errors import ConfigurationError
from amago_suite.build import apply_gin, build_experiment
from amago_suite.grid import plan
from amago_suite.paths import SCHEMAS

GOOD = {
    "environments": ["tmaze-passive"],
    "architectures": ["ff"],
    "seeds": [0],
    "budget": {"epochs": 1},
}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seeds": [0, 1, 0]}, "seeds: 0 is given twice"),
        ({"seeds": []}, "seeds: must not be empty"),
        ({"seeds": [-1]}, "seeds[0]: must be at least 0, got -1"),
        ({"seeds": "abc"}, "seeds: must be a list, got 'abc'"),
        ({"seeds": [1.5]}, "seeds[0]: must be an integer, got 1.5"),
        ({"seeds": [True]}, "seeds[0]: must be an integer"),
        ({"budget": {"epochs": -5}}, "budget.epochs: must be at least 1, got -5"),
        ({"budget": {}}, "budget: the key 'epochs' is missing"),
        ({"budgets": {}}, "unknown key 'budgets'; did you mean budget"),
        (
            {"environments": ["tmaze-pasive"]},
            "unknown environment 'tmaze-pasive'; did you mean tmaze-passive",
        ),
        ({"environments": ["../../etc"]}, "environments[0]: '../../etc' is no name"),
        (
            {"environments": [{"id": "tmaze-passive", "name": "a/b"}]},
            "environments[0].name: 'a/b' is no name",
        ),
        ({"environments": [{"id": "tmaze-passive", "name": "tables"}]}, "'tables' is taken"),
        ({"environments": [{"name": "x"}]}, "environments[0]: the key 'id' is missing"),
        (
            {"environments": [{"id": "tmaze-passive", "parms": {}}]},
            "unknown key 'parms'; did you mean params",
        ),
        ({"environments": [3]}, "environments[0]: must be text or a mapping, got 3"),
        ({"environments": ["tmaze-passive", "tmaze-passive"]}, "'tmaze-passive' is there twice"),
        ({"environments": [{"id": "tmaze-passive", "params": {"coridor": 3}}]}, "did you mean corridor"),
        ({"architectures": ["rn"]}, "unknown architecture 'rn'; did you mean rnn"),
        ({"architectures": []}, "architectures: must not be empty"),
        ({"gin": "Agent.tua = 1"}, "gin:1: `Agent` has no parameter 'tua'; did you mean tau"),
        (
            {"evaluation": {"episodes": 10, "actors": 3}},
            "evaluation.actors: 3 does not divide the 10 episodes",
        ),
        ({"evaluation": {"greedy": "yes"}}, "evaluation.greedy: must be true or false, got 'yes'"),
        ({"threads": 0}, "threads: must be at least 1, got 0"),
        ({"checkpoint": {"every_minutes": -1}}, "checkpoint.every_minutes: must be at least 0, got -1"),
        ({"checkpoint": {"keep": 0}}, "checkpoint.keep: must be at least 1, got 0"),
        ({"deterministic": 1}, "deterministic: must be true or false, got 1"),
        ({"budget": {"epochs": 10**400}}, "budget.epochs: must be at most 1000000000, got 1000"),
        ({"evaluation": {"episodes": 10**400}}, "evaluation.episodes: must be at most"),
        ({"evaluation": {"episodes": 10**7, "actors": 10**7}}, "evaluation.actors: must be at most"),
        ({"segment_epochs": 10**400}, "segment_epochs: must be at most"),
        ({"checkpoint": {"keep": 10**400}}, "checkpoint.keep: must be at most"),
        ({"checkpoint": {"every_minutes": 10**400}}, "checkpoint.every_minutes: must be at most"),
        (
            {"environments": [{"id": "tmaze-passive", "params": {"corridor": 10**400}}]},
            "parameter 'corridor' must be an integer from 1 to 100000",
        ),
        ({"tuning": "x" * 301}, "tuning: must be at most 300 characters, got 301"),
    ],
)
def test_a_wrong_value_is_named(changes: dict[str, Any], said: str, write_suite: Callable[..., Path]) -> None:
    """Bad input is found before the first job, and a person sees what to change."""
    path = write_suite(json.dumps({**GOOD, **changes}))
    with pytest.raises(ConfigurationError) as caught:
        plan(str(path))
    message = str(caught.value)
    assert message.startswith("tiny.yaml")
    assert said in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("environments: [", "tiny.yaml:"),
        ("seeds: [0]\nseeds: [1]\n", "tiny.yaml:2: the key 'seeds' is given twice"),
        ("- a\n- b\n", "tiny.yaml: must be a mapping"),
        ("", "tiny.yaml: must be a mapping, got nothing"),
        ("x: !!python/object/apply:os.system ['true']\n", "tiny.yaml:1: could not determine a constructor"),
    ],
)
def test_malformed_yaml_is_one_line(text: str, said: str, write_suite: Callable[..., Path]) -> None:
    """A parser's page of context helps nobody, and YAML must never run code."""
    path = write_suite(text)
    with pytest.raises(ConfigurationError) as caught:
        plan(str(path))
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_smoke_must_exist(write_suite: Callable[..., Path]) -> None:
    """Asking for a small size that the suite does not have is the user's mistake."""
    with pytest.raises(ConfigurationError, match="no `smoke:` section"):
        plan(str(write_suite(json.dumps(GOOD))), smoke=True)


@pytest.mark.parametrize("name", ["suite", "cell", "config"])
def test_every_key_is_described(name: str) -> None:
    """The schema is the documentation of the file."""
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text())

    def walk(node: Any, path: str) -> None:
        if not isinstance(node, dict):
            return
        for key, value in node.get("properties", {}).items():
            described = "description" in value or "$ref" in value
            assert described, f"{path}.{key} has no description"
            walk(value, f"{path}.{key}")
        for branch in [node.get("items"), *node.get("anyOf", []), *node.get("$defs", {}).values()]:
            walk(branch, path)

    walk(schema, name)


def test_the_project_suites_are_valid(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What ships must run, in both sizes."""
    monkeypatch.chdir(tmp_path)
    assert len(plan("quick")) == 27
    assert len(plan("quick", smoke=True)) == 9


SHIPPED = sorted(file.stem for file in (Path(__file__).parents[3] / "config/suites").glob("*.yaml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_small_size_trains_what_it_runs(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Guards `--smoke` of what ships: few cells, and in each a trajectory is whole within the first epoch.

    Otherwise nothing is ever learned from, and a smoke run only shows that environments can be stepped.
    """
    monkeypatch.chdir(tmp_path)
    grid = plan(name, smoke=True)
    assert 0 < len(grid) <= 30
    for cell in grid.cells:

        def setting(key: str, default: float, gin: str = cell.gin) -> float:
            found = re.search(rf"^amago\.experiment\.Experiment\.{key} = (\d+)$", gin, re.MULTILINE)
            return float(found[1]) if found else default

        horizon = envs_suite.get(cell.env_id).horizon(cell.env_params)
        acted = setting("train_timesteps_per_epoch", 0)
        assert min(horizon, setting("traj_save_len", math.inf)) <= acted, cell.environment
        assert setting("train_batches_per_epoch", 0) >= 1


@pytest.mark.parametrize("smoke", [False, True], ids=["whole", "smoke"])
@pytest.mark.parametrize("name", SHIPPED)
def test_memories_that_ship_can_be_built(
    name: str, smoke: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Guards settings that a suite chooses and forgets to complete: each architecture has all that it requires."""
    monkeypatch.chdir(tmp_path)
    cells = {cell.architecture: cell for cell in plan(name, smoke=smoke).cells}
    for cell in cells.values():
        apply_gin(cell)
        run = build_experiment(cell, state=tmp_path, log_dir=tmp_path)
        assert run.traj_encoder_type(tstep_dim=8, max_seq_len=run.max_seq_len).emb_dim > 0


@pytest.mark.parametrize("number", [".inf", "-.inf", ".nan"])
def test_numbers_that_are_none(number: str, write_suite: Callable[..., Path]) -> None:
    """Nothing compares with NaN as one thinks, and JSON has neither; the key is named."""
    path = write_suite(json.dumps(GOOD)[:-1] + f', "checkpoint": {{"every_minutes": {number}}}}}')
    with pytest.raises(
        ConfigurationError, match=r"yaml: checkpoint\.every_minutes: .* is no number that can"
    ):
        plan(str(path))


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (
            "{id: tmaze-passive, params: {corridor: 2020-01-01}}",
            "environments[1].params.corridor: datetime.date(",
        ),
        ("{id: tmaze-passive, params: {5: 5}}", "environments[1].params: the key 5 must be text"),
        ('{id: tmaze-passive, params: {"a\\nb": .nan}}', "environments[1].params.'a\\nb': nan is no number"),
    ],
)
def test_what_json_has_not_is_named_with_its_place(
    entry: str, said: str, write_suite: Callable[..., Path]
) -> None:
    """Guards the way to a value that only YAML knows, deep in a long file."""
    path = write_suite(f"environments: [tmaze-passive, {entry}]\n")
    with pytest.raises(ConfigurationError) as caught:
        plan(str(path))
    assert str(caught.value).startswith(f"tiny.yaml: {said}"), caught.value
    assert "\n" not in str(caught.value)


def test_merge_keys(write_suite: Callable[..., Path]) -> None:
    """A habit from elsewhere gets an answer that helps."""
    path = write_suite("budget: &b { epochs: 1 }\nsmoke:\n  budget: { <<: *b }\n")
    with pytest.raises(ConfigurationError, match=r"tiny.yaml:3: merge keys \(<<\) are not supported"):
        plan(str(path))


def test_a_title_is_one_line(write_suite: Callable[..., Path]) -> None:
    """It becomes a heading and a caption."""
    assert plan(str(write_suite(json.dumps({**GOOD, "title": "One\n\ntitle "})))).title == "One title"
