"""The locked requirements: complete, hashed, consistent, free of machines' addresses."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CORE = ROOT / "containers/core/requirements.lock"
PIPELINE = ROOT / "requirements/pipeline.lock"
DEV = ROOT / "requirements/dev.lock"
LOCKS = [CORE, PIPELINE, DEV]
#: Families that cannot share the core's pins: each resolved by itself.
FAMILIES = sorted(
    path.parent for path in ROOT.glob("containers/*/requirements.in") if path.parent != CORE.parent
)
ALL_LOCKS = [*LOCKS, *(family / "requirements.lock" for family in FAMILIES)]


def pins(lock: Path) -> dict[str, tuple[str, str]]:
    """name -> (version with its marker, hashes) of every requirement in a lock."""
    # Lines of options say what is built from its source; the hashes hold for that as well.
    text = re.sub(r"^\s*(#|--no-binary ).*$", "", lock.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        requirement, _, hashes = line.partition("--hash=")
        name, _, version = requirement.strip().partition("==")
        assert name not in found, f"{lock.name} pins {name} twice"
        found[name] = (version, hashes)
    return found


def wanted(*lists: str) -> set[str]:
    """Names in the hand-written lists."""
    lines = [line for name in lists for line in (ROOT / name).read_text().splitlines()]
    return {re.split(r"[=<>\[ ]", line)[0] for line in lines if line and not line.startswith(("#", "--"))}


@pytest.mark.parametrize("lock", ALL_LOCKS, ids=lambda path: path.parent.name + "/" + path.name)
def test_every_requirement_has_a_version_and_a_hash(lock: Path) -> None:
    """Without a hash, pip would take whatever a registry serves under that version."""
    assert pins(lock)
    for name, (version, hashes) in pins(lock).items():
        assert re.match(r"\d", version), name
        assert "sha256:" in hashes, name


@pytest.mark.parametrize("lock", ALL_LOCKS, ids=lambda path: path.parent.name + "/" + path.name)
def test_locks_name_no_machine_and_no_torch(lock: Path) -> None:
    """An address would tie the lock to one machine; torch's build differs between machines."""
    text = lock.read_text()
    assert not re.search(r"://|--index-url|--find-links|--extra-index-url|^/", text, flags=re.MULTILINE)
    assert "torch" not in pins(lock)


def test_locks_build_on_each_other() -> None:
    """A container, the pipeline and the tests must run the same versions."""
    core, pipeline, dev = (
        {(name, version.split(";")[0].strip()) for name, (version, _) in pins(lock).items()} for lock in LOCKS
    )
    assert core <= pipeline <= dev, sorted((core - pipeline) | (pipeline - dev))


def test_locks_are_not_older_than_their_lists() -> None:
    """A requirement added by hand without `make lock` would be missing on every other machine."""
    core = wanted("containers/agent.in", "containers/core/requirements.in")
    pipeline = core | wanted("requirements/pipeline.in")
    dev = pipeline | wanted("requirements/dev.in")
    for names, lock in ((core, CORE), (pipeline, PIPELINE), (dev, DEV)):
        assert names <= pins(lock).keys(), f"run `make lock`: {names - pins(lock).keys()}"


@pytest.mark.parametrize("family", FAMILIES, ids=lambda path: path.name)
def test_a_family_locks_the_agent_and_its_own_pins(family: Path) -> None:
    """A family that lacks one of the agent's requirements cannot train; its pins are those that were tested."""
    own = (family / "requirements.in").read_text()
    locked = pins(family / "requirements.lock")
    assert wanted("containers/agent.in", str(family / "requirements.in")) <= locked.keys()
    for name, version in re.findall(r"^([\w-]+)(?:\[.*?\])?==([\w.]+)", own, flags=re.MULTILINE):
        assert locked[name][0].split(";")[0].strip(" \\") == version, name


def test_the_copyleft_package_is_in_its_own_family_only() -> None:
    """mazelib is GPL-3.0: nobody gets it who did not ask for the labyrinths."""
    assert [lock.parent.name for lock in ALL_LOCKS if "mazelib" in pins(lock)] == ["labyrinth"]


def test_torch_is_pinned_to_one_version() -> None:
    """Two machines may differ in torch's build, never in its version."""
    lines = (ROOT / "requirements/torch.txt").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == ["torch==2.13.0"]


def test_torch_brings_nothing_that_is_not_locked() -> None:
    """torch's pure-Python requirements are part of every lock, so installing torch resolves nothing."""
    from importlib.metadata import requires

    for requirement in requires("torch") or []:
        name, _, marker = requirement.partition(";")
        plain = re.split(r"[=<>!~\[ ]", name.strip())[0].lower().replace("_", "-")
        if "extra ==" in marker or plain.startswith(("nvidia-", "cuda-", "triton")):
            continue
        assert all(plain in pins(lock) for lock in ALL_LOCKS), plain


def test_the_package_needs_what_the_lists_say() -> None:
    """The metadata reads the same lists as the locks, so no requirement is written twice."""
    dynamic = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["dynamic"]
    for entry in (dynamic["dependencies"], dynamic["optional-dependencies"]["dev"]):
        for name in entry["file"]:
            assert (ROOT / name).is_file(), name
