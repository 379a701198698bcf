"""Reading YAML and JSON that a person wrote, with errors that name the file, the key and what is allowed."""

from __future__ import annotations

import functools
import json
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from amago.errors import ConfigurationError
from amago.registry import nearest
from amago_suite.paths import SCHEMAS, shown

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import ValidationError

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_WORDS = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "null": "empty",
}


#: Far beyond what a person writes, and little enough that no file can fill the memory.
_MOST_BYTES = 4 * 2**20
_MOST_NODES = 1_000_000
_DEEPEST = 50


class _Loader(_Base):
    """A safe loader that refuses a key given twice (plain YAML keeps the last one, silently)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    None, None, "merge keys (<<) are not supported; write the keys out", key_node.start_mark
                )
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, (list, dict)):
                raise yaml.constructor.ConstructorError(None, None, "a key must be text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def load_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        ConfigurationError: it cannot be read or is not YAML; the message has the line.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise ConfigurationError(f"{shown(path)}: larger than {_MOST_BYTES >> 20} MiB")
        text = data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise ConfigurationError(f"cannot read {shown(path)}: {reason}") from error
    try:
        problem = _too_much(text)
        if problem:
            raise ConfigurationError(f"{shown(path)}: {problem}")
        content = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
        _check_plain(content)
        return content
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "not YAML"
        where = f"{shown(path)}:{mark.line + 1}" if mark else shown(path)
        raise ConfigurationError(f"{where}: {problem}") from error
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        # What YAML's constructors do with values that their tags do not fit.
        said = (str(error).splitlines() or ["not YAML"])[0]
        raise ConfigurationError(f"{shown(path)}: {said}") from error


def _too_much(text: str) -> str | None:
    """Why a YAML text must not be built, or None. Reads its events, which costs no memory.

    libyaml builds nested values on the C stack, which a deep file overflows; and aliases of aliases
    stand for more than any memory holds.
    """
    sizes: dict[str, int] = {}  # finished anchors
    open_nodes: list[tuple[str | None, int]] = []  # (anchor, nodes before it)
    nodes = 0
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in (anchor for anchor, _ in open_nodes):
                return f"the alias *{event.anchor} stands inside of what it names"
            nodes += sizes.get(str(event.anchor), 1)
        elif isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, nodes))
            nodes += 1
            if len(open_nodes) > _DEEPEST:
                line = event.start_mark.line + 1 if event.start_mark else 0
                return f"nested deeper than {_DEEPEST} levels (line {line})"
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor:
                sizes[anchor] = nodes - before
        elif isinstance(event, yaml.ScalarEvent):
            nodes += 1
            if event.anchor:
                sizes[event.anchor] = 1
        if nodes > _MOST_NODES:
            return f"stands for more than {_MOST_NODES:,} values"
    return None


def _check_plain(value: Any, where: tuple[str | int, ...] = ()) -> None:
    """YAML also knows dates, bytes and sets, and keys of any kind; here everything is as in JSON."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(_at(where, f"the key {_shorten(key)} must be text"))
            _check_plain(item, (*where, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_plain(item, (*where, index))
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(_at(where, f"{value} is no number that can be used here"))
    elif not (value is None or isinstance(value, (str, int, float, bool))):
        raise ValueError(_at(where, f"{_shorten(value)} is a {type(value).__name__}; write it in quotes"))


def _at(where: Iterable[Any], complaint: str) -> str:
    """The complaint, after the key that it is about, if there is one."""
    key = _key(where)
    return f"{key}: {complaint}" if key else complaint


@functools.cache
def _validator(name: str) -> Draft202012Validator:
    # jsonschema checks internationalised addresses where it can, and building their grammar takes 1.5 s
    # of every process. No schema here has any.
    grammar = "rfc3987_syntax"
    known = sys.modules.setdefault(grammar, None)  # type: ignore[arg-type]
    from jsonschema import Draft202012Validator, validators

    if known is None:
        del sys.modules[grammar]

    # JSON knows no difference between 1 and 1.0, but a folder called seed_1.0 is not one called seed_1.
    checker = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    strict = validators.extend(Draft202012Validator, type_checker=checker)
    return strict(json.loads((SCHEMAS / f"{name}.schema.json").read_text()))


def validate(data: Any, name: str, path: Path) -> None:
    """Check ``data`` against ``workflow/schemas/{name}.schema.json``.

    Raises:
        ConfigurationError: the first error in one line: file, key, what is allowed.
    """
    errors = sorted(_validator(name).iter_errors(data), key=lambda e: [str(p) for p in e.absolute_path])
    if errors:
        error = _innermost(errors[0])
        raise ConfigurationError(f"{shown(path)}: {_at(error.absolute_path, _explain(error))}")


def defaults(name: str, *keys: str) -> dict[str, Any]:
    """The defaults that the schema states for the properties of an object.

    Args:
        name: of the schema.
        keys: path of property names from the top to the object.
    """
    root = json.loads((SCHEMAS / f"{name}.schema.json").read_text())

    def follow(node: dict[str, Any]) -> dict[str, Any]:
        reference = node.get("$ref")
        return {**root["$defs"][reference.rsplit("/", 1)[1]], **node} if reference else node

    node = root
    for key in keys:
        node = follow(node["properties"][key])
    found = {key: follow(value) for key, value in node["properties"].items()}
    return {key: value["default"] for key, value in found.items() if "default" in value}


def _innermost(error: ValidationError) -> ValidationError:
    """Of "a name or a mapping", the complaint about the branch that the value was meant as."""
    while error.context:
        meant = [e for e in error.context if not (e.validator == "type" and len(e.relative_path) == 0)]
        if not meant:
            break
        error = meant[0]
    return error


def _key(parts: Iterable[Any]) -> str:
    text = ""
    for part in parts:
        name = part if isinstance(part, int) or part.isprintable() else _shorten(part)
        text += f"[{name}]" if isinstance(part, int) else f"{'.' if text else ''}{name}"
    return text


def _explain(error: ValidationError) -> str:
    value, limit = error.instance, error.validator_value
    match error.validator:
        case "additionalProperties":
            known = sorted(error.schema["properties"])
            unknown = sorted(str(key) for key in value if key not in error.schema["properties"])
            hint = nearest(unknown[0], known)
            return f"unknown key {unknown[0]!r}; {hint}" + (
                "" if "known:" in hint else f" (allowed: {', '.join(known)})"
            )
        case "required":
            missing = [key for key in limit if key not in value]
            return f"the key {missing[0]!r} is missing"
        case "type":
            return f"must be {_WORDS.get(str(limit), limit)}, got {_shorten(value)}"
        case "minimum":
            return f"must be at least {limit}, got {value}"
        case "maximum":
            return f"must be at most {limit}, got {_shorten(value)}"
        case "uniqueItems":
            twice = next(item for index, item in enumerate(value) if item in value[:index])
            return f"{twice!r} is given twice; each may stand once"
        case "minItems":
            return "must not be empty"
        case "minLength":
            return "must not be empty"
        case "maxLength" if "pattern" not in error.schema:
            return f"must be at most {limit} characters, got {len(value):,}"
        case "pattern" | "maxLength":
            return f"{_shorten(value)} is no name: {error.schema.get('description', f'must match {limit}')}"
        case "enum":
            return f"must be one of {', '.join(map(str, limit))}, got {_shorten(value)}"
        case "anyOf":
            kinds = [_WORDS.get(branch.get("type", "string"), "text") for branch in limit]
            return f"must be {' or '.join(kinds)}, got {_shorten(value)}"
    return error.message.replace("\n", " ")


def _shorten(value: Any) -> str:
    text = "nothing" if value is None else repr(value).encode("ascii", "backslashreplace").decode()
    return text if len(text) <= 60 else text[:57] + "..."
