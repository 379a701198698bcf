"""Hostile inputs: valid files with bytes changed, values replaced, and bombs put in."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

#: Numbers and texts that break readers more often than chance would find them.
HOSTILE_VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    0.5,
    10**12,
    2**31,
    2**63,
    2**64,
    10**30,
    1e308,
    float("inf"),
    float("nan"),
    "",
    "..",
    "../../etc/passwd",
    "/etc/passwd",
    "a\nb",
    "a\0b",
    "\ud7ff\uffff",
    "²",
    "x" * 3000,
    [],
    {},
    [[]],
    [0, "x"],
    {"": None},
]

values = st.recursive(
    st.sampled_from(HOSTILE_VALUES)
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.booleans()
    | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def _paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [here]
    if isinstance(value, dict):
        for key, item in value.items():
            found += _paths(item, (*here, key))
    elif isinstance(value, list):
        for index, item in enumerate(value[:5]):
            found += _paths(item, (*here, index))
    return found


def _replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    key, rest = path[0], path[1:]
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    if new is _GONE and not rest:
        del copy[key]
    else:
        copy[key] = _replaced(copy[key], rest, new)
    return copy


_GONE = object()


def changed_values(valid: Any, dump: Callable[[Any], str]) -> st.SearchStrategy[bytes]:
    """A document in which one to three values were replaced or removed, written by ``dump``."""

    @st.composite
    def build(draw: st.DrawFn) -> bytes:
        value = valid
        for _ in range(draw(st.integers(1, 3))):
            path = draw(st.sampled_from(_paths(value)))
            new = _GONE if path and draw(st.integers(0, 4)) == 0 else draw(values)
            value = _replaced(value, path, new)
        try:
            return dump(value).encode("utf-8", "surrogatepass")
        except (TypeError, ValueError, RecursionError):
            return b""

    return build()


def changed_bytes(valid: list[bytes], tokens: list[bytes]) -> st.SearchStrategy[bytes]:
    """A file with up to eight flips, cuts, insertions, repeats or overwritten numbers."""
    pieces = st.sampled_from(tokens) | st.binary(min_size=1, max_size=9) if tokens else st.binary(max_size=9)

    @st.composite
    def build(draw: st.DrawFn) -> bytes:
        data = bytearray(draw(st.sampled_from(valid)))
        for _ in range(draw(st.integers(1, 8))):
            at = draw(st.integers(0, max(len(data) - 1, 0)))
            match draw(st.integers(0, 6)):
                case 0 if data:
                    data[at] ^= 1 << draw(st.integers(0, 7))
                case 1:
                    del data[at:]
                case 2:
                    data[at:at] = draw(pieces)
                case 3:
                    piece = draw(pieces)
                    data[at : at + len(piece)] = piece
                case 4:
                    del data[at : at + draw(st.integers(1, 40))]
                case 5:
                    data[at:at] = data[at : at + draw(st.integers(1, 40))] * draw(st.integers(1, 20))
                case 6:
                    number = draw(st.sampled_from([0, 1, 0x7F, 0xFF, 2**31, 2**32 - 1, 10**12, 2**63]))
                    data[at : at + 8] = number.to_bytes(8, "little")
        return bytes(data)

    return build()


def document(
    valid: Any, dump: Callable[[Any], str] = json.dumps, tokens: list[bytes] | None = None
) -> st.SearchStrategy[bytes]:
    """Text files: changed values, changed bytes, and any bytes."""
    text = dump(valid).encode()
    return (
        changed_values(valid, dump)
        | changed_bytes([text], [*(tokens or []), *JSON_TOKENS])
        | st.binary(max_size=64)
        | st.sampled_from(JSON_BOMBS)
    )


JSON_TOKENS = [
    *(b"[", b"]", b"{", b"}", b'"', b":", b",", b"null", b"NaN", b"Infinity", b"-", b"1e999", b"\\u0000"),
    *(b"\xff\xfe", b"\0", b"\n", b"9" * 5000),
]
JSON_BOMBS = [
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b"9" * 10_000,
    b'"' + b"\\u" * 1000,
    b"[" + b"0," * 100_000 + b"0]",
]

YAML_TOKENS = [
    *(b"&a ", b"*a", b"<<: *a", b"!!python/object/apply:os.system [touch canary]", b"!!binary ", b"!!set "),
    *(
        b"!!timestamp x",
        b"!!int ''",
        b"!!bool x",
        b"? ",
        b"- ",
        b"---\n",
        b"...\n",
        b"%YAML 9.9\n",
        b"\t",
        b"|\n",
    ),
    *(
        b"'",
        b'"',
        b"{",
        b"[",
        b"#",
        b"2001-01-01",
        b"1:1:1",
        b"0x_",
        b".inf",
        b"~",
        b"\xff",
        b"\0",
        b"\xc2\x85",
    ),
]
YAML_BOMBS = [
    b"a: &a [x, x]\n"
    + b"".join(b"%c: &%c [*%c, *%c, *%c]\n" % (c + 1, c + 1, c, c, c) for c in range(97, 121)),
    b"[" * 200_000,
    b"{a: " * 100_000,
    b"- " * 100_000,
    b"? " * 50_000,
    b"a: &a {b: *a}",
    b"\n".join(b" " * i + b"a:" for i in range(3000)),
    b"a: " + b"x" * (5 * 2**20),
    b"!!python/object/apply:os.system ['touch canary']",
    b"a: !!python/object/new:subprocess.Popen [[touch, canary]]",
    b"- !!python/name:os.system",
    b"a: 0b" + b"1" * 100_000,
    b"x: " + b"1:" * 10_000 + b"1",
]

GIN_TOKENS = [
    *(
        b"import os\n",
        b"from os import path\n",
        b"include '/etc/passwd'\n",
        b"from __gin__ import dynamic_registration\n",
    ),
    *(
        b"@",
        b"%",
        b"@Agent()",
        b"@gin.singleton()",
        b"= ",
        b"[",
        b"(",
        b"{",
        b"\n",
        b"    ",
        b"\\\n",
        b"'''",
        b'"',
    ),
    *(
        b"1e999",
        b"%gin.REQUIRED",
        b"Agent:\n",
        b"a/b/Agent.tau = 1\n",
        b"__import__('os').system('touch canary')",
    ),
    *(
        b"x = %x\n",
        b"lambda: 0",
        b"9" * 5000,
        b"\0",
        b"\xff",
        b"#",
        b"...",
        b"1j",
        b"b'x'",
        b"{[1]: 2}",
        b"{1, 2}",
    ),
]
GIN_BOMBS = [
    b"".join(b"m%d = [%%m%d, %%m%d]\n" % (i, i + 1, i + 1) for i in range(40))
    + b"m40 = 1\nAgent.tau = %m0\n",
    b"Agent.tau = " + b"[" * 100_000,
    b"Agent.tau = " + b"(" * 150 + b")" * 150,
    b"Agent.tau = " + b"-" * 50_000 + b"1",
    b"Agent.tau = " + b"'a' " * 50_000,
    b"Agent.tau = " + b"{" * 90 + b"}" * 90,
    b"import os\nos.system.command = 'touch canary'\n",
    b"from __gin__ import dynamic_registration\nimport subprocess\nAgent.tau = @subprocess.getoutput()\n",
    b"include 'canary.gin'\n",
    b"Agent.tau = __import__('os').system('touch canary')\n",
    b"k = [1]\nAgent.tau = {%k: 1}\n",
    b"x" * (2 * 2**20),
]
