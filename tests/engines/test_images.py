"""Images in real engines: what is in them, whom they belong to, and what is said when one does not fit."""

from __future__ import annotations

import io
import json
import os
import secrets
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from amago import TRAINING_VERSION
from amago.errors import AmagoError, ConfigurationError
from amago_suite.images import Image, ImageMissing, connect, families, lock_hash, resolve
from amago_suite.images import build as building
from amago_suite.images import contents as names
from amago_suite.images.build import BASE_VARIABLE, Options
from amago_suite.images.finding import CODE, IMAGE_ID, sif_labels
from amago_suite.images.listing import list_images
from amago_suite.images.preparing import ensure, make_all, other_code
from amago_suite.images.sif import build_sif, copy_image

#: What `tests/engines/setup base` makes.
LOCAL_BASE = "amago-suite/base"
PACKAGES = """
import importlib.metadata, json
print(json.dumps([[d.name, d.version] for d in importlib.metadata.distributions()]))
"""


@pytest.fixture(scope="module")
def docker() -> Iterator[Any]:
    """A client of the real engine."""
    client = connect("docker")
    yield client
    client.close()


@pytest.fixture(scope="module")
def core() -> Image:
    """The core's image, built if need be: all tests share it."""
    return ensure("docker", "core")


@pytest.fixture
def prefix(docker: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Names of this test's own; what has one is removed afterwards."""
    own = f"amago-test-{secrets.token_hex(4)}"
    monkeypatch.setenv(names.PREFIX_VARIABLE, own)
    if BASE_VARIABLE not in os.environ and docker.images.list(LOCAL_BASE):
        monkeypatch.setenv(BASE_VARIABLE, LOCAL_BASE)
    yield own
    # The listing alone: the SDK's objects ask again for each image, which another test may have removed.
    for image in docker.api.images():
        for tag in image["RepoTags"] or []:
            if tag.startswith(f"{own}/"):
                docker.images.remove(tag, force=True)


def imported(docker: Any, name: str, labels: dict[str, str]) -> str:
    """An image of one empty file, with labels. Returns its id."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("empty"))
    changes = [f"LABEL {key}={json.dumps(value)}" for key, value in labels.items()]
    docker.api.import_image_from_data(packed.getvalue(), repository=name, tag="latest", changes=changes)
    return str(docker.images.get(name).id)


def good_labels(family: str = "core") -> dict[str, str]:
    """Labels that fit this code."""
    return {
        "amago.family": family,
        "amago.training-version": str(TRAINING_VERSION),
        "amago.lock-hash": lock_hash(family),
    }


def in_image(docker: Any, image: Image, *command: str, **options: Any) -> str:
    """Output of a command in a container without network, its root read-only."""
    output = docker.containers.run(
        image.image_id,
        list(command),
        remove=True,
        network_mode="none",
        read_only=True,
        tmpfs={"/tmp": ""},
        **options,
    )
    return str(output.decode())


def packages(docker: Any, image: Image) -> dict[str, str]:
    """Name, as indexes write it, -> version of all that is installed."""
    found = json.loads(in_image(docker, image, "python", "-c", PACKAGES))
    return {name.lower().replace("_", "-").replace(".", "-"): version for name, version in found}


@pytest.mark.docker
@pytest.mark.slow
def test_image_holds_its_lock_and_nothing_of_the_pipeline(docker: Any, core: Image) -> None:
    """Exactly the locked versions and torch of this machine's kind; no pip, no Snakemake, no pandas."""
    found = packages(docker, core)
    lines = (names.CONTAINERS / "core" / "requirements.lock").read_text().splitlines()
    pins = [line for line in lines if line[:1].isalnum()]
    locked = {line.split("==")[0]: line.split("==")[1].split(" ")[0] for line in pins}
    assert ("+cpu" in found.pop("torch")) == (names.host_variant() == "cpu")
    assert {name: version for name, version in found.items() if locked.get(name) != version} == {}
    conditional = {line.split("==")[0] for line in pins if " ; " in line}  # for other systems and Pythons
    assert set(locked) - set(found) <= conditional
    assert not {"pip", "snakemake", "pandas", "matplotlib"} & set(found)


@pytest.mark.docker
@pytest.mark.slow
def test_image_is_nobodys_and_works_read_only(docker: Any, core: Image) -> None:
    """No root, no network, a read-only root, a user that nobody knows: torch and the library start."""
    program = "import os, torch, amago, envs_suite; print(os.getuid(), torch.zeros(2).sum().item())"
    assert in_image(docker, core, "python", "-c", program).split() == ["65534", "0.0"]
    assert in_image(docker, core, "python", "-c", program, user="4321:4321").split() == ["4321", "0.0"]
    assert in_image(docker, core, "amago-suite", "train", "--help").startswith("Usage: amago-suite train")
    assert in_image(docker, core, "amago-suite", "--version").startswith("amago-suite ")


@pytest.mark.docker
@pytest.mark.slow
def test_labels_say_which_code_and_lock(docker: Any, core: Image) -> None:
    """Commit, version, training version and lock: what is checked before a run, and what a person looks for."""
    labels = docker.images.get(core.image_id).labels
    assert good_labels().items() <= labels.items()
    assert core.lock_hash == lock_hash("core")
    assert len(labels["org.opencontainers.image.revision"].removesuffix("-dirty")) == 40
    assert labels["org.opencontainers.image.version"]
    assert len(labels[CODE]) == 64


@pytest.mark.docker
@pytest.mark.slow
def test_two_builds_of_the_same_files_are_one_image(docker: Any, prefix: str) -> None:
    """No hour of the day, owner or mode of the checkout gets into an image: the second is the first."""
    lines: list[str] = []
    first = make_all(["docker"], "core", say=lines.append)[0]
    assert lines[0].startswith("building the image of core with docker (log: ")
    assert make_all(["docker"], "core", say=lines.append)[0].image_id == first.image_id
    assert other_code(first) is None


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1800)
def test_fresh_build_has_the_same_packages(docker: Any, core: Image, prefix: str) -> None:
    """Without any layer of an earlier build, the same lock gives the same packages."""
    again = make_all(["docker"], "core", Options(fresh=True), say=lambda line: None)[0]
    assert again.image_id != core.image_id
    assert packages(docker, again) == packages(docker, core)


