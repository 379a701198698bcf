"""Every benchmark of this folder, one after the other, or those that are named.

python -m benchmarks                every script, with its defaults
python -m benchmarks learning       one of them
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def main(names: list[str]) -> int:
    """Run scripts in processes of their own; 0 when all succeeded, 1 when one failed, 2 for an unknown name."""
    scripts = [path for path in FOLDER.glob("*.py") if not path.stem.startswith("_")]
    known = sorted(path.stem for path in [*scripts, *(main.parent for main in FOLDER.glob("*/__main__.py"))])
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"no such benchmark: {', '.join(unknown)}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    failed = []
    for name in names or known:
        print(f"== {name}", flush=True)
        if subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}"], cwd=FOLDER.parent, check=False
        ).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
