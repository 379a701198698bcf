"""Images of the families: which one a job gets, and how they are built.

`families` says what an image holds, `resolve` finds a built one and checks that it fits this code,
`build` and `sif` make them, `prepare` does what is needed before a suite's first job.
"""

from __future__ import annotations

from amago_suite.images.daemon import connect
from amago_suite.images.families import families, lock_hash, sif_path
from amago_suite.images.image import Image, ImageMissing
from amago_suite.images.prepare import prepare, recorded
from amago_suite.images.resolve import resolve

__all__ = [
    "Image",
    "ImageMissing",
    "connect",
    "families",
    "lock_hash",
    "prepare",
    "recorded",
    "resolve",
    "sif_path",
]
