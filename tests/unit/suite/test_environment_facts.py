"""`amago-suite envs ID`: everything that the registry knows about an environment."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

import envs_suite
from amago_suite.cli import app


def shown(*words: str) -> str:
    done = CliRunner().invoke(app, ["envs", *words])
    assert done.exit_code == 0, done.output
    return done.output


def test_random_best_published_and_command_are_shown() -> None:
    """Guards what a person compares a result with: random score, best score, other people's numbers, the family."""
    text = shown("dark-key-to-door")
    spec = envs_suite.get("dark-key-to-door")
    assert spec.random_score is not None
    assert f"{spec.random_score.mean:.4g}" in text and "44.1" in text
    assert all(entry.what in text and f"{entry.value:g}" in text for entry in spec.published)
    assert "oracle, told the chemistry" in shown("symbolic-alchemy")
    assert "make family-jax" in shown("xland")
    assert "not known" in shown("xland")


@pytest.mark.parametrize("env_id", ["tmaze-passive", "metaworld-ml10", "offline-pendulum"])
def test_json_holds_the_same(env_id: str) -> None:
    """Guards `--json`: values instead of text."""
    found = json.loads(shown(env_id, "--json"))
    spec = envs_suite.get(env_id)
    assert (found["id"], found["family"], found["horizon"]) == (env_id, spec.family, spec.horizon())
    assert found["params"] == spec.params
    assert len(found["published"]) == len(spec.published)
    assert found["random"]["episodes"] == spec.random_score.episodes  # type: ignore[union-attr]
