"""Power losses: the file operations of a real save, recorded, and what a disk may keep of them.

While a `Recording` is open, every call that changes the file system is noted, and before each of
them the folder is compared with what was known, so that writes of any library are seen too. A
`Disk` then plays a beginning of the recording as a file system may: what was fsynced is there, of
everything else any part may be, in any order.
"""

from __future__ import annotations

import builtins
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

#: (kind, path, second path or content)
Operation = tuple[str, str, Any]


@dataclass
class Recording:
    """The operations on one folder, in order, and the folder as it was before."""

    root: Path
    before: dict[str, bytes | None]
    operations: list[Operation] = field(default_factory=list)
    marks: dict[int, str] = field(default_factory=dict)  #: number of operations -> what was then finished
    _files: dict[str, bytes] = field(default_factory=dict)

    def mark(self, what: str) -> None:
        """From here on, ``what`` has been promised to be on disk."""
        self.look()
        self.marks[len(self.operations)] = what

    def look(self) -> None:
        """Note what was written since the last look."""
        found = {p: c for p, c in tree(self.root).items() if c is not None}
        for path, content in found.items():
            if self._files.get(path) != content:
                if path not in self._files:
                    self.operations.append(("create", path, None))
                self.operations.append(("write", path, content))
        self._files = found

    def note(self, kind: str, path: Any, other: Any = None) -> None:
        name = self.relative(path)
        if name is not None:
            self.operations.append((kind, name, self.relative(other) if other is not None else None))

    def relative(self, path: Any) -> str | None:
        try:
            return str(Path(os.path.abspath(os.fsdecode(path))).relative_to(self.root))
        except (ValueError, TypeError):
            return None


def tree(root: Path) -> dict[str, bytes | None]:
    """Every path below ``root``: content of files, None of folders."""
    return {str(p.relative_to(root)): None if p.is_dir() else p.read_bytes() for p in sorted(root.rglob("*"))}


@contextmanager
def recorded(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recording]:
    """Record what happens to ``root``."""
    recording = Recording(root, tree(root))
    recording._files = {p: c for p, c in recording.before.items() if c is not None}
    handles: dict[int, str] = {}
    real_open, real_fsync, real_os_open = builtins.open, os.fsync, os.open

    def after(kind: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *rest: Any, **keywords: Any) -> Any:
            recording.look()
            folder = keywords.get("dir_fd")
            full = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path) if folder is not None else path
            result = real(path, *rest, **keywords)
            second = rest[0] if kind == "rename" else None
            recording.note(kind, full, second)
            if kind == "rename":  # what was below it moved along; nothing was written
                recording._files = {p: c for p, c in tree(root).items() if c is not None}
            elif kind == "unlink":
                recording._files.pop(recording.relative(full) or "", None)
            return result

        return call

    def os_open(path: Any, *rest: Any, **keywords: Any) -> int:
        handle = real_os_open(path, *rest, **keywords)
        handles[handle] = os.readlink(f"/proc/self/fd/{handle}")
        return handle

    def fsync(handle: int) -> None:
        recording.look()
        real_fsync(handle)
        recording.note("fsync", os.readlink(f"/proc/self/fd/{handle}"))

    with monkeypatch.context() as patch:
        for kind, names in {
            "rename": ("rename", "replace"),
            "unlink": ("unlink", "remove"),
            "rmdir": ("rmdir",),
            "mkdir": ("mkdir",),
        }.items():
            for name in names:
                patch.setattr(os, name, after(kind, getattr(os, name)))
        patch.setattr(os, "fsync", fsync)
        patch.setattr(os, "open", os_open)
        yield recording
        recording.look()
    assert builtins.open is real_open


def after_crash(recording: Recording, count: int, rng: np.random.Generator | None, target: Path) -> None:
    """Put on disk what may be left after a power loss behind the first ``count`` operations.

    Args:
        recording: of a save.
        count: operations that were issued.
        rng: chooses what un-fsynced operations reached the disk; ``None`` keeps all of them, as the
            end of a process does.
        target: an empty folder.
    """
    issued = recording.operations[:count]
    durable = [rng is None or _is_durable(i, issued) for i in range(count)]
    files: dict[str, bytes | None] = dict(recording.before)
    for i, (kind, path, other) in enumerate(issued):
        # A name may reach the disk before or after the data; an operation on what is not there is lost.
        if not durable[i] and rng is not None and rng.random() < 0.5:
            continue
        parent = os.path.dirname(path)
        if parent and parent not in files:
            continue
        if kind == "create":
            files.setdefault(path, b"")
        elif kind == "write" and path in files:
            # Appending leaves what was there before.
            old = files[path] or b""
            kept = old if other.startswith(old) else b""
            lasting = durable[i] or rng is None
            files[path] = other if lasting else kept + _torn(other[len(kept) :], rng)
        elif kind == "mkdir":
            files.setdefault(path, None)
        elif kind == "unlink":
            files.pop(path, None)
        elif kind == "rmdir":
            for name in [n for n in files if n == path or n.startswith(path + "/")]:
                del files[name]
        elif (
            kind == "rename"
            and path in files
            and (not os.path.dirname(other) or os.path.dirname(other) in files)
        ):
            for name in [n for n in files if n == other or n.startswith(other + "/")]:
                del files[name]
            for name in [n for n in files if n == path or n.startswith(path + "/")]:
                files[other + name[len(path) :]] = files.pop(name)
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name, content in sorted(files.items()):
        if content is None:
            (target / name).mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if content is not None:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes(content)


def _is_durable(i: int, issued: list[Operation]) -> bool:
    """Whether a later fsync of the file (data) or of its folder (names) made operation i last."""
    kind, path, other = issued[i]
    wanted = {path} if kind == "write" else {os.path.dirname(path) or "."}
    if kind == "rename":
        wanted = {os.path.dirname(other) or "."}
    for later, (what, name, second) in enumerate(issued[i + 1 :], i + 1):
        if what == "fsync" and name in wanted:
            return True
        if what == "rename":  # the same file or folder under its new name
            moved = {second + w[len(name) :] for w in wanted if w == name or w.startswith(name + "/")}
            wanted |= moved
        if later == len(issued):
            break
    return False


def _torn(content: bytes, rng: np.random.Generator) -> bytes:
    """Data that was not fsynced: lost, cut, zeros, or as another file left them."""
    match int(rng.integers(5)):
        case 0:
            return b""
        case 1:
            return content[: int(rng.integers(len(content) + 1))]
        case 2:
            return bytes(len(content))
        case 3:
            cut = int(rng.integers(len(content) + 1))
            return content[:cut] + rng.bytes(len(content) - cut)
    return content
