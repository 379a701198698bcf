"""`amago-suite watch` beside a real run, in a real browser."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SUITE = """
title: Watched
environments:
  - { id: tmaze-passive, params: { corridor: 3 } }
architectures: [ff]
seeds: [0, 1]
budget: { epochs: 4 }
evaluation: { episodes: 20 }
gin: |
  Experiment.train_batches_per_epoch = 3
"""


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "amago_suite", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_run_is_watched_to_its_end(browser: Any, tmp_path: Path) -> None:
    """The page is there before anything is finished, renews itself as runs finish, keeps what the reader
    opened and typed, and Ctrl-C ends the watch with exit code 0 and no traceback."""
    (tmp_path / "tiny.yaml").write_text(textwrap.dedent(SUITE))
    watch = start(tmp_path, "watch", "tiny.yaml", "--port", "0")
    assert watch.stdout is not None
    address = re.search(r"http://127\.0\.0\.1:\d+/", watch.stdout.readline())
    assert address is not None
    context = browser.new_context()
    page = context.new_page()
    noise: list[str] = []
    page.on("console", lambda m: noise.append(m.text))
    page.on("pageerror", lambda e: noise.append(str(e)))
    page.on("request", lambda r: noise.append(r.url) if not r.url.startswith(address[0]) else None)
    page.goto(address[0])
    assert page.locator("#live-line").inner_text() in ("...", "2 waiting")
    assert page.title() == "Watched (partial)"
    page.fill("#cells-filter", "ff")
    page.locator("summary", has_text="tmaze-passive / ff").click()

    run = start(tmp_path, "run", "tiny.yaml", "--cores", "1")
    lines = set()
    deadline = time.monotonic() + 300
    while page.title() != "Watched" and time.monotonic() < deadline:
        lines.add(page.locator("#live-line").inner_text())
        page.wait_for_timeout(100)
    assert run.wait(60) == 0, run.stdout.read() if run.stdout else ""
    page.get_by_text("All 2 runs are done.").wait_for()
    assert any("training" in line for line in lines) and len(lines) > 2
    assert page.locator("#live-bar").evaluate("bar => bar.value") == 1
    assert page.locator(".tiles dd").first.inner_text() == "2 of 2"
    assert page.locator("#cells-filter").input_value() == "ff"
    assert page.locator("details[data-filter='cells']").evaluate("fold => fold.open")
    assert not (tmp_path / "results" / "tiny" / "partial").exists()

    watch.send_signal(signal.SIGINT)
    rest, _ = watch.communicate(timeout=30)
    assert watch.returncode == 0 and rest.rstrip().endswith("Stopped watching.") and "Traceback" not in rest
    page.get_by_text("No longer watching").wait_for()
    assert all("ERR_CONNECTION_REFUSED" in said for said in noise), noise
    context.close()


def test_refusals_come_before_anything_starts(tmp_path: Path) -> None:
    """Another machine's address: exit code 2 and one line."""
    (tmp_path / "tiny.yaml").write_text(textwrap.dedent(SUITE))
    refused = start(tmp_path, "watch", "tiny.yaml", "--host", "0.0.0.0")
    said, _ = refused.communicate(timeout=60)
    assert refused.returncode == 2
    assert (
        said.startswith("error: --host 0.0.0.0: the report is served to this machine only")
        and said.count("\n") == 1
    )
