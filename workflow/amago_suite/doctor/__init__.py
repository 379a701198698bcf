"""`amago-suite doctor`: what would stop a suite on this machine or cluster, and the way out, before anything starts.

`machine` looks at this machine, `sharing` at the file system between processes and machines,
`slurm` at a cluster, `profile` at the settings that lead there, `engine` at what jobs run in.
"""

from __future__ import annotations

from amago_suite.doctor.examination import examine
from amago_suite.doctor.findings import NOTE, OK, PROBLEM, Finding

__all__ = ["NOTE", "OK", "PROBLEM", "Finding", "examine"]
