"""Dependencies: the offline audit finds what it should, and an SBOM names what its lock pins."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def audit() -> Any:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["audit"] = module
    spec.loader.exec_module(module)
    return module


def test_the_locks_have_no_known_advisory(audit: Any) -> None:
    """Guards every lock against the list that needs no network."""
    locks = audit.locks()
    assert {"core", "pipeline", "dev"} <= set(locks)
    for name, lock in locks.items():
        pinned = audit.pins(lock)
        assert "torch" in pinned and len(pinned) > 20
        assert audit.offline(name, pinned) == []


def test_an_old_version_is_found(audit: Any) -> None:
    """Guards the comparison: names in any spelling, versions as versions."""
    found = audit.offline(
        "x", {"pyyaml": "5.3.1", "torch": "2.10.0", "jinja2": "3.1.6", "sentry-sdk": "2.8.0"}
    )
    assert [(f.package, f.advisory) for f in found] == [("pyyaml", "CVE-2020-14343")]


def test_an_sbom_names_every_pin(audit: Any, tmp_path: Path) -> None:
    """Guards the SBOM of an image: CycloneDX, complete, and the same bytes each time."""
    lock = audit.locks()["core"]
    audit.write_sbom(lock, tmp_path / "a.json")
    audit.write_sbom(lock, tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    bom = json.loads((tmp_path / "a.json").read_text())
    assert bom["bomFormat"] == "CycloneDX"
    assert {audit.name(c["name"]): c["version"] for c in bom["components"]} == audit.pins(lock)
