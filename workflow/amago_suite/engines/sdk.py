"""Docker, and Podman behind the same interface on another socket, through the `docker` package."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import threading
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import docker
import docker.errors
import docker.types
import requests
from docker.utils.socket import STDERR, frames_iter

from amago.errors import AmagoError, ConfigurationError
from amago_suite.engines.boxed import GRACE, LABEL, WORK, Boxed, Container, Ended, Plan
from amago_suite.images import Image, connect
from amago_suite.locks import Owner


class Docker(Boxed):
    """The Docker engine that ``DOCKER_HOST`` names, or the usual socket."""

    name = "docker"

    @cached_property
    def client(self) -> docker.APIClient:
        """A connection to the engine; ConfigurationError where there is none."""
        return connect(self.name).api

    def check(self) -> None:
        """See `Boxed.check`."""
        with self._asking():
            options = self.client.info().get("SecurityOptions") or []
        if self.name == "docker" and "name=rootless" in options:
            raise ConfigurationError(
                "docker: this engine is rootless, and in its containers only root is you; use --engine podman"
            )

    def slow_start(self, image: Image) -> tuple[str, str] | None:
        """See `Boxed.slow_start`."""
        with self._asking():
            driver = self.client.info().get("Driver")
        if driver != "vfs":
            return None
        return (
            "its storage driver, vfs, copies the whole image for every job",
            "let it use overlay (storage.conf)",
        )

    def start(self, plan: Plan) -> Container:
        """See `Boxed.start`."""
        with self._asking(plan):
            identity = self._create(plan)
            try:
                # Attached before it starts, so that none of its output is lost.
                pipe = self.client.attach_socket(
                    identity, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
                )
                self.client.start(identity)
            except BaseException:
                self._remove(identity)
                raise
        return _Running(self, identity, pipe)

    def _create(self, plan: Plan) -> str:
        client, limits = self.client, plan.limits
        memory = f"{limits.memory_mb}m"
        config = client.create_host_config(
            read_only=True,
            # Also for programs, which torch compiles there.
            tmpfs={"/tmp": f"rw,exec,nosuid,nodev,size={limits.memory_mb}m,mode=1777"},  # noqa: S108
            shm_size=memory,
            mounts=[docker.types.Mount(str(plan.inside), str(plan.folder), type="bind")],
            network_mode=plan.network,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            nano_cpus=round(limits.cpus * 1e9),
            mem_limit=memory,
            memswap_limit=memory,  # of both together: no swap
            pids_limit=limits.processes,
            device_requests=self._devices(plan),
            log_config=docker.types.LogConfig(type="none"),  # the output goes to the job's own log
        )
        config |= self._of_engine()
        created = client.create_container(
            plan.image.image_id,
            list(plan.command),
            user=f"{plan.user[0]}:{plan.user[1]}",
            working_dir=str(WORK),
            environment=plan.environment,
            labels=plan.labels,
            stdin_open=True,  # its end is how the box learns that its launcher is gone
            host_config=config,
            stop_signal="SIGTERM",
        )
        return str(created["Id"])

    def _devices(self, plan: Plan) -> list[docker.types.DeviceRequest] | None:
        if not plan.devices:
            return None
        return [docker.types.DeviceRequest(device_ids=list(plan.devices), capabilities=[["gpu"]])]

    def _of_engine(self) -> dict[str, Any]:
        """What only this engine knows of a host configuration."""
        return {}

    def running(self, box: str) -> bool:
        """See `Boxed.running`."""
        with self._asking():
            return bool(self.client.containers(filters={"label": f"{LABEL}.box={box}"}))

    def sweep(self, root: Path) -> list[tuple[str, Path]]:
        """See `Boxed.sweep`."""
        with self._asking():
            found = self.client.containers(all=True, filters={"label": f"{LABEL}.root={root}"})
        dead = [entry for entry in found if _is_orphan(entry["Labels"])]
        # Each was asked to stop when its launcher ended, so all are waited for at once.
        threads = [threading.Thread(target=self._end, args=(entry["Id"],)) for entry in dead]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [(e["Labels"][f"{LABEL}.box"], Path(e["Labels"][f"{LABEL}.cell"])) for e in dead]

    def _end(self, identity: str) -> None:
        with contextlib.suppress(docker.errors.DockerException, requests.RequestException):
            self.client.stop(identity, timeout=int(GRACE))
        self._remove(identity)

    def _remove(self, identity: str) -> None:
        with contextlib.suppress(docker.errors.DockerException, requests.RequestException):
            self.client.remove_container(identity, force=True)

    @contextlib.contextmanager
    def _asking(self, plan: Plan | None = None) -> Iterator[None]:
        """Say what the engine refuses in one line that names the way out."""
        try:
            yield
        except (docker.errors.DockerException, requests.RequestException) as error:
            raise self._explained(error, plan) from error

    def _explained(self, error: Exception, plan: Plan | None) -> AmagoError:
        text = str(getattr(error, "explanation", None) or error).strip().partition("\n")[0]
        words = text.lower()
        if plan is not None and isinstance(error, docker.errors.ImageNotFound):
            image = plan.image
            return ConfigurationError(
                f"{self.name}: there is no image {image.reference} ({image.image_id[:19]}) any more: "
                f"`amago-suite images build {image.family}`"
            )
        if "no space left" in words:
            return AmagoError(
                f"{self.name}: the engine's disk is full: {text} (`{self.name} system df` says of what)"
            )
        if (
            plan is not None
            and plan.devices
            and ("device driver" in words or "gpu" in words or "cdi" in words)
        ):
            return ConfigurationError(
                f"{self.name}: the engine cannot hand out a GPU (is the NVIDIA Container Toolkit installed?): {text}"
            )
        answered = isinstance(error, docker.errors.APIError)  # which is a RequestException too
        if isinstance(error, requests.RequestException) and not answered:
            return AmagoError(f"{self.name}: the engine does not answer any more: {text}")
        return AmagoError(f"{self.name}: {text}")


class Podman(Docker):
    """Podman's service, which speaks Docker's language."""

    name = "podman"

    def start(self, plan: Plan) -> Container:
        """See `Boxed.start`."""
        # Its service writes mounts as a line of values and reads that again, without quoting them.
        if any(sign in str(plan.folder) for sign in ',"\n'):
            raise ConfigurationError(
                f"podman: it cannot give {plan.folder} to a job, because of a comma, quotation mark or line break in "
                "the path; move the results, or use another --engine"
            )
        return super().start(plan)

    @cached_property
    def _rootless(self) -> bool:
        """Whether the service is an ordinary user's own."""
        with self._asking():
            return bool(self.client.info().get("Rootless"))

    def without_limits(self) -> str | None:
        """See `Boxed.without_limits`."""
        with self._asking():
            first = self.client.info().get("CgroupVersion") == "1"
        return "without root podman limits them with cgroups v2 alone" if first and self._rootless else None

    def _of_engine(self) -> dict[str, Any]:
        # Without it the caller would be root inside. (The SDK refuses words that Docker does not have.)
        return {"UsernsMode": "keep-id"} if self._rootless else {}

    def _devices(self, plan: Plan) -> list[docker.types.DeviceRequest] | None:
        if not plan.devices:
            return None
        return [
            docker.types.DeviceRequest(driver="cdi", device_ids=[f"nvidia.com/gpu={d}" for d in plan.devices])
        ]


