"""config/site.yaml and AMAGO_SLURM_ variables: what a site says reaches the jobs, and a wrong word is named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from amago.errors import ConfigurationError
from amago_suite.configuration.resources import Resources, merge
from amago_suite.configuration.site import read_site
from amago_suite.grid import plan
from amago_suite.paths import CONFIG, ROOT, SNAKEFILE

SUITE = """
environments:
  - tmaze-passive
  - { id: popgym-repeat-first-easy, resources: { train: { gpus: 2 } } }
architectures: [ff, { id: rnn, resources: { train: { mem_mb: 9000 } } }]
seeds: [0]
budget: { epochs: 1 }
resources: { train: { runtime: 30 }, evaluate: { cpus: 2 } }
"""
SITE = """
slurm: { account: lab, partition: short, gpu_partition: gpu, gpu_model: a100, gpu_request: gres }
resources: { train: { mem_mb: 5000, runtime: 99 } }
families: { core: { train: { cpus: 3 } } }
"""


def read(tmp_path: Path, text: str, **variables: str):
    (tmp_path / "site.yaml").write_text(text)
    return read_site({"AMAGO_SITE": str(tmp_path / "site.yaml"), **variables})


def test_layers_of_resources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Default, site, family, suite, environment, architecture: the later one wins, key by key."""
    (tmp_path / "site.yaml").write_text(SITE)
    (tmp_path / "tiny.yaml").write_text(SUITE)
    monkeypatch.setenv("AMAGO_SITE", str(tmp_path / "site.yaml"))
    grid = plan(str(tmp_path / "tiny.yaml"), results=tmp_path)
    train = {(c.environment, c.architecture): c.resources["train"] for c in grid}
    assert train["tmaze-passive", "ff"] == Resources(5000, 30, 0, 3)
    assert train["popgym-repeat-first-easy", "rnn"] == Resources(9000, 30, 2, 3)
    assert all(c.resources["evaluate"] == Resources(2000, 60, 0, 2) for c in grid)


def test_resources_are_no_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More memory must not train a week of runs again."""
    (tmp_path / "tiny.yaml").write_text(SUITE)
    hashes = [cell.train_hash for cell in plan(str(tmp_path / "tiny.yaml"))]
    (tmp_path / "site.yaml").write_text(SITE)
    monkeypatch.setenv("AMAGO_SITE", str(tmp_path / "site.yaml"))
    (tmp_path / "tiny.yaml").write_text(SUITE.replace("9000", "9001"))
    assert [cell.train_hash for cell in plan(str(tmp_path / "tiny.yaml"))] == hashes


def test_requests(tmp_path: Path) -> None:
    """GPUs as gres or as gpus, with their model and partition; a job without GPUs asks for none of it."""
    slurm = read(tmp_path, SITE).slurm
    assert slurm.request(Resources(gpus=2)) == {
        **{"mem_mb": 4000, "runtime": 240, "gpu": 0, "gpu_model": "", "gres": "gpu:a100:2"},
        "slurm_partition": "gpu",
    }
    assert slurm.request(Resources())["gres"] == ""
    assert slurm.request(Resources())["slurm_partition"] == "short"
    slurm = read(tmp_path, SITE, AMAGO_SLURM_GPU_REQUEST="gpus").slurm
    given = slurm.request(Resources(gpus=1))
    assert (given["gpu"], given["gpu_model"], given["gres"]) == (1, "a100", "")
    assert slurm.request(Resources())["gpu_model"] == ""


def test_the_signal_leaves_time_for_a_checkpoint(tmp_path: Path) -> None:
    """TERM, a minute before the grace time begins; options of the site stand beside it."""
    slurm = read(tmp_path, "slurm: { grace_seconds: 90, extra: --mail-type=FAIL }").slurm
    assert slurm.sbatch_options == "--signal=TERM@150 --mail-type=FAIL"


@pytest.mark.parametrize(
    ("text", "variables", "message"),
    [
        ("slurm: { partitoin: x }", {}, "unknown key 'partitoin'"),
        ("slurm: { account: 'a; rm -rf /' }", {}, "slurm.account"),
        ("resources: { train: { mem_mb: much } }", {}, "resources.train.mem_mb: must be an integer"),
        ("slurm: { gpu_request: gpu }", {}, "must be one of gpus, gres"),
        ("", {"AMAGO_SLURM_POLL_SECONDS": "soon"}, "AMAGO_SLURM_POLL_SECONDS: must be an integer"),
        ("", {"AMAGO_SLURM_PARTITOIN": "x"}, "AMAGO_SLURM_PARTITOIN: there is no such setting"),
    ],
)
def test_wrong_words(tmp_path: Path, text: str, variables: dict[str, str], message: str) -> None:
    """One line that names the file or variable, the key and what is allowed."""
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, text, **variables)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_example_is_valid_and_says_the_defaults(tmp_path: Path) -> None:
    """What the example shows in comments are the defaults, so that uncommenting one changes nothing."""
    text = (CONFIG / "site.example.yaml").read_text()
    site = read(tmp_path, text)
    assert merge(site.layers("any")) == merge([])
    shown = {}
    for line in text.split("\nresources:")[0].splitlines():
        words = line.strip().removeprefix("# ").partition(" #")[0]
        if line.startswith("  # ") and ": " in words and words.split(":")[0].replace("_", "").isalpha():
            shown |= yaml.safe_load(words)
    examples = {"account", "partition", "gpu_partition", "qos", "constraint", "gpu_model", "extra"}
    assert set(shown) == set(type(site.slurm).__dataclass_fields__)
    for key in set(shown) - examples:
        assert getattr(site.slurm, key) == shown[key], key


def test_the_profile_says_what_the_site_says(tmp_path: Path) -> None:
    """The profile's dry run with a site of its own: also with --config, which replaces a profile's `config:`."""
    (tmp_path / "tiny.yaml").write_text(SUITE)
    (tmp_path / "site.yaml").write_text(SITE)
    profile = str(ROOT / "profiles" / "slurm")
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE), "--profile", profile]
    done = subprocess.run(
        [*command, "--config", "suite=tiny.yaml", "-n", "--quiet", "reason"],
        cwd=tmp_path,
        env={**os.environ, "AMAGO_SITE": str(tmp_path / "site.yaml")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert "slurm_account=lab" in said
    assert "slurm_extra=--signal=TERM@120" in said
    assert "gres=gpu:a100:2" in said
    assert "slurm_partition=short" in said
    assert "mem_mb=9000" in said
