"""Layers of gin bindings, merged without touching gin's global state.

A layer is parsed once and is then a table of bindings. Merging layers is merging tables, last
wins, so a grid of thousands of cells costs little. The merged table is written out in one
canonical form (full names, sorted, macros replaced by their values), which is what a cell stores
and what its hash covers: comments, order and spelling of names change nothing.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import math
import pkgutil
import tokenize
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import gin
from gin import config as gin_config
from gin import config_parser

from amago.errors import ConfigurationError
from amago.registry import nearest
from amago_suite.configuration.imports import import_modules, is_own

#: Far beyond what a person writes, and little enough that no macro of macros can fill the memory.
_MOST_BYTES = 2**20
_MOST_VALUES = 100_000
_MOST_STRINGS = 200

#: Parameters that the pipeline fills in, and where a person sets them instead.
RESERVED = {
    "Experiment": {
        "epochs": "set budget.epochs in the suite file",
        "seed": "set seeds in the suite file",
        "force_reset_train_envs_every": "set segment_epochs in the suite file",
        "ckpt_interval": "set checkpoint.every_epochs in the suite file",
        "ckpt_interval_minutes": "set checkpoint.every_minutes in the suite file",
        "keep_last_checkpoints": "set checkpoint.keep in the suite file",
        "deterministic": "set deterministic in the suite file",
        **dict.fromkeys(
            (
                "run_name",
                "ckpt_base_dir",
                "dataset",
                "make_train_env",
                "make_val_env",
                "env_mode",
                "resume",
                "log_dir",
            ),
            "the pipeline sets it for every cell",
        ),
    },
    "DiskTrajDataset": dict.fromkeys(("dset_root", "dset_name"), "the pipeline sets it for every cell"),
}


@dataclass(frozen=True, slots=True)
class Reference:
    """``@scope/selector`` or ``@scope/selector()``."""

    selector: str
    scopes: tuple[str, ...]
    evaluate: bool


@dataclass(frozen=True, slots=True)
class Macro:
    """``%name``."""

    name: str


@dataclass(frozen=True, slots=True)
class Binding:
    """A value and where it was given."""

    value: Any
    source: str  #: "config/base.gin:12"


Key = tuple[str, str, str]  #: (scope, full selector, parameter)


@dataclass(frozen=True, slots=True)
class Layer:
    """The bindings and macros of one piece of gin text."""

    bindings: dict[Key, Binding]
    macros: dict[str, Binding]
    imports: tuple[str, ...] = ()  #: modules beyond this project's own


def register_configurables() -> None:
    """Import every module of the agent library and the registry, so that gin knows their names."""
    import amago
    import envs_suite.maze_hindsight
    import envs_suite.tmaze_exploration  # noqa: F401

    for module in pkgutil.walk_packages(amago.__path__, "amago."):
        # AMAGO's own environment module paths only forward to envs_suite, and importing them is slow.
        if not module.name.startswith("amago.envs.builtin"):
            importlib.import_module(module.name)


def parse_layer(text: str, source: str) -> Layer:
    """Parse gin text.

    Args:
        text: bindings.
        source: file (and key) that the text comes from, for messages.

    Raises:
        ConfigurationError: bad syntax, an unknown or reserved name, or an ``import`` or ``include``
            that is not allowed; one line with the place and the nearest names.
    """
    if len(text) > _MOST_BYTES:
        raise ConfigurationError(f"{source}: larger than {_MOST_BYTES >> 20} MiB")
    bindings: dict[Key, Binding] = {}
    macros: dict[str, Binding] = {}
    imports: list[str] = []
    parser = None
    line = 1
    try:
        _check_strings(text)
        parser = config_parser.ConfigParser(text, _Delegate())
        for statement in parser:
            line = statement.location.line_num
            if isinstance(statement, config_parser.ImportStatement):
                imports += _import(statement)
            elif isinstance(statement, config_parser.IncludeStatement):
                raise ConfigurationError("`include` is not allowed: layers are combined by the suite file")
            elif isinstance(statement, config_parser.BlockDeclaration):
                _selector(statement.selector)
            elif statement.arg_name:
                selector = _selector(statement.selector)
                _check_parameter(selector, statement.arg_name)
                key = (statement.scope, selector, statement.arg_name)
                _check_value(statement.value)
                bindings[key] = Binding(statement.value, f"{source}:{line}")
            else:
                _check_value(statement.value)
                macros[statement.selector] = Binding(statement.value, f"{source}:{line}")
    except _UnknownReference as error:
        line = parser.current_token.start[0] if parser is not None else line
        raise ConfigurationError(f"{source}:{line}: {_first_line(error)}") from error
    except SyntaxError as error:
        raise ConfigurationError(f"{source}:{error.lineno or line}: {_first_line(error.msg)}") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"{source}:{line}: {_first_line(error)}") from error
    except tokenize.TokenError as error:  # an open bracket at the end of the text
        raise ConfigurationError(f"{source}: {_first_line(error.args[0])}") from error
    except (ValueError, TypeError, LookupError, AttributeError) as error:  # not a literal
        raise ConfigurationError(
            f"{source}:{line}: this value is no literal, @reference or %macro"
        ) from error
    except (RecursionError, MemoryError) as error:  # how Python's parser says that it is too deep
        raise ConfigurationError(f"{source}:{line}: nested too deeply") from error
    return Layer(bindings, macros, tuple(imports))


class Bindings:
    """Merged layers."""

    def __init__(self, layers: Iterable[Layer]) -> None:
        self._bindings: dict[Key, Binding] = {}
        self._macros: dict[str, Binding] = {}
        self._imports: set[str] = set()
        self._values = 0
        for layer in layers:
            self._imports.update(layer.imports)
            self._bindings.update(layer.bindings)
            self._macros.update(layer.macros)

    def value(self, configurable: str, parameter: str) -> Any:
        """What ``parameter`` will be: bound here, or the code's own default.

        Raises:
            ConfigurationError: it has neither.
        """
        selector = _selector(configurable)
        bound = self._bindings.get(("", selector, parameter))
        if bound is not None:
            return self._inline(bound.value, bound.source, ())
        default = inspect.signature(gin_config._REGISTRY[selector].wrapped).parameters[parameter].default
        if default is inspect.Parameter.empty or default is gin.REQUIRED:
            raise ConfigurationError(f"`{configurable}.{parameter}` is not set: bind it in a gin layer")
        return default

    @property
    def imports(self) -> tuple[str, ...]:
        """Modules that the layers import, beyond this project's own."""
        return tuple(sorted(self._imports))

    def is_bound(self, configurable: str, parameter: str) -> bool:
        """Whether a layer binds it."""
        return ("", _selector(configurable), parameter) in self._bindings

    def text(self) -> str:
        """The canonical text: equal for equal configurations, and gin parses it.

        Raises:
            ConfigurationError: a macro without a value, or a required parameter that nobody set.
        """
        lines = []
        self._values = 0
        for (scope, selector, parameter), binding in sorted(self._bindings.items(), key=lambda item: item[0]):
            value = self._inline(binding.value, binding.source, ())
            if value is gin.REQUIRED:
                name = f"{selector.rsplit('.', 1)[-1]}.{parameter}"
                raise ConfigurationError(
                    f"{binding.source}: `{name}` is required, but no later layer sets it"
                )
            prefix = f"{scope}/" if scope else ""
            lines.append(f"{prefix}{selector}.{parameter} = {_format(value)}")
        return "\n".join(lines) + "\n"

    def _inline(self, value: Any, source: str, inside: tuple[str, ...]) -> Any:
        self._values += 1
        if self._values > _MOST_VALUES:
            raise ConfigurationError(f"{source}: stands for more than {_MOST_VALUES:,} values")
        if isinstance(value, Macro):
            if value.name in inside:
                raise ConfigurationError(f"{source}: the macro %{value.name} is defined by itself")
            if value.name not in self._macros:
                hint = nearest(value.name, sorted(self._macros))
                raise ConfigurationError(f"{source}: the macro %{value.name} has no value; {hint}")
            macro = self._macros[value.name]
            return self._inline(macro.value, macro.source, (*inside, value.name))
        if isinstance(value, list):
            return [self._inline(item, source, inside) for item in value]
        if isinstance(value, tuple):
            return tuple(self._inline(item, source, inside) for item in value)
        if isinstance(value, dict):
            items = [
                (self._inline(k, source, inside), self._inline(v, source, inside)) for k, v in value.items()
            ]
            try:
                return dict(items)
            except TypeError as error:
                raise ConfigurationError(f"{source}: a list or mapping cannot be a key") from error
        return value