class _Running(Container):
    """A container that this process is attached to."""

    def __init__(self, engine: Docker, identity: str, pipe: Any) -> None:
        self._engine = engine
        self._identity = identity
        self._pipe = pipe
        self._pump = threading.Thread(target=self._pass_on, daemon=True)
        self._pump.start()

    def _pass_on(self) -> None:
        """Copy the output as it comes."""
        outputs: dict[int, IO[bytes]] = {STDERR: sys.stderr.buffer}
        with contextlib.suppress(OSError, ValueError):
            for stream, data in frames_iter(self._pipe, tty=False):
                output = outputs.get(stream, sys.stdout.buffer)
                # A log that cannot be written (a full disk) is no reason to stop reading.
                with contextlib.suppress(OSError):
                    output.write(data)
                    output.flush()

    def wait(self, seconds: float) -> Ended | None:
        """See `Container.wait`."""
        self._pump.join(seconds)
        if self._pump.is_alive():
            return None
        with self._engine._asking():
            code = self._engine.client.wait(self._identity)["StatusCode"]
            state = self._engine.client.inspect_container(self._identity)["State"]
        return Ended(int(code), bool(state.get("OOMKilled")))

    def signal(self, number: signal.Signals) -> None:
        """See `Container.signal`."""
        with contextlib.suppress(docker.errors.DockerException, requests.RequestException):
            self._engine.client.kill(self._identity, signal=int(number))

    def remove(self) -> None:
        """See `Container.remove`."""
        self._engine._remove(self._identity)


def _is_orphan(labels: dict[str, str]) -> bool:
    """Whether the launcher of a box was on this machine and is gone."""
    try:
        owner = Owner(**json.loads(labels[f"{LABEL}.owner"]))
    except (KeyError, ValueError, TypeError):
        return False
    return owner.here and not owner.running
