"""What is made of the accounts' lines, whatever they hold."""

from __future__ import annotations

from typing import Any

from amago_suite.analysis.accounting import Account, account_file, costs_of, read_accounts
from amago_suite.folders.files import write_json

# As sacct 22.05 wrote them (times in seconds since the epoch).
LINES = """\
7|1000|1010|1110|4|billing=4,cpu=4,gres/gpu=2,mem=4G,node=1||COMPLETED
7.batch|1010|1010|1110|4|cpu=4,gres/gpu=2,mem=4G,node=1|2048K|COMPLETED
7.0|1012|1012|1110|4|cpu=4,gres/gpu=2,mem=4G,node=1|1.50G|COMPLETED
8|1000|1010|1020|1|billing=1,cpu=1,mem=1G,node=1||NODE_FAIL
8|1000|1030|1050|1|billing=1,cpu=1,mem=1G,node=1||COMPLETED
8.batch|1030|1030|1050|1|cpu=1,mem=1G,node=1||COMPLETED
9|1000|1010|Unknown|1|billing=1,cpu=1,mem=1G,node=1||RUNNING
10|1000|Unknown|1060|1|||CANCELLED by 0
"""


def test_lines_of_jobs() -> None:
    """Steps give the memory, a requeued job is two, a running one is left for later, a cancelled one only waited."""
    found = read_accounts(LINES)
    assert found["7"] == [Account("7", 10.0, 400.0, 200.0, 1536.0)]
    assert found["8"] == [Account("8", 10.0, 10.0, 0.0, None), Account("8", 30.0, 20.0, 0.0, None)]
    assert "9" not in found
    assert found["10"] == [Account("10", 60.0, 0.0, 0.0, None)]
    assert read_accounts("rubbish\n|||\n1|2\n") == {}


def test_a_cells_part(grid_of: Any) -> None:
    """A shared job counts in parts, its memory whole; damaged records count as none."""
    cell = next(iter(grid_of()))
    assert costs_of(cell) is None
    entry = {"job": "7", "queue_seconds": 10.0, "cpu_seconds": 400.0, "gpu_seconds": 200.0}
    entry |= {"peak_memory_mb": 1536.0, "cells": 4}
    write_json(account_file(cell), {"source": "sacct", "jobs": [entry, {**entry, "job": "8", "cells": 1}]})
    costs = costs_of(cell)
    assert costs is not None
    assert (costs.jobs, costs.queue_seconds, costs.cpu_seconds, costs.gpu_seconds) == (2, 20.0, 500.0, 250.0)
    assert costs.peak_memory_mb == 1536.0
    for damage in ({"cells": 0}, {"cpu_seconds": "1"}, {"gpu_seconds": -1}, {"more": 1}, {"job": 7}):
        write_json(account_file(cell), {"jobs": [{**entry, **damage}]})
        assert costs_of(cell) is None
    for content in ([], {"jobs": 3}, {"jobs": [3]}, "text"):
        write_json(account_file(cell), content)
        assert costs_of(cell) is None
