"""CPU time of one forward and backward pass through a GRU: ours against ``torch.nn.GRU``.

    python benchmarks/gru.py [--batch 24] [--widths 32 64 256] [--lengths 16 128 1000] [--json FILE]

One thread. Both run in turn on the same weights and inputs, so that whatever else the machine does meets
both; times are medians in milliseconds of CPU time. Outputs and gradients are compared on the way.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from amago.nets._gru import gru_forward

LAYERS = 2


def _timed(run: Callable[[], Tensor], weight: Tensor) -> tuple[float, Tensor]:
    """CPU milliseconds of forward and backward, and the output."""
    start = time.process_time()
    out = run()
    out.backward(weight)
    return 1e3 * (time.process_time() - start), out.detach()


def compare(batch: int, width: int, length: int, repeats: int) -> dict[str, Any]:
    """One row of the table."""
    generator = torch.Generator().manual_seed(0)
    seq, weight = torch.randn(2, batch, length, width, generator=generator)
    rnn = nn.GRU(width, width, num_layers=LAYERS, batch_first=True)
    runs: dict[str, Callable[[], Tensor]] = {
        "torch": lambda: rnn(seq)[0],
        "ours": lambda: gru_forward(rnn, seq),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    results: dict[str, list[Tensor]] = {}
    for _ in range(repeats + 1):
        for name, run in runs.items():
            rnn.zero_grad()
            spent, out = _timed(run, weight)
            times[name].append(spent)
            results[name] = [out, *(p.grad.clone() for p in rnn.parameters() if p.grad is not None)]
    # the first of each warms up
    torch_ms, ours_ms = (statistics.median(times[name][1:]) for name in ("torch", "ours"))
    worst = max(
        ((a - b).abs().max() / b.abs().max()).item()
        for a, b in zip(results["ours"], results["torch"], strict=True)
    )
    return {
        "batch": batch,
        "width": width,
        "length": length,
        "torch_ms": torch_ms,
        "ours_ms": ours_ms,
        "ratio": torch_ms / ours_ms,
        "worst_relative_difference": worst,
    }


def main() -> None:
    """Print the table; write JSON where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 64, 256])
    parser.add_argument("--lengths", type=int, nargs="+", default=[16, 128, 1000])
    parser.add_argument("--json", type=Path, help="write the rows to this file, too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'width':>6} {'length':>7} {'nn.GRU ms':>10} {'ours ms':>9} {'ratio':>6} {'difference':>11}")
    rows = []
    for width in args.widths:
        for length in args.lengths:
            row = compare(args.batch, width, length, repeats=max(3, 600 // length))
            rows.append(row)
            print(
                f"{width:6d} {length:7d} {row['torch_ms']:10.1f} {row['ours_ms']:9.1f} {row['ratio']:6.2f} "
                f"{row['worst_relative_difference']:11.1e}",
                flush=True,
            )
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
