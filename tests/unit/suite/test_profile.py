"""What profiles say is known before Snakemake starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from amago.errors import ConfigurationError
from amago_suite.configuration.profile import configured, runs_elsewhere


def test_an_unknown_profile() -> None:
    """A typing error is said at once, with the names that there are."""
    with pytest.raises(ConfigurationError, match=r"--profile profiles/slrum: no such .*profiles/slurm"):
        configured(["--profile", "profiles/slrum"])


@pytest.mark.parametrize("where", ["a path", "a name"])
def test_a_profile_is_found_as_snakemake_finds_it(tmp_path: Path, monkeypatch, where: str) -> None:
    """By its path, or by its name in the user's configuration; its files count either way."""
    profile = tmp_path / "snakemake" / "ours"
    profile.mkdir(parents=True)
    (profile / "config.yaml").write_text("executor: slurm\nconfigfile: more.yaml\n")
    (profile / "more.yaml").write_text("engine: podman\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    options = ["--profile", str(profile) if where == "a path" else "ours"]
    assert configured(options) == {"engine": "podman"}
    assert runs_elsewhere(options)
