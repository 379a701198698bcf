"""The settings that lead to a cluster or an engine: a Snakemake profile, the site's file, a suite's requests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from amago.errors import ConfigurationError
from amago.registry import nearest
from amago_suite.configuration.resources import DEFAULTS, Resources
from amago_suite.configuration.schema import load_yaml
from amago_suite.configuration.site import Slurm, read_site, site_file
from amago_suite.doctor.findings import Finding, ok, problem
from amago_suite.doctor.slurm import Request
from amago_suite.grid import Grid
from amago_suite.paths import PROFILE, ROOT, SNAKEFILE, shown

PROFILES = ROOT / "profiles"


def profile_folder(name: str) -> Path:
    """A profile given by path, or by its name in profiles/.

    Raises:
        ConfigurationError: there is none.
    """
    for folder in (Path(name), PROFILES / name):
        if (folder / "config.yaml").is_file():
            return folder
    known = sorted(path.parent.name for path in PROFILES.glob("*/config.yaml"))
    raise ConfigurationError(f"--profile: no {name}/config.yaml; {nearest(Path(name).name, known)}")


def settings(folder: Path) -> dict[str, Any]:
    """Executor and engine of a profile: ``{"executor": ..., "engine": ...}``.

    Raises:
        ConfigurationError: the profile or a file that it names is no YAML.
    """
    content = load_yaml(folder / "config.yaml") or {}
    found = {"executor": content.get("executor", "local"), "engine": "host"}
    files = content.get("configfile", content.get("configfiles", []))
    for name in [files] if isinstance(files, str) else files:
        path = Path(name) if Path(name).is_file() else ROOT / name
        found["engine"] = (load_yaml(path) or {}).get("engine", found["engine"])
    return found


def dry_run(folder: Path | None, suite: str, engine: str | None) -> Iterator[Finding]:
    """Does Snakemake take the profile, the executor and the suite together? Nothing is started."""
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        str(SNAKEFILE),
        "--dry-run",
        "--quiet",
        "all",
    ]
    command += ["--workflow-profile", str(PROFILE)]
    command += ["--profile", str(folder.absolute())] if folder is not None else ["--cores", "1"]
    done = subprocess.run(
        [*command, "--nolock", "--config", f"suite={suite}", *([f"engine={engine}"] if engine else [])],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    what = f"Snakemake takes {'profile ' + shown(folder) if folder is not None else 'the default profile'}"
    if done.returncode == 0:
        yield ok("profile", what)
        return
    lines = [line for line in (done.stderr or done.stdout).strip().splitlines() if line.strip()]
    said = (lines or ["no reason was given"])[-1].removeprefix("error: ").partition("error: ")
    yield problem(
        "profile",
        f"Snakemake refuses: {said[2] or said[0]}",
        f"correct {shown(folder) if folder else 'the suite'}",
    )


def site() -> tuple[Slurm | None, list[Finding]]:
    """The site's settings, or what is wrong with them."""
    path = site_file()
    try:
        found = read_site()
    except ConfigurationError as error:
        return None, [
            problem(
                "profile", str(error), f"correct {shown(path)} (config/site.example.yaml explains its keys)"
            )
        ]
    if path.is_file():
        return found.slurm, [ok("profile", f"{shown(path)} is well-formed")]
    return found.slurm, [ok("profile", f"no {shown(path)}: the defaults hold")]


def requests(slurm: Slurm, grid: Grid | None) -> list[Request]:
    """What jobs will ask of the cluster: each different one once.

    Args:
        slurm: the site's settings.
        grid: whose jobs; without one, the default resources stand for it.
    """
    wanted: list[tuple[Resources, int]] = []
    if grid is None:
        wanted = [(resources, max(resources.cpus, 1)) for resources in DEFAULTS.values()]
    else:
        for cell in grid:
            for rule, resources in cell.resources.items():
                if (resources, cell.cpus(rule)) not in wanted:
                    wanted.append((resources, cell.cpus(rule)))
    found: list[Request] = []
    for resources, cpus in wanted:
        asked = slurm.request(resources)
        model = f"{asked['gpu_model']}:" if asked.get("gpu_model") else ""
        request = Request(
            account=slurm.account,
            partition=str(asked["slurm_partition"]) or None,
            qos=slurm.qos,
            constraint=slurm.constraint,
            runtime=int(asked["runtime"]),
            mem_mb=int(asked["mem_mb"]),
            cpus=cpus,
            gres=str(asked["gres"]) or None,
            gpus=f"{model}{asked['gpu']}" if asked["gpu"] else None,
            extra=tuple(slurm.sbatch_options.split()),
            status_command=slurm.status_command,
            jobs=min(slurm.jobs, len(grid)) if grid is not None else slurm.jobs,
        )
        if request not in found:
            found.append(request)
    return found
