"""The long form: `make fuzz`, or `python -m tests.fuzz --inputs 100000 [--only NAME] [--seed N]`."""

from __future__ import annotations

import argparse
import logging
import math
import tempfile
import time
from pathlib import Path

from tests.fuzz.fuzz import Count, fuzz, show
from tests.fuzz.targets import targets
from tests.fuzz.watch import bounded_memory


def main() -> None:
    parser = argparse.ArgumentParser(description="Hostile files for every reader.")
    parser.add_argument("--inputs", type=int, default=100_000, help="in all, shared among the kinds of files")
    parser.add_argument("--only", default="", help="kinds whose name contains this")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.disable()
    with tempfile.TemporaryDirectory(prefix="amago-fuzz-") as folder:
        chosen = [t for t in targets(Path(folder)) if arguments.only in t.name]
        shares = sum(t.share for t in chosen)
        rows: list[tuple[str, Count]] = []
        began = time.monotonic()
        for target in chosen:
            inputs = math.ceil(arguments.inputs * target.share / shares)
            with bounded_memory():
                rows.append((target.name, fuzz(target, inputs, arguments.seed)))
            print(f"{target.name}: {rows[-1][1]}", flush=True)
        assert not list(Path(folder).rglob("canary*")), "a file made its reader run something"
        print()
        print(show(rows))
        print(f"\nseed {arguments.seed}, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