@pytest.mark.docker
def test_missing_image_is_named_with_its_command(prefix: str) -> None:
    """One line: what is missing and what makes it."""
    with pytest.raises(ImageMissing) as caught:
        resolve("docker", "core")
    assert str(caught.value) == (
        f"docker has no image {prefix}/core; `amago-suite images build core --engine docker` makes it"
    )


@pytest.mark.docker
@pytest.mark.parametrize(
    ("label", "value", "said"),
    [
        ("amago.training-version", "0", f"training version 0 (here: {TRAINING_VERSION})"),
        ("amago.lock-hash", "f" * 64, "lock ffffffffffff (here: "),
        ("amago.family", "atari", "family atari (here: core)"),
    ],
)
def test_image_of_other_code_is_refused(docker: Any, prefix: str, label: str, value: str, said: str) -> None:
    """An image that would train otherwise, or with other packages, never runs: the line says why."""
    imported(docker, f"{prefix}/core", good_labels() | {label: value})
    with pytest.raises(ConfigurationError) as caught:
        resolve("docker", "core")
    assert said in str(caught.value) and "images build core" in str(caught.value)
    assert not isinstance(caught.value, ImageMissing)


@pytest.mark.docker
def test_image_without_labels_is_refused(docker: Any, prefix: str) -> None:
    """Any image can be given the name; it is not taken for one of this project."""
    imported(docker, f"{prefix}/core", {})
    with pytest.raises(ConfigurationError, match=r"no label amago\.family"):
        resolve("docker", "core")


@pytest.mark.docker
def test_fitting_image_is_found_with_its_id(docker: Any, prefix: str) -> None:
    """The id is the engine's own; a local image has no digest of a registry."""
    identity = imported(docker, f"{prefix}/core", good_labels())
    image = resolve("docker", "core")
    assert image == Image.from_dict(json.loads(json.dumps(image.to_dict())))
    assert (image.image_id, image.repo_digest, image.sif) == (identity, None, None)


@pytest.mark.docker
def test_image_of_other_code_is_used_and_said(docker: Any, prefix: str) -> None:
    """Guards who edits code and runs in containers: the image's code is what counts, so it must not be silent."""
    labels = good_labels() | {CODE: names.code_hash()}
    for changed, states in (({}, "ready"), ({CODE: "0" * 64}, "other code")):
        imported(docker, f"{prefix}/core", labels | changed)
        (listed,) = list_images(["core"], ["docker"])
        assert listed.state == states
        assert other_code(resolve("docker", "core")) == listed.why
    assert listed.why is not None
    assert f"{prefix}/core" in listed.why and "`amago-suite images build core --engine docker`" in listed.why


