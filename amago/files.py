"""Writing files so that they appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from amago.errors import StorageError

#: What the system says when a file cannot be written, whatever the program does.
_UNWRITABLE = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG)
)


@contextlib.contextmanager
def storage_errors() -> Iterator[None]:
    """A disk that is full or cannot be written becomes one clear line; other errors pass.

    Raises:
        StorageError: names the file and the reason.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        where = f"{error.filename}: " if error.filename else ""
        raise StorageError(
            f"cannot write {where}{error.strerror}; free some space or mend permissions and start again: "
            "what was saved before is intact"
        ) from error


def said_of_storage(error: BaseException) -> str | None:
    """One line about a file that could not be used, why, and the way out; None where storage is not to blame."""
    if not isinstance(error, OSError) or error.filename is None:
        return None
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        way_out = "free some space"
    elif error.errno in _UNWRITABLE or error.errno in (errno.ESTALE, errno.ETIMEDOUT):
        way_out = "mend the permissions of it and its folder, or the disk"
    else:
        return None
    return f"{error.filename}: {error.strerror}; {way_out}"


def is_name(name: object) -> bool:
    """Whether it names a file or folder in the folder where it is put, and nowhere else."""
    plain = isinstance(name, str) and name == Path(name).name and name not in ("", ".", "..")
    return plain and not set(str(name)) & set("\\\0\n")


def make_folder(folder: Path) -> None:
    """``mkdir -p`` whose new folders survive a power loss."""
    missing = [p for p in (folder, *folder.parents) if not p.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        fsync_folder(made.parent)


_UMASK = os.umask(0o022)
os.umask(_UMASK)


def fsync_folder(folder: Path) -> None:
    """Make renames and new names inside ``folder`` survive a power loss."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomic(path: Path, write: Callable[[Path], None], durable: bool = True) -> None:
    """Write through a temporary neighbour that is renamed into place.

    Args:
        path: where the file appears; an older one is replaced at once.
        write: gets the temporary path and writes all of the content.
        durable: fsync the file and its folder.

    Raises:
        OSError: as the system gave it (disk full, permission); ``path`` is then as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        # Some writers make private files (safetensors does); results are for colleagues too.
        temporary.chmod(0o666 & ~_UMASK)
        if durable:
            with open(temporary, "rb") as handle:
                os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        fsync_folder(path.parent)


def write_text(path: Path, text: str, durable: bool = True) -> None:
    """Atomic ``write_text`` in UTF-8."""
    write_atomic(path, lambda p: write_bytes(p, text.encode()), durable)


def write_json(path: Path, value: Any, durable: bool = True) -> None:
    """Atomic JSON with sorted keys; NaN is refused because JSON has none."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n", durable)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a finished file, which nobody writes to again, a second name; a copy where links cannot be.

    Raises:
        OSError: as the system gave it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    # It may be another name of a file that must stay as it is: never write into it.
    temporary.unlink(missing_ok=True)
    try:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)  # also stays when both were names of one file already


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """All of a file's content. A full disk is an ``OSError`` that names the file.

    What other libraries serialise is written here too: their own writers hide the reason, or make
    files that nobody else may read.
    """
    try:
        path.write_bytes(data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
