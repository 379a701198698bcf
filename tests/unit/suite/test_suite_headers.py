"""What the headers of the suite files say about their budgets, against the cells that they make."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from amago_suite.cell import Cell
from amago_suite.configuration.gin_layers import Bindings, parse_layer
from amago_suite.grid import plan
from amago_suite.paths import ROOT

#: Suites that follow, or differ from, somebody's published protocol.
PUBLISHED = ("atari", "gridworld", "memory", "meta", "metaworld", "nethack", "offline", "popgym", "procgen")
_BUDGETS = (
    r"(?P<actors>[\d,]+) actors x (?P<steps>[\d,]+) steps x (?P<epochs>[\d,]+) epochs(?:,| =) (?P<total>[\d.]+)M steps",
    r"(?P<epochs>[\d,]+) epochs of (?P<actors>[\d,]+) actors x (?P<steps>[\d,]+) steps(?: are (?P<total>\d+) million)?",
)


def header(name: str) -> str:
    """The comment at the top of a suite file, as one line."""
    lines = (ROOT / "config/suites" / f"{name}.yaml").read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    return " ".join(line.lstrip("# ") for line in lines[:first])


def budget(cell: Cell) -> tuple[int, int, int]:
    """Actors, steps of each in an epoch, epochs."""
    bindings = Bindings([parse_layer(cell.gin, "cell")])
    actors, steps = (
        bindings.value("Experiment", n) for n in ("parallel_actors", "train_timesteps_per_epoch")
    )
    return actors, steps, cell.budget_epochs


@pytest.mark.parametrize("name", PUBLISHED)
def test_headers_cite_their_protocol(name: str) -> None:
    """A suite that stands beside published numbers says whose protocol it follows, and has a small size."""
    assert re.search(r"arXiv \d{4}\.\d{5}", header(name)), header(name)
    smoke = plan(name, smoke=True, results=Path("results"))
    assert 0 < len(smoke) < len(plan(name, results=Path("results")))


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name != "offline"])
def test_budgets_are_as_the_header_says(name: str) -> None:
    """Every "16 actors x 500 steps x 1,000 epochs" of a header is what cells of the suite train for."""
    text = header(name)
    said = [found for pattern in _BUDGETS for found in re.finditer(pattern, text)]
    assert said, text
    true = {budget(cell) for cell in plan(name, results=Path("results"))}
    for found in said:
        numbers = tuple(int(found[key].replace(",", "")) for key in ("actors", "steps", "epochs"))
        assert numbers in true, (found[0], true)
        if found["total"]:
            actors, steps, epochs = numbers
            assert actors * steps * epochs / 1e6 == pytest.approx(float(found["total"]), rel=0.005), found[0]


#: Training episodes of Ni et al. (arXiv 2307.03864) by corridor; for 200 and 400 those of 250 and 500.
_T_MAZE_EPISODES = {50: 20_000, 100: 20_000, 200: 16_000, 400: 8_000, 1_000: 8_000}


def test_t_mazes_have_the_published_episodes() -> None:
    """Guards the budgets of `memory` against the table that its header cites, to within an epoch."""
    found = {}
    for cell in plan("memory", results=Path("results")):
        if cell.environment.startswith("tmaze"):
            actors, steps, epochs = budget(cell)
            corridor = cell.env_params["corridor"]
            assert steps == corridor + 1, "an epoch is one episode of each actor"
            assert 0 <= actors * epochs - _T_MAZE_EPISODES[corridor] < actors, (corridor, actors, epochs)
            found[corridor] = epochs
    assert found.keys() == _T_MAZE_EPISODES.keys()
