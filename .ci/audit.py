"""`make audit`: known advisories against every lock, an SBOM of each and of every built image (CycloneDX).

Two sources of advisories: the list in this folder, which needs no network and is only as new as its
last edit, and pip-audit's service. Where that does not answer (or knows none of the packages), the
list alone counts, and the last lines say so.
"""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

ROOT = Path(__file__).parents[1]
ADVISORIES = Path(__file__).with_name("advisories.csv")
TORCH = ROOT / "requirements" / "torch.txt"
OUTPUT = ROOT / "build" / "sbom"
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)


@dataclass(frozen=True)
class Finding:
    """A pinned version that an advisory is about."""

    lock: str
    package: str
    version: str
    advisory: str
    what: str


def name(text: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", text).lower()


def locks() -> dict[str, Path]:
    """The locked requirements, by the name of their SBOM: an image's family, or a set-up."""
    images = {path.parent.name: path for path in sorted(ROOT.glob("containers/*/requirements.lock"))}
    return images | {path.stem: path for path in sorted(ROOT.glob("requirements/*.lock"))}


def pins(lock: Path) -> dict[str, str]:
    """Package -> version, with torch, which no lock has."""
    return {name(p): v for p, v in _PIN.findall(lock.read_text() + "\n" + TORCH.read_text())}


def offline(lock_name: str, pinned: dict[str, str], advisories: Path = ADVISORIES) -> list[Finding]:
    """What the list in this folder knows."""
    found = []
    with advisories.open(newline="") as file:
        for row in csv.DictReader(file):
            version = pinned.get(name(row["package"]))
            if version is not None and Version(version) < Version(row["fixed_in"]):
                found.append(Finding(lock_name, row["package"], version, row["advisory"], row["what"]))
    return found


def online(lock_name: str, lock: Path) -> tuple[list[Finding], int, int] | None:
    """(findings, packages it knew, packages) of pip-audit's service; None where it does not answer."""
    options = [
        "--require-hashes",
        "--disable-pip",
        "--format",
        "json",
        "--progress-spinner",
        "off",
        "--timeout",
        "10",
    ]
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(lock), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        return None
    known = [p for p in packages if "skip_reason" not in p]
    found = [
        Finding(
            lock_name, p["name"], p["version"], v["id"], (v.get("description") or "").splitlines()[0][:80]
        )
        for p in known
        for v in p["vulns"]
    ]
    return found, len(known), len(packages)


def write_sbom(lock: Path, target: Path) -> None:
    """A CycloneDX file of a lock and torch; the same bytes for the same lock."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as both:
        both.write(lock.read_text() + "\n" + TORCH.read_text())
        both.flush()
        command = [sys.executable, "-m", "cyclonedx_py", "requirements", both.name, "--output-reproducible"]
        subprocess.run([*command, "--output-file", str(target)], check=True, capture_output=True)


def main() -> int:
    """Print what was found; 1 when anything was."""
    findings: list[Finding] = []
    asked, count = True, 0
    for lock_name, lock in locks().items():
        pinned = pins(lock)
        findings += offline(lock_name, pinned)
        answer = online(lock_name, lock) if asked else None
        asked = answer is not None and answer[1] > 0
        if asked and answer is not None:
            findings += answer[0]
        count += len(pinned)
        write_sbom(lock, OUTPUT / f"{lock_name}.cdx.json")
        print(
            f"{lock_name}: {len(pinned)} packages, SBOM in {(OUTPUT / lock_name).relative_to(ROOT)}.cdx.json"
        )
    from image_sbom import write_sboms  # beside this file

    families = [path.parent.name for path in sorted(ROOT.glob("containers/*/requirements.lock"))]
    for line in write_sboms(families, OUTPUT):
        print(line)
    for f in findings:
        print(f"error: {f.lock}: {f.package} {f.version}: {f.advisory}: {f.what}")
    with ADVISORIES.open(newline="") as file:
        size = sum(1 for _ in csv.DictReader(file))
    source = "pip-audit's service and " if asked else ""
    print(
        f"{count} pins, {len(findings)} advisories; asked: {source}the list of {size} in .ci/advisories.csv"
    )
    if not asked:
        print("pip-audit's service does not answer here: run this again where it does")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
