"""Wrong input: one clear line, exit code 2, and nothing was started."""

from __future__ import annotations

import subprocess
import sys

import pytest

from amago_suite.paths import SNAKEFILE


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"architectures": "[fff]"}, "unknown architecture 'fff'; did you mean ff"),
        ({"epochs": -3}, "budget.epochs: must be at least 1, got -3"),
        ({"seeds": "[0, 0]"}, "seeds: 0 is given twice"),
        ({"comment": "Agent.nothing = 3"}, "`Agent` has no parameter 'nothing'"),
        ({"seeds": "[0"}, "tiny.yaml:"),
    ],
)
@pytest.mark.parametrize("how", ["amago-suite", "snakemake"])
def test_one_line_and_exit_code_2(desk, settings: dict[str, object], said: str, how: str) -> None:
    """The same through both doors."""
    desk.write(**settings)
    if how == "amago-suite":
        done = desk.type("run", "tiny.yaml")
    else:
        command = [
            sys.executable,
            "-m",
            "snakemake",
            "--snakefile",
            str(SNAKEFILE),
            "--config",
            "suite=tiny.yaml",
        ]
        done = subprocess.run([*command, "-c1"], cwd=desk.folder, capture_output=True, text=True, check=False)
    errors = [line for line in done.stderr.splitlines() if "profile" not in line]
    assert done.returncode == 2
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert said in errors[0]
    assert not (desk.folder / "results").exists()


def test_an_unknown_suite(desk) -> None:
    """With the nearest name."""
    done = desk.type("run", "quik")
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown suite 'quik'; did you mean quick?")


def test_an_unwritable_results_folder(desk) -> None:
    """A file in the way is the form that root meets too."""
    desk.write()
    (desk.folder / "results").write_text("in the way")
    done = desk.type("run", "tiny.yaml")
    assert done.returncode == 2
    assert "cannot be written" in done.stderr


def test_a_wrong_snakemake_option(desk) -> None:
    """Snakemake's page of usage is not shown, its complaint is."""
    desk.write()
    done = desk.type("run", "tiny.yaml", "--nonsense")
    assert done.returncode == 2
    assert done.stderr == "error: unrecognized arguments: --nonsense\n"
