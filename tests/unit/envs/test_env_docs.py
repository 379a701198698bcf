"""The page that is written from the registry."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

import envs_suite

SCRIPT = Path(__file__).parents[3] / "docs" / "environments.py"


@pytest.fixture(scope="module")
def writer() -> ModuleType:
    found = importlib.util.spec_from_file_location("docs_environments", SCRIPT)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_page_is_current(writer: ModuleType) -> None:
    """Guards docs/environments.md: it is what the registry says now."""
    assert writer.PAGE.read_text(encoding="utf-8") == writer.page(), "run: python docs/environments.py"
    assert writer.main(["--check"]) == 0


def test_page_is_complete(writer: ModuleType) -> None:
    """Guards the page's content: every id has a section, with parameters, install command and published numbers."""
    text = writer.page()
    for env_id in envs_suite.ids():
        assert f"\n## {env_id}\n" in text
        spec = envs_suite.get(env_id)
        part = "\n".join(writer.section(spec))
        assert (spec.family == "core" and not spec.by_hand) or spec.install in part
        assert all(f"`{name}`" in part for name in spec.parameters)
        assert all(entry.cited.replace("|", "\\|") in part for entry in spec.published)
        assert spec.licence in part


def test_check_notices_a_stale_page(
    writer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards `--check`: 1 for a page that is missing or old, 0 after writing it."""
    monkeypatch.setattr(writer, "PAGE", tmp_path / "environments.md")
    assert writer.main(["--check"]) == 1
    assert writer.main([]) == 0
    assert writer.main(["--check"]) == 0
    writer.PAGE.write_text("old")
    assert writer.main(["--check"]) == 1
