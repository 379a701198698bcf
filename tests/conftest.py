"""What every test can rely on: which marks can run here and why the others cannot, time limits, a browser."""

from __future__ import annotations

import functools
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from typing import Any

# Before torch and matplotlib are imported: tests run side by side, one thread each, with no screen.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

# Its pytest plug-in would import it when the session ends, amid finalizers, where CPython 3.11 can fail
# to parse source ("AST constructor recursion depth mismatch").
import hypothesis  # noqa: F401
import pytest

# A shell that starts the tests in the background has them ignore SIGINT, which every process started here
# would inherit; some tests send a real one.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SLOW_TIMEOUT_SECONDS = 600
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM_ARGUMENTS = [
    # Chromium's own sandbox does not work for root. The rest keeps it from calling home.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def chromium_path() -> str | None:
    """Where Chromium is, or None."""
    return next((path for name in CHROMIUM_NAMES if (path := shutil.which(name))), None)


def _missing_chromium() -> str | None:
    return None if chromium_path() else "Chromium is not installed (apt install chromium)"


def _missing_gpu() -> str | None:
    import torch

    return None if torch.cuda.is_available() else "torch sees no CUDA device"


def _missing_slurm() -> str | None:
    from tests.slurm.cluster import missing_here

    return missing_here()


def _missing_engine(name: str) -> str | None:
    from amago.errors import ConfigurationError
    from amago_suite.images import connect, run_apptainer

    try:
        if name == "apptainer":
            run_apptainer("--version")
        else:
            connect(name).close()
    except ConfigurationError as error:
        return f"{error} (`make test-engines` sets one up on Debian)"
    return None


# mark -> a check that says in one line what is missing here, or None. The other marks need nothing.
NEEDS: dict[str, Callable[[], str | None]] = {
    "browser": _missing_chromium,
    "gpu": _missing_gpu,
    "docker": lambda: _missing_engine("docker"),
    "podman": lambda: _missing_engine("podman"),
    "apptainer": lambda: _missing_engine("apptainer"),
    "slurm": _missing_slurm,
}


@functools.cache
def missing(mark: str) -> str | None:
    """Why tests of this mark cannot run here, or None; asked once a process."""
    return NEEDS[mark]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("marks")
    group.addoption(
        "--without",
        action="append",
        default=[],
        metavar="MARK",
        help="skip tests of this mark, and say so (repeatable)",
    )
    group.addoption(
        "--require",
        action="append",
        default=[],
        metavar="MARK",
        help="fail, do not skip, tests of this mark that cannot run here (repeatable)",
    )

    group.addoption(
        "--family",
        action="append",
        default=[],
        metavar="NAME",
        help="only these families in tests/families (repeatable; default: all)",
    )


def pytest_configure(config: pytest.Config) -> None:
    known = {line.split(":")[0] for line in config.getini("markers")}
    unknown = sorted({*config.getoption("without"), *config.getoption("require")} - known)
    if unknown:
        raise pytest.UsageError(f"no such mark: {', '.join(unknown)} (pytest --markers lists them)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_TIMEOUT_SECONDS))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    marks = {mark.name for mark in item.iter_markers()}
    left_out = sorted(marks & set(item.config.getoption("without")))
    if left_out:
        pytest.skip(f"left out by --without {left_out[0]}")
    for mark in NEEDS:
        if mark in marks and (reason := missing(mark)):
            message = f"needs {mark}: {reason}"
            if mark in item.config.getoption("require"):
                pytest.fail(message, pytrace=False)
            pytest.skip(message)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium (a Playwright Browser), shared by the tests of a module, all marked `browser`.

    Playwright runs an event loop while it is open, so tests of the same module cannot call asyncio.run.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM_ARGUMENTS)
        yield running
        running.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A fresh offline page; any error in the page's scripts fails the test."""
    context = browser.new_context(offline=True)
    opened = context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    context.close()
    assert not errors, errors