def _check_strings(text: str) -> None:
    """gin evaluates adjacent strings again with every one of them: a few thousand take minutes."""
    adjacent = 0
    with contextlib.suppress(tokenize.TokenError, SyntaxError):  # the parser itself says where
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            adjacent = adjacent + 1 if token.type == tokenize.STRING else 0
            if adjacent > _MOST_STRINGS:
                raise ConfigurationError(f"more than {_MOST_STRINGS} strings side by side")


def _first_line(message: object) -> str:
    """gin appends lines of context to errors that pass through its parser."""
    return (str(message).splitlines() or ["not understood"])[0]


class _UnknownReference(Exception):
    """An ``@name`` that nothing is registered as; the parser knows its line."""


class _Delegate(config_parser.ParserDelegate):
    """Keeps references and macros as plain values instead of resolving them on the spot."""

    def configurable_reference(self, scoped_configurable_name: str, evaluate: bool) -> Reference:
        *scopes, selector = scoped_configurable_name.split("/")
        try:
            return Reference(_selector(selector), tuple(scopes), evaluate)
        except ConfigurationError as error:
            raise _UnknownReference(str(error)) from error

    def macro(self, macro_name: str) -> Any:
        constants = gin_config._CONSTANTS
        matches = constants.matching_selectors(macro_name)
        return constants[matches[0]] if len(matches) == 1 else Macro(macro_name)


