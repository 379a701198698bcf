"""``python -m amago_suite``: the same as ``amago-suite``."""

from amago_suite.cli import main

main()
