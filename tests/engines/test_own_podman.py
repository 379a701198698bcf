"""Podman without root: an ordinary user's own service, in whose boxes the user stays the same."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from amago_suite.engines import engine
from amago_suite.engines.boxed import Boxed
from amago_suite.engines.job import Job
from amago_suite.engines.settings import Settings
from amago_suite.exits import DONE
from amago_suite.images import connect, resolve
from amago_suite.images.preparing import ensure
from amago_suite.images.sif import copy_image
from tests.engines.conftest import SMALL, Desk, planned, wait_for
from tests.engines.test_same_numbers import same

pytestmark = [pytest.mark.podman, pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def user() -> Iterator[pwd.struct_passwd]:
    """A new user of this machine, with ids for containers; gone afterwards."""
    needed = ("useradd", "newuidmap", "setpriv")
    if os.geteuid() != 0 or not all(map(shutil.which, needed)):
        pytest.skip(f"needs root, to become an ordinary user, and {', '.join(needed)}")
    name = f"amago{secrets.token_hex(3)}"
    subprocess.run(["useradd", "--create-home", name], check=True)
    found = pwd.getpwnam(name)
    try:
        yield found
    finally:
        subprocess.run(["pkill", "-KILL", "-u", str(found.pw_uid)], check=False)
        subprocess.run(["userdel", "--force", "--remove", name], check=True, capture_output=True)


@pytest.fixture
def own_podman(user: pwd.struct_passwd, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The user's service, with the core's image in it."""
    home = Path(user.pw_dir)
    settings = home / ".config" / "containers" / "storage.conf"
    settings.parent.mkdir(parents=True)
    settings.write_text('[storage]\ndriver = "overlay"\n')  # another one copies all layers for every box
    (home / "run").mkdir(mode=0o700)
    give(home, user)
    socket = home / "run" / "podman.sock"
    become = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    own = {"HOME": user.pw_dir, "XDG_RUNTIME_DIR": str(socket.parent), "PATH": os.environ["PATH"]}
    with (home / "service.log").open("wb") as log:
        service = subprocess.Popen(
            [*become, "podman", "system", "service", "--time=0", f"unix://{socket}"],
            cwd=home, env=own, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        wait_for(socket.exists, 60, "the user's podman")
        monkeypatch.setenv("CONTAINER_HOST", f"unix://{socket}")
        copy_image(ensure("docker", "core"), "podman")
        yield
    finally:
        service.terminate()
        service.wait(60)


def give(folder: Path, user: pwd.struct_passwd) -> None:
    """Make a folder, and all in it, the user's."""
    subprocess.run(["chown", "--recursive", f"{user.pw_uid}:{user.pw_gid}", str(folder)], check=True)


@pytest.mark.usefixtures("own_podman")
def test_an_ordinary_users_own_podman(
    user: pwd.struct_passwd, reference: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same numbers as on the host; what a job writes is its caller's."""
    facts = connect("podman").info()
    assert facts["Rootless"]
    assert isinstance(podman := engine("podman"), Boxed)
    assert (podman.without_limits() is None) == (facts["CgroupVersion"] == "2")
    assert podman.slow_start(resolve("podman", "core")) is None
    desk = Desk(Path(user.pw_dir))
    (cell,) = planned(desk, **SMALL)
    give(desk.folder / "results", user)
    with monkeypatch.context() as caller:
        caller.setattr(os, "geteuid", lambda: user.pw_uid)
        caller.setattr(os, "getegid", lambda: user.pw_gid)
        for stage in ("train", "evaluate"):
            assert podman.run(Job(stage, cell.folder), Settings("podman")) == DONE
    same(cell.folder, reference.cell("rnn"))
    assert {path.stat().st_uid for path in cell.folder.rglob("*")} == {user.pw_uid}
    assert not connect("podman").containers.list(all=True)
