"""Gin with messages for people: names are checked before anything is bound.

Gin itself reports an unknown name without saying which one was meant, and a missing
``gin.REQUIRED`` without the line that would set it. This module adds both.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import gin
from gin import config_parser

import amago.errors
from amago.errors import AmagoError, ConfigurationError, is_out_of_memory
from amago.registry import nearest

_T = TypeVar("_T", bound=type)

_REQUIRED = re.compile(r"Required bindings for `([^`]+)` not provided in config: \[([^\]]*)\]")


#: Where gin says which constructor failed, the innermost first.
_BUILT = re.compile(r"^  In call to configurable '([^']+)' \(<class ", re.MULTILINE)
#: Where a constructor's error comes from when a setting is to blame, and not a user's own code.
_LIBRARY = frozenset(("amago", "torch", "gin", "contextlib"))


# -- what can be set ---------------------------------------------------------------------------


def configurable_names() -> list[str]:
    """Full gin names (``amago.agent.Agent``) of everything that can be configured now."""
    return sorted(name for name, _ in gin.config._REGISTRY.items() if not name.startswith("gin."))


def selector_of(target: Any) -> str | None:
    """The full gin name of a class or function, or ``None`` when it is not configurable."""
    if not callable(target):
        return None
    try:
        found = gin.config._inverse_lookup(target)
    except TypeError:  # unhashable
        return None
    return None if found is None else found.selector


def parameters_of(selector: str) -> list[str] | None:
    """Names that can be set on a configurable; ``None`` when it takes any keyword."""
    signature = inspect.signature(gin.config._REGISTRY[selector].wrapper)
    kinds = inspect.Parameter
    if any(p.kind is kinds.VAR_KEYWORD for p in signature.parameters.values()):
        return None
    unnamed = (kinds.VAR_POSITIONAL, kinds.POSITIONAL_ONLY)
    return [n for n, p in signature.parameters.items() if p.kind not in unnamed]


def check_setting(selector: str, parameter: str, where: str = "") -> None:
    """Raise unless ``selector.parameter`` can be set; the message suggests what was meant.

    Args:
        selector: a gin name, with or without its module, without scopes.
        parameter: the keyword to set.
        where: how to name the place of the mistake, for the message.

    Raises:
        ConfigurationError: unknown or ambiguous name, unknown parameter.
    """
    full = check_name(selector, where)
    known = parameters_of(full)
    if known is not None and parameter not in known:
        short = full.rsplit(".", 1)[-1]
        raise ConfigurationError(
            f"{short} has no parameter {parameter!r}{where}; {nearest(parameter, known)}"
        )


def check_name(selector: str, where: str = "") -> str:
    """The one full gin name that ``selector`` stands for; raises as :func:`check_setting`."""
    matches = gin.config._REGISTRY.matching_selectors(selector)
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise ConfigurationError(
            f"the gin name {selector!r}{where} could be any of {', '.join(sorted(matches))}; write one in full"
        )
    names = configurable_names()
    last = selector.rsplit(".", 1)[-1]
    same_name = [n for n in names if n.rsplit(".", 1)[-1] == last]
    if same_name:
        hint = f"did you mean {', '.join(same_name)}?"
    else:
        hint = nearest(last, sorted({n.rsplit(".", 1)[-1] for n in names}))
    raise ConfigurationError(f"unknown gin name {selector!r}{where}; {hint}")


def operative_settings() -> dict[str, Any]:
    """Every setting that was used so far, by name (``Agent.gamma``); classes by their names."""
    found: dict[str, Any] = {}
    for (scope, selector), values in sorted(gin.config._OPERATIVE_CONFIG.items()):
        short = "/".join(filter(None, [scope, selector.rsplit(".", 1)[-1]]))
        for parameter, value in values.items():
            plain = value is None or isinstance(value, (bool, int, float, str))
            found[f"{short}.{parameter}"] = value if plain else getattr(value, "__name__", str(value))
    return found


# -- checking a whole configuration -------------------------------------------------------------


def check_bindings(bindings: Mapping[str, Any]) -> None:
    """Check every key (``"Agent.gamma"``, ``"scope/Agent.gamma"``) of a dict of settings.

    Keys without a parameter define macros, whose names are free.
    """
    for key in bindings:
        name = key.rsplit("/", 1)[-1]
        if "." in name:
            selector, parameter = name.rsplit(".", 1)
            check_setting(selector, parameter, where=f" (in {key!r})")
        elif not name.isidentifier():
            raise ConfigurationError(f"{key!r} is not a gin setting; write it as 'Name.parameter'")


class _NameChecker(config_parser.ParserDelegate):
    """Parses a file's values without building anything; remembers the names they refer to."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def configurable_reference(self, scoped_configurable_name: str, evaluate: bool) -> None:
        self.names.append(scoped_configurable_name.rsplit("/", 1)[-1])

    def macro(self, macro_name: str) -> None:
        return None


