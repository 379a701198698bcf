"""What a training or evaluating process sets up before it imports torch."""

from __future__ import annotations

import ctypes
import os

from amago_suite.cell import Cell

#: Read by the libraries that numpy and torch compute with.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)

# Parameters of glibc's mallopt (malloc.h).
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEEP_BYTES = 1 << 30
_OLD_LIMIT = 32 << 20  # older versions refuse a larger threshold for mapping


def prepare_process(cell: Cell) -> None:
    """Threads, memory and kernels of this process as the cell needs them. Call it first."""
    keep_memory()
    limit_threads(cell.threads)
    if cell.deterministic:
        from amago.determinism import fix_cublas

        fix_cublas()


def limit_threads(threads: int) -> None:
    """Keep numpy's and torch's pools at the cell's threads. Works only before they are imported."""
    for name in THREAD_VARIABLES:
        os.environ[name] = str(threads)
    import torch

    torch.set_num_threads(threads)
    if torch.get_num_interop_threads() != 1:
        torch.set_num_interop_threads(1)


def keep_memory() -> bool:
    """Let malloc keep freed memory of up to 1 GiB instead of giving it back to the system at once.

    By default glibc maps and unmaps every larger temporary of every operation, and the system
    clears its pages each time: 5 to 30 % of the CPU time of a small agent. It changes no result.

    Returns:
        Whether it is set; False where the C library is not glibc.
    """
    try:
        libc = ctypes.CDLL(None)
        mallopt, _ = libc.mallopt, libc.gnu_get_libc_version  # the second is glibc's alone
    except (OSError, TypeError, AttributeError):
        return False
    mallopt.argtypes, mallopt.restype = [ctypes.c_int, ctypes.c_int], ctypes.c_int
    # Both are needed: setting either one ends glibc's own adaptation of the other.
    mapped = mallopt(_M_MMAP_THRESHOLD, _KEEP_BYTES) or mallopt(_M_MMAP_THRESHOLD, _OLD_LIMIT)
    return bool(mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES) and mapped)