def test_code_hash_follows_the_code_that_images_get(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed, new or renamed file changes it; caches and what the Dockerfile leaves out do not."""
    monkeypatch.setattr(names, "ROOT", tmp_path)
    file = tmp_path / "amago" / "nets" / "ff.py"
    file.parent.mkdir(parents=True)
    file.write_text("a = 1\n")
    seen = [names.code_hash()]
    (file.parent / "__pycache__").mkdir()
    (file.parent / "__pycache__" / "ff.pyc").write_bytes(b"1")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "ff.md").write_text("a")
    assert names.code_hash() == seen[0]
    file.write_text("a = 2\n")
    seen.append(names.code_hash())
    file.rename(file.with_name("fg.py"))
    seen.append(names.code_hash())
    assert len(set(seen)) == 3


@pytest.mark.docker
def test_pinned_image_goes_before_the_built_one(
    docker: Any, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """containers/FAMILY/image.txt: that image is used, checked like any, and never built over."""
    monkeypatch.setattr(names, "CONTAINERS", tmp_path)
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "requirements.lock").write_text("")
    (tmp_path / "core" / "image.txt").write_text(f"# of the paper\n{prefix}/mine:v1\n")
    with pytest.raises(ImageMissing, match=rf"`docker pull {prefix}/mine:v1` may bring it"):
        resolve("docker", "core")
    identity = imported(docker, f"{prefix}/mine", good_labels())
    docker.images.get(identity).tag(f"{prefix}/mine", "v1")
    assert resolve("docker", "core").image_id == identity
    with pytest.raises(ConfigurationError, match="is pinned by"):
        make_all(["docker"], "core")


@pytest.mark.docker
def test_failed_build_shows_its_end_and_its_log(docker: Any, prefix: str, tmp_path: Path) -> None:
    """A base without a shell: the first step fails, and the last lines and the log's path are said."""
    imported(docker, f"{prefix}/empty", {})
    with pytest.raises(AmagoError) as caught:
        make_all(["docker"], "core", Options(base=f"{prefix}/empty"), say=lambda line: None)
    said = str(caught.value)
    assert said.startswith("building the image of core with docker failed")
    assert "/bin/sh" in said and "whole log: " in said
    log = building.WORK / "core.docker.log"
    assert "/bin/sh" in log.read_text()
    with pytest.raises(ImageMissing):
        resolve("docker", "core")


@pytest.mark.docker
def test_base_that_cannot_be_fetched_is_named_as_the_cause(prefix: str) -> None:
    """No registry in reach, or no such image: the message says that another base can be named."""
    # A registry's address where nothing listens.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        base = f"localhost:{free.getsockname()[1]}/none:1"
    with pytest.raises(AmagoError, match="AMAGO_IMAGE_BASE names another base"):
        make_all(["docker"], "core", Options(base=base), say=lambda line: None)


@pytest.mark.docker
def test_several_processes_build_once(prefix: str) -> None:
    """Three runs that miss the same image at once: one builds, the others find it."""
    program = (
        "from amago_suite.images.preparing import ensure\n"
        "print(ensure('docker', 'core', say=lambda line: print(line)).image_id)"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    outputs = [process.communicate(timeout=600)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    assert sum("building the image" in output for output in outputs) == 1
    assert len({output.split()[-1] for output in outputs}) == 1


def test_engine_that_does_not_run_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No socket there: which engine, where it was looked for, how to start it."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    monkeypatch.setenv("CONTAINER_HOST", f"unix://{tmp_path}/podman.sock")
    for engine in ("docker", "podman"):
        with pytest.raises(ConfigurationError) as caught:
            connect(engine)
        said = str(caught.value)
        assert said.startswith(f"{engine} does not answer at unix://{tmp_path}/{engine}.sock: start it")
        assert "\n" not in said


@pytest.mark.docker
@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")
def test_socket_without_permission_is_one_line() -> None:
    """A user who is not in the group docker: told so, and what to do."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            connect("docker")
            said = "connected"
        except ConfigurationError as error:
            said = str(error)
        except BaseException as error:
            said = repr(error)
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    assert said.startswith(
        "no permission to use docker at unix:///var/run/docker.sock: join the group docker"
    )


@pytest.mark.docker
@pytest.mark.podman
def test_copy_in_podman_is_the_same_image(docker: Any, prefix: str) -> None:
    """What Docker built and podman got has one id: runs in both count as one image."""
    identity = imported(docker, f"{prefix}/core", good_labels())
    copied = copy_image(resolve("docker", "core"), "podman", say=lambda line: None)
    client = connect("podman")
    try:
        assert (copied.engine, copied.image_id) == ("podman", identity)
    finally:
        client.images.remove(client.images.get(f"{prefix}/core").id, force=True)
        client.close()


@pytest.mark.docker
@pytest.mark.apptainer
def test_sif_carries_the_id_of_its_image(
    docker: Any, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file has another hash than the image, but says which it was made of, and keeps its labels."""
    identity = imported(docker, f"{prefix}/core", good_labels())
    made_of = resolve("docker", "core")
    monkeypatch.setattr(names, "sif_path", lambda family: tmp_path / "image.sif")
    for module in ("finding", "sif"):
        monkeypatch.setattr(f"amago_suite.images.{module}.sif_path", lambda family: tmp_path / "image.sif")
    with pytest.raises(ImageMissing, match=r"image\.sif"):
        resolve("apptainer", "core")
    image = build_sif(made_of, say=lambda line: None)
    labels = sif_labels(tmp_path / "image.sif")
    assert labels[IMAGE_ID] == image.image_id == identity
    assert good_labels().items() <= labels.items()
    assert image.sif == tmp_path / "image.sif"
    assert list(tmp_path.iterdir()) == [image.sif]  # no draft stays


def test_every_family_has_a_lock_of_its_own() -> None:
    """Names and hashes of all families; the core comes first."""
    found = families()
    assert found[0] == "core"
    assert len({lock_hash(family) for family in found}) == len(found)
    with pytest.raises(ConfigurationError, match="did you mean core"):
        lock_hash("cor")
