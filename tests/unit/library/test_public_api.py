"""The public interface, row by row: module paths, names, arguments, defaults, and what gin can configure."""

from __future__ import annotations

import ast
import importlib
import inspect
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gin
import pytest
from torch import nn

import amago
from amago.envs.exploration import EpsilonGreedy
from amago.gin_names import check_bindings
from amago.nets import actor_critic, cnn, policy_dists, transformer

FILE = Path(__file__).parents[2] / "reference" / "public_api.txt"
#: What defaults in the file refer to, beyond the names of their own module.
KNOWN = {
    **{name: getattr(policy_dists, name) for name in ("Discrete", "TanhGaussian")},
    "gin": gin,
    "math": math,
    "nn": nn,
    "amago": amago,
    "actor_critic": actor_critic,
    "cnn": cnn,
    "transformer": transformer,
    "EpsilonGreedy": EpsilonGreedy,
}


def rows() -> Iterator[tuple[str, str, bool]]:
    """(module, row without its mark, whether gin configures it)."""
    module = ""
    for line in FILE.read_text().splitlines():
        if line.startswith("["):
            module = line.strip("[]")
        elif line.strip() and not line.startswith("#"):
            yield module, line[2:], line.startswith("g ")


ROWS = list(rows())


def promised(module: Any, row: str) -> tuple[str, dict[str, Any]]:
    """A row's name, and its arguments with their defaults (``inspect.Parameter.empty`` where there is none)."""
    found: dict[str, Any] = {}
    source = row.replace("$AMAGO_WANDB_PROJECT", "None").replace("$AMAGO_WANDB_ENTITY", "None")
    node = ast.parse(f"def {source}: ...").body[0]
    assert isinstance(node, ast.FunctionDef)
    a = node.args
    plain = [*a.posonlyargs, *a.args]
    defaults = [None] * (len(plain) - len(a.defaults)) + list(a.defaults)
    for arg, default in [*zip(plain, defaults, strict=True), *zip(a.kwonlyargs, a.kw_defaults, strict=True)]:
        found[arg.arg] = (
            inspect.Parameter.empty
            if default is None
            else eval(ast.unparse(default), {**vars(module), **KNOWN})
        )
    return node.name, found


def unconfigured(value: Any) -> Any:
    """A function without gin's wrapper; a sequence as a tuple."""
    if isinstance(value, list):
        return tuple(value)
    return inspect.unwrap(value) if inspect.isfunction(value) else value


@pytest.mark.parametrize(("where", "row", "by_gin"), ROWS, ids=[f"{m}.{r.split('(')[0]}" for m, r, _ in ROWS])
def test_row(where: str, row: str, by_gin: bool) -> None:
    """A script or gin file written for AMAGO v3 finds the name, its arguments in order, and its defaults."""
    module = importlib.import_module(where)
    name, wanted = promised(module, row)
    thing = getattr(module, name)
    has = inspect.signature(thing).parameters
    for argument, default in wanted.items():
        assert argument in has, f"{where}.{name} has no {argument}"
        if argument in ("wandb_project", "wandb_entity"):
            default = os.environ.get(f"AMAGO_{argument.upper()}")
        if default is inspect.Parameter.empty:
            assert has[argument].default is inspect.Parameter.empty, f"{argument} must be given"
        else:
            assert unconfigured(has[argument].default) == unconfigured(default), argument
    positions = [list(has).index(argument) for argument in wanted]
    assert positions == sorted(positions), "the order of arguments is another"
    if by_gin:
        settable = {f"{where}.{name}.{a}": d for a, d in wanted.items() if d is not inspect.Parameter.empty}
        for binding in settable:
            with gin.unlock_config():
                gin.bind_parameter(binding, None)
        check_bindings(dict.fromkeys(settable, 1))
        gin.clear_config()


def test_the_file_has_every_part() -> None:
    """An empty file would pass every row."""
    assert len(ROWS) == 94
    assert len({module for module, _, _ in ROWS}) == 16
