"""The connection to Docker, and to podman, which speaks Docker's protocol on a socket of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from amago.errors import ConfigurationError

if TYPE_CHECKING:
    from docker import DockerClient

#: Seconds for one answer: saving and loading an image of a gigabyte is one.
TIMEOUT = 600
DAEMONS = ("docker", "podman")


def connect(engine: str) -> DockerClient:
    """A client of a running engine.

    Args:
        engine: ``docker`` (where DOCKER_HOST says, if it is set) or ``podman`` (CONTAINER_HOST).

    Raises:
        ConfigurationError: it does not run, or its socket may not be used.
    """
    try:
        import docker
    except ImportError:
        raise ConfigurationError(
            f"the engine {engine} needs the Python package docker, which is not installed here"
        ) from None
    from docker.errors import DockerException

    if engine not in DAEMONS:
        raise ConfigurationError(f"{engine} has no socket to connect to; {' and '.join(DAEMONS)} have")
    address = podman_address() if engine == "podman" else os.environ.get("DOCKER_HOST")
    where = address or "unix:///var/run/docker.sock"
    try:
        if engine == "docker":
            client = docker.from_env(timeout=TIMEOUT)
        else:
            client = docker.DockerClient(base_url=where, version="auto", timeout=TIMEOUT)
        client.ping()
    except (DockerException, OSError) as error:
        raise ConfigurationError(_why(engine, where, error)) from error
    return client


def podman_address() -> str:
    """Podman's socket: what CONTAINER_HOST says, else the user's own, else the system's."""
    named = os.environ.get("CONTAINER_HOST")
    if named:
        return named
    own = Path(os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}"), "podman", "podman.sock")
    return f"unix://{own if own.exists() else '/run/podman/podman.sock'}"


def _why(engine: str, where: str, error: BaseException) -> str:
    text = ""
    cause: BaseException | None = error
    while cause is not None:  # the SDK wraps what the system said several times
        if isinstance(cause, PermissionError):
            break
        text = f"{text} {cause}"
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, PermissionError) or "Permission denied" in text:
        way_out = (
            "join the group docker (`sudo usermod -aG docker $USER`, then log in again), or use --engine podman"
            if engine == "docker"
            else "use your own: `systemctl --user start podman.socket`"
        )
        return f"no permission to use {engine} at {where}: {way_out}"
    start = (
        "`sudo systemctl start docker`"
        if engine == "docker"
        else "`systemctl --user start podman.socket`, or `podman system service --time=0 &`"
    )
    return f"{engine} does not answer at {where}: start it ({start}), or choose another with --engine"