def _selector(name: str) -> str:
    """The full name of the one configurable that ``name`` means."""
    registry = gin_config._REGISTRY
    matches = registry.matching_selectors(name)
    if len(matches) == 1:
        return str(matches[0])
    if matches:
        raise ConfigurationError(f"{name!r} is ambiguous: {' or '.join(sorted(matches))}")
    known = {str(key).rsplit(".", 1)[-1] for key, _ in registry.items() if not str(key).startswith("gin.")}
    raise ConfigurationError(f"nothing configurable is called {name!r}; {nearest(name, sorted(known))}")


def _check_parameter(selector: str, parameter: str) -> None:
    configurable = gin_config._REGISTRY[selector]
    name = selector.rsplit(".", 1)[-1]
    reason = RESERVED.get(name, {}).get(parameter)
    if reason:
        raise ConfigurationError(f"`{name}.{parameter}` cannot be bound: {reason}")
    allowed = not configurable.allowlist or parameter in configurable.allowlist
    denied = bool(configurable.denylist) and parameter in configurable.denylist
    if denied or not allowed or not gin_config._might_have_parameter(configurable.wrapped, parameter):
        known = [
            p
            for p in inspect.signature(configurable.wrapped).parameters
            if p not in ("self", "args", "kwargs")
        ]
        raise ConfigurationError(
            f"`{name}` has no parameter {parameter!r}; {nearest(parameter, sorted(known))}"
        )


def _import(statement: config_parser.ImportStatement) -> list[str]:
    """Import what the statement names; returns it if it is not this project's own."""
    module = statement.module
    if statement.is_from and module.startswith("__gin__"):
        raise ConfigurationError("gin's dynamic registration is not supported; name the full path instead")
    import_modules([module])
    return [] if is_own(module) else [module]


def _check_value(value: Any) -> None:
    """Infinity has no form that gin reads back."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigurationError("a number is too large")
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    for part in parts:
        _check_value(part)


def _format(value: Any) -> str:
    """A value as gin reads it back."""
    if isinstance(value, Reference):
        scopes = "".join(f"{scope}/" for scope in value.scopes)
        return f"@{scopes}{value.selector}{'()' if value.evaluate else ''}"
    if value is gin.REQUIRED:
        return "%gin.REQUIRED"
    if isinstance(value, list):
        return f"[{', '.join(_format(item) for item in value)}]"
    if isinstance(value, tuple):
        return f"({', '.join(_format(item) for item in value)}{',' if len(value) == 1 else ''})"
    if isinstance(value, dict):
        items = sorted((_format(k), _format(v)) for k, v in value.items())
        return f"{{{', '.join(f'{k}: {v}' for k, v in items)}}}"
    return repr(value)
