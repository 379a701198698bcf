"""`snakemake --report` on a real, tiny suite: captions, categories, labels, and no network."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from amago_suite.paths import ROOT, SNAKEFILE

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SUITE = """
environments:
  - { id: tmaze-passive, params: { corridor: 3 } }
architectures: [ff]
seeds: [0]
budget: { epochs: 2 }
evaluation: { episodes: 10 }
gin: |
  Experiment.train_batches_per_epoch = 2
"""
#: A way out that leads nowhere: whatever asks for a network fails.
NOWHERE = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https", "HTTP", "HTTPS")}


def snakemake(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE), "--cores", "1"]
    return subprocess.run(
        [*command, *options, "--config", "suite=tiny.yaml"],
        cwd=folder,
        env={**os.environ, **NOWHERE},
        capture_output=True,
        text=True,
        check=False,
    )


def test_snakemakes_own_report(browser: Any, tmp_path: Path) -> None:
    """Every flagged table and figure is in it with its caption; it opens offline. An unfinished grid has none:
    its partial report is no output of any rule."""
    (tmp_path / "tiny.yaml").write_text(textwrap.dedent(SUITE))
    early = snakemake(tmp_path, "--report", "early.html")
    assert early.returncode != 0 and not (tmp_path / "early.html").exists()
    done = snakemake(tmp_path)
    assert done.returncode == 0, done.stderr
    made = snakemake(tmp_path, "--report", "suite.html")
    assert made.returncode == 0, made.stderr

    context = browser.new_context(offline=True)
    page = context.new_page()
    noise: list[str] = []
    page.on("pageerror", lambda e: noise.append(str(e)))
    page.on("request", lambda r: noise.append(r.url) if r.url.startswith("http") else None)
    page.goto((tmp_path / "suite.html").as_uri())
    results = page.evaluate("Object.values(results)")
    names = {f"{name}.csv" for name in ("runs", "scores", "aggregate", "comparisons", "costs")}
    drawn = {path.name for path in (tmp_path / "results" / "tiny" / "report").glob("*.svg")}
    assert "curves-tmaze-passive.svg" in drawn
    assert {result["name"] for result in results} == names | drawn | {"report.html"}
    captions = {result["name"]: result["caption"] for result in results}
    for name in names:
        written = (ROOT / "workflow" / "report" / name.replace(".csv", ".rst")).read_text()
        assert written.split()[:4] == captions[name].removeprefix("<p>").split()[:4]
    page.get_by_text("Figures", exact=True).click()
    page.get_by_text("curves-tmaze-passive", exact=True).wait_for()
    assert noise == []
    context.close()
