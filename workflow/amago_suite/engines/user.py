"""Whose a job in a box is on this machine, and what it may leave behind in its folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from amago.errors import AmagoError

#: Nobody's, by convention, where a job would otherwise run as root.
NOBODY = 65534


def box_user(results: Path) -> tuple[int, int]:
    """(user, group) that a job runs as: the caller, but never root.

    Args:
        results: folder of all results. Where root calls, its owner is who the job runs as, and where
            root owns that too, nobody.
    """
    user, group = os.geteuid(), os.getegid()
    if user == 0:
        owner = results.stat()
        user, group = owner.st_uid, owner.st_gid
    return user or NOBODY, group or NOBODY


def give(folder: Path, user: int, group: int) -> None:
    """Make a cell's folder writable for the user of its job; only root needs to do anything.

    Raises:
        AmagoError: it cannot be done.
    """
    if os.geteuid() != 0:
        return
    try:
        for path in (folder, *_below(folder)):
            found = path.lstat()
            if found.st_uid != user:
                os.chown(path, user, group, follow_symlinks=False)
    except OSError as error:
        raise AmagoError(
            f"cannot make {folder} writable for user {user}, as which its job runs: {error.strerror}"
        ) from error


def foreign(folder: Path) -> list[Path]:
    """What no job of ours makes, and what must not leave a box.

    Links, because outside they lead where the job itself could not reach; pipes and sockets, because
    reading them never ends; set-user bits, because they lend the caller's rights to others.
    """
    found = []
    for path in _below(folder):
        mode = path.lstat().st_mode
        plain = stat.S_ISREG(mode) or stat.S_ISDIR(mode)
        if not plain or (stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID)):
            found.append(path)
    return found


def _below(folder: Path) -> list[Path]:
    """Everything below a folder; links are not followed."""
    return [Path(base, name) for base, folders, files in os.walk(folder) for name in (*folders, *files)]
