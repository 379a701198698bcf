"""The site: what `config/site.yaml` and the environment say about the cluster that jobs run on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from amago.errors import ConfigurationError
from amago_suite.configuration.resources import Resources
from amago_suite.configuration.schema import defaults, load_yaml, validate
from amago_suite.paths import CONFIG

#: Names the site's file where it is not config/site.yaml.
FILE_VARIABLE = "AMAGO_SITE"
#: AMAGO_SLURM_PARTITION and so on set the keys of `slurm`.
PREFIX = "AMAGO_SLURM_"
SITE_FILE = CONFIG / "site.yaml"


@dataclass(frozen=True, slots=True)
class Slurm:
    """How jobs are submitted; the schema (workflow/schemas/site.schema.json) explains every key."""

    gpu_request: str
    extra: str
    requeue: bool
    grace_seconds: int
    status_command: str
    poll_seconds: int
    cells_per_job: int
    job_prefix: str
    jobs: int
    retries: int
    submissions_per_second: int
    latency_wait: int
    account: str | None = None
    partition: str | None = None
    gpu_partition: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gpu_model: str | None = None

    @property
    def sbatch_options(self) -> str:
        """Options that have no resource of their own.

        TERM, because a job's inner Snakemake dies of USR1 at once and takes its trainer along.
        """
        return f"--signal=TERM@{self.grace_seconds + 60} {self.extra}".strip()

    def request(self, resources: Resources) -> dict[str, str | int]:
        """A job's resources in the executor's words; an empty text and 0 ask for nothing."""
        count = resources.gpus
        gres = count > 0 and self.gpu_request == "gres"
        model = (self.gpu_model or "") if count else ""
        partition = (self.gpu_partition if count else None) or self.partition or ""
        return {
            "mem_mb": resources.mem_mb,
            "runtime": resources.runtime,
            "gpu": 0 if gres else count,
            "gpu_model": "" if gres else model,
            "gres": ":".join(["gpu", *([model] if model else []), str(count)]) if gres else "",
            "slurm_partition": partition,
        }


@dataclass(frozen=True, slots=True)
class Site:
    """A site's settings, complete: what nobody set has its default."""

    slurm: Slurm
    resources: Mapping[str, Any]  #: ``{rule: {name: value}}``
    families: Mapping[str, Mapping[str, Any]]  #: the same for every family

    def layers(self, family: str) -> list[Mapping[str, Any]]:
        """Layers of resources for environments of a family, for `resources.merge`."""
        return [self.resources, self.families.get(family, {})]


def site_file() -> Path:
    """Where the site's settings are: they need not exist."""
    return Path(os.environ.get(FILE_VARIABLE) or SITE_FILE)


def read_site(environ: Mapping[str, str] | None = None) -> Site:
    """The site's settings; those of the environment win over the file.

    Args:
        environ: environment variables; this process's by default.

    Raises:
        ConfigurationError: the file, a key or a variable is wrong; with its name and what is allowed.
    """
    environ = os.environ if environ is None else environ
    path = Path(environ.get(FILE_VARIABLE) or SITE_FILE)
    content: Any = {}
    if environ.get(FILE_VARIABLE) or path.exists():
        content = load_yaml(path) or {}
        if isinstance(content, dict):  # a section in which every line is a comment
            content = {key: value for key, value in content.items() if value is not None}
        validate(content, "site", path)
    slurm = {**defaults("site", "slurm"), **content.get("slurm", {}), **_from_environment(environ)}
    return Site(Slurm(**slurm), content.get("resources", {}), content.get("families", {}))


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """Keys of `slurm` that variables set. An empty variable sets nothing."""
    types = {field.name: str(field.type) for field in fields(Slurm)}
    found: dict[str, Any] = {}
    for name, text in environ.items():
        key = name.removeprefix(PREFIX).lower()
        if not name.startswith(PREFIX) or not text:
            continue
        if key not in types:
            raise ConfigurationError(f"{name}: there is no such setting; known: {', '.join(sorted(types))}")
        if types[key] == "int" and text.lstrip("-").isdecimal():
            found[key] = int(text)
        elif types[key] == "bool" and text.lower() in ("true", "false"):
            found[key] = text.lower() == "true"
        else:
            found[key] = text
        try:
            validate({"slurm": {key: found[key]}}, "site", Path(name))
        except ConfigurationError as error:
            raise ConfigurationError(str(error).replace(f"slurm.{key}: ", "")) from error
    return found
