"""Short names for a user's and our own classes."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Generic, TypeVar

from amago.errors import ConfigurationError

T = TypeVar("T")
#: More names than these are not all shown in an error message.
_MOST_SHOWN = 30
#: So many names at most are taken for what was meant.
_MOST_MEANT = 3


class Registry(Generic[T]):
    """A table from short names to things of one kind.

    Args:
        kind: what an entry is, for error messages ("trajectory encoder").
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that enters a thing under ``name``.

        Raises:
            ConfigurationError: the name is taken by something else.
        """

        def enter(thing: T) -> T:
            if name in self._entries and not _same(self._entries[name], thing):
                raise ConfigurationError(
                    f"the {self.kind} name {name!r} is taken by {self._entries[name]}; choose another name"
                )
            self._entries[name] = thing
            return thing

        return enter

    def get(self, name: str) -> T:
        """The entry called ``name``.

        Raises:
            ConfigurationError: no such entry; the message has the nearest names.
        """
        if name not in self._entries:
            raise ConfigurationError(f"unknown {self.kind} {name!r}; {nearest(name, self.names())}")
        return self._entries[name]

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._entries)


def _same(old: object, new: object) -> bool:
    """Whether a re-import (a notebook, say) registers the same definition again."""
    return (getattr(old, "__module__", 0), getattr(old, "__qualname__", 0)) == (
        getattr(new, "__module__", 1),
        getattr(new, "__qualname__", 1),
    )


def nearest(name: str, known: list[str]) -> str:
    """ "did you mean a, b?" or what there is, for the end of an error message."""
    longer = [word for word in known if name and word.startswith(name)]
    if len(longer) > _MOST_MEANT:
        return f"{len(longer)} begin with it: {', '.join(longer[:_MOST_MEANT])} ..."
    close = difflib.get_close_matches(name, known, n=_MOST_MEANT, cutoff=0.5)
    if close := list(dict.fromkeys(longer + close))[:_MOST_MEANT]:
        return f"did you mean {', '.join(close)}?"
    if len(known) > _MOST_SHOWN:
        return f"known: {', '.join(known[:_MOST_SHOWN])} and {len(known) - _MOST_SHOWN} others"
    return f"known: {', '.join(known)}" if known else "none are registered"
