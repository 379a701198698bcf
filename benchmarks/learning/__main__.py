"""How fast the agent learns: environment steps, updates and CPU time until a task is solved.

    python -m benchmarks.learning                              every case at its own settings, one seed
    python -m benchmarks.learning tmaze-15 --seeds 5 --arch rnn transformer
    python -m benchmarks.learning --table results.jsonl        the table in docs/learning.md, of runs kept by --keep

A run trains on one thread until a greedy evaluation of 32 episodes reaches the case's goal or its budget ends.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import torch

from benchmarks.learning.cases import CASES
from benchmarks.learning.table import markdown
from benchmarks.learning.training import Point, train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("cases", nargs="*", default=list(CASES), help=f"any of {', '.join(CASES)}")
    parser.add_argument("--arch", nargs="+", help="other architectures than the case's")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], help="a gin binding, such as Agent.tau=0.005")
    for name in ("epochs", "steps", "updates", "context", "batch_size"):
        parser.add_argument(f"--{name}", type=int, help="another than the case's")
    parser.add_argument("--rate", type=float, help="another learning rate than the case's")
    parser.add_argument("--keep", type=Path, help="add a line of JSON for each run to this file")
    parser.add_argument("--table", type=Path, help="train nothing; print the table of such a file")
    parser.add_argument("--quiet", action="store_true", help="do not print every epoch")
    options = parser.parse_args()
    if options.table:
        print(markdown(read(options.table)))
        return
    torch.set_num_threads(1)
    names = ("epochs", "steps", "updates", "context", "batch_size", "rate")
    changes = {name: value for name in names if (value := getattr(options, name)) is not None}
    results = []
    for name in options.cases:
        case = dataclasses.replace(CASES[name], **changes)
        for arch in options.arch or case.architectures:
            for seed in range(options.first_seed, options.first_seed + options.seeds):

                def say(point: Point, what: str = f"{name} {arch} {seed}") -> None:
                    if not options.quiet:
                        print(what, *dataclasses.astuple(point), flush=True)

                results.append({"case": name, **train(case, arch, seed, options.set, say)})
                if options.keep:
                    with options.keep.open("a") as file:
                        file.write(json.dumps(results[-1]) + "\n")
    print(markdown(results))


def read(path: Path) -> list[dict[str, Any]]:
    """The runs of a file that --keep wrote."""
    return [json.loads(line) for line in path.read_text().splitlines()]


if __name__ == "__main__":
    main()
