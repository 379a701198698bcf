"""The rules of tests/conftest.py, tried on a small suite in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

SUITE = """
import pytest

@pytest.mark.docker
def test_in_docker():
    pass

@pytest.mark.slow
def test_slow(request):
    assert request.node.get_closest_marker("timeout").args == (600,)

@pytest.mark.slow
@pytest.mark.timeout(5)
def test_slow_with_its_own_limit(request):
    assert request.node.get_closest_marker("timeout").args == (5,)
"""


@pytest.fixture
def run(tmp_path: Path):
    """Run the small suite with extra options where no engine answers; gives (exit code, output)."""
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (tests / "test_small.py").write_text(SUITE)
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())

    def call(*options: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests", *options],
            cwd=tmp_path,
            env={
                **os.environ,
                "DOCKER_HOST": f"unix://{tmp_path}/no-docker.sock",
                "PYTEST_ADDOPTS": "",
                "COLUMNS": "200",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    return call


def test_a_test_that_cannot_run_is_skipped_and_says_why(run) -> None:
    """A skip must name what is missing; slow tests get their limit, and one set by hand wins."""
    code, output = run()
    assert code == 0
    assert "needs docker: docker does not answer at unix:" in output
    assert "2 passed, 1 skipped" in output


def test_a_required_mark_fails_instead_of_skipping(run) -> None:
    """On a machine that promises an engine, a silent skip would be a check that never ran."""
    code, output = run("--require", "docker")
    assert code == 1
    assert "needs docker: docker does not answer at unix:" in output


def test_a_mark_left_out_says_so(run) -> None:
    """Tests left out by hand are counted as skips with the option's name."""
    code, output = run("--without", "slow")
    assert code == 0
    assert "left out by --without slow" in output
    assert "3 skipped" in output


def test_an_unknown_mark_is_a_usage_error(run) -> None:
    """A misspelt mark must not quietly require nothing."""
    code, output = run("--require", "dokcer")
    assert code == 4
    assert "no such mark: dokcer" in output
