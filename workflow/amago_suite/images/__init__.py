"""Images of the families: which one a job gets, and how they are built.

`contents` says what an image holds, `finding` finds a built one and checks that it fits this code,
`build` and `sif` make them, `preparing` does what is needed before a suite's first job.
"""

from __future__ import annotations

from amago_suite.images.contents import families, lock_hash, sif_path
from amago_suite.images.daemon import connect
from amago_suite.images.finding import resolve, run_apptainer
from amago_suite.images.image import Image, ImageMissing
from amago_suite.images.preparing import ensure, prepare, recorded

__all__ = [
    "Image",
    "ImageMissing",
    "connect",
    "ensure",
    "families",
    "lock_hash",
    "prepare",
    "recorded",
    "resolve",
    "run_apptainer",
    "sif_path",
]