def check_gin_file(path: str | Path) -> None:
    """Check every name in a gin file and in the files that it includes.

    The modules that it imports are imported, because they may register names.

    Raises:
        ConfigurationError: missing file, syntax error, unknown name; with file and line.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigurationError(f"there is no gin file {str(path)!r}; check the path")
    delegate = _NameChecker()
    with path.open() as lines:
        try:
            for statement in config_parser.ConfigParser(lines, delegate):
                where = f" ({path}, line {statement.location.line_num})"
                if not _check_statement(statement, where):
                    return
                while delegate.names:
                    check_name(delegate.names.pop(), where)
        except SyntaxError as error:
            raise ConfigurationError(f"{path}, line {error.lineno}: {error.msg}") from error


def _check_statement(statement: Any, where: str) -> bool:
    """Check one statement of a gin file. False: the rest of the file cannot be checked ahead."""
    if isinstance(statement, config_parser.ImportStatement):
        if statement.module.startswith("__gin__"):
            return False  # gin then resolves names by the file's own imports
        try:
            importlib.import_module(statement.module)
        except ImportError as error:
            raise ConfigurationError(f"cannot import {statement.module!r}{where}: {error}") from error
    elif isinstance(statement, config_parser.IncludeStatement):
        check_gin_file(statement.filename)
    elif isinstance(statement, config_parser.BlockDeclaration):
        check_name(statement.selector, where)
    elif statement.arg_name:  # without one it defines a macro, whose name is free
        check_setting(statement.selector, statement.arg_name, where)
    return True


def as_gin_value(value: Any) -> Any:
    """A configurable class or function as the reference ``@name``.

    Gin leaves bare Python objects out of the configuration that it prints.
    """
    selector = selector_of(value)
    return value if selector is None else gin.config.ConfigurableReference(selector, False)


def without_gin(function: Callable[..., Any]) -> Callable[..., Any]:
    """A configurable function with the values that are bound now, and without gin around it.

    Gin's wrapper takes a lock at every call, which no compiled graph can contain.
    """
    selector = selector_of(function)
    if selector is None or inspect.isclass(function):
        return function
    return partial(gin.config._REGISTRY[selector].wrapped, **gin.get_bindings(selector))


# -- gin.REQUIRED --------------------------------------------------------------------------------


@contextmanager
def explain_required() -> Iterator[None]:
    """Turn gin's complaint about a missing ``gin.REQUIRED`` into one that shows the line to add.

    Errors that are ours already become one line again: gin appends which configurable called which.
    What one of our classes cannot be built with is an error of that kind too.

    Raises:
        ConfigurationError: a setting without a default was not configured, or one has an impossible value.
    """
    try:
        yield
    except AmagoError as error:
        first, appended, _ = str(error).partition("\n  In call to configurable")
        if not appended:
            raise
        raise _original_class(error)(first) from error
    except (RuntimeError, TypeError, ValueError) as error:
        if is_out_of_memory(error):  # a setting is to blame for it at most in part
            raise
        found = _REQUIRED.search(str(error))
        if found is None:
            built = _BUILT.search(str(error))
            if built is None or not _within_the_library(error):
                raise
            reason = str(error).split("\n")[0].strip()
            raise ConfigurationError(f"{built[1]} cannot be built with its settings: {reason}") from error
        settings = [f"{found[1]}.{name.strip().strip(chr(39))}" for name in found[2].split(",")]
        lines = " and ".join(f"`{s} = ...`" for s in settings)
        raise ConfigurationError(
            f"{', '.join(settings)} must be configured: there is no default. "
            f"Add {lines} to a gin file, or {settings[0]!r} to the dict that use_config gets"
        ) from error


def _within_the_library(error: BaseException) -> bool:
    trace, modules = error.__traceback__, set()
    while trace is not None:
        modules.add(str(trace.tb_frame.f_globals.get("__name__")).partition(".")[0])
        trace = trace.tb_next
    return modules <= _LIBRARY


def _original_class(error: AmagoError) -> type[AmagoError]:
    """The class of an error before gin wrapped it in classes of the same name."""
    return next(c for c in type(error).__mro__ if getattr(amago.errors, c.__name__, None) is c)


def explains_required(cls: _T) -> _T:
    """Class decorator, above ``@gin.configurable``: applies :func:`explain_required` to building it."""
    cls.__init__ = explain_required()(cls.__init__)  # type: ignore[misc]
    return cls
