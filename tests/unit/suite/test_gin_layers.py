"""Layers of gin bindings: last wins, one canonical text, and errors that name the place."""

from __future__ import annotations

import gin
import pytest

from amago.errors import ConfigurationError
from amago_suite.configuration.gin_layers import Bindings, parse_layer, register_configurables


@pytest.fixture(autouse=True)
def _registered() -> None:
    register_configurables()


def text_of(*layers: str) -> str:
    return Bindings(parse_layer(text, f"layer{i}.gin") for i, text in enumerate(layers)).text()


def test_a_later_layer_wins() -> None:
    """The order base -> environment -> architecture -> suite is worth something only if the last one wins."""
    text = text_of("Agent.tau = 0.1\nAgent.gamma = 0.9", "Agent.tau = 0.2")
    assert "Agent.tau = 0.2\n" in text
    assert "Agent.gamma = 0.9\n" in text


def test_comments_order_and_spelling_change_nothing() -> None:
    """A comment in a gin file must not retrain a week of runs."""
    plain = text_of("Agent.tau = 0.1\nAgent.gamma = 0.9\n")
    other = text_of("# why\namago.agent.Agent.gamma = 0.90   # note\n\nAgent:\n    tau = 1e-1\n")
    assert plain == other


def test_a_value_changes_the_text() -> None:
    """Otherwise another setting would be taken for the same run."""
    assert text_of("Agent.tau = 0.1") != text_of("Agent.tau = 0.2")


def test_macros_are_replaced_by_the_last_value() -> None:
    """What a cell stores must not depend on a macro that is defined elsewhere."""
    text = text_of("n = 3\nExperiment.batch_size = %n", "n = 5")
    assert "Experiment.batch_size = 5\n" in text
    assert "%" not in text


def test_parsing_leaves_gin_alone() -> None:
    """Planning many cells in one process must not leak one cell's bindings into another."""
    gin.clear_config()
    text_of("Agent.tau = 0.1")
    assert gin.config_str().strip() == ""


def test_gin_reads_the_canonical_text_back() -> None:
    """The text that a cell stores is what training will parse."""
    layer = "a/Agent.tau = 0.1\nExperiment.agent_type = @Agent\nMultigammas.discrete = [0.9, (1, 'x'), {'k': None}]"
    text = text_of(layer)
    gin.clear_config()
    try:
        gin.parse_config(text)
        assert gin.query_parameter("a/Agent.tau") == 0.1
        assert gin.query_parameter("Multigammas.discrete") == [0.9, (1, "x"), {"k": None}]
    finally:
        gin.clear_config()
    assert text_of(text) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\nAgnt.tau = 0.1", "layer0.gin:2: nothing configurable is called 'Agnt'; did you mean Agent"),
        ("Agent.tua = 0.1", "layer0.gin:1: `Agent` has no parameter 'tua'; did you mean tau"),
        (
            "Agent.tau = 1\nExperiment.agent_type = @Agnt",
            "layer0.gin:2: nothing configurable is called 'Agnt'",
        ),
        ("Agent.tau = ", "layer0.gin:1:"),
        ("Agent.tau = [1,", "layer0.gin"),
        ("Agent.tau = %nothing", "the macro %nothing has no value"),
        ("a = %b\nb = %a\nAgent.tau = %a", "is defined by itself"),
        ("Agent.tau = %gin.REQUIRED", "`Agent.tau` is required"),
        ("import os", "may import only from amago and envs_suite, unless --allow-imports"),
        ("import amago_evil.thing", "may import only from amago and envs_suite, unless --allow-imports"),
        ("from __gin__ import dynamic_registration", "dynamic registration"),
        ("include '/etc/passwd'", "`include` is not allowed"),
        ("Agent.tau = __import__('os')", "layer0.gin:1:"),
        ("Experiment.epochs = 3", "set budget.epochs in the suite file"),
        ("Experiment.seed = 3", "set seeds in the suite file"),
    ],
)
def test_errors_are_one_line_with_the_place(text: str, said: str) -> None:
    """A person must see which file, which line, and what was meant."""
    with pytest.raises(ConfigurationError) as caught:
        text_of(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_import_of_the_library_is_fine() -> None:
    """AMAGO's own gin files begin with such imports."""
    assert text_of("import amago.agent\nAgent.tau = 0.1")


def test_the_code_is_asked_where_nothing_is_bound() -> None:
    """Segment length and actors follow the library's defaults when no layer sets them."""
    assert Bindings([]).value("Experiment", "parallel_actors") == 12
    assert (
        Bindings([parse_layer("Experiment.parallel_actors = 3", "x")]).value("Experiment", "parallel_actors")
        == 3
    )
