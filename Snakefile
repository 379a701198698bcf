"""Environments x architectures x seeds: train every cell, evaluate it, make tables.

    snakemake --cores 4                          the suite "quick"
    snakemake --cores 4 --config suite=memory    another one

`amago-suite run SUITE` is the same with a live display, and clears up after a crash.
"""

from snakemake.utils import min_version

min_version("9.0")


report: "workflow/report/workflow.rst"


include: "workflow/rules/grid.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/images.smk"


localrules:
    all,
    tables,
    images,


rule all:
    default_target: True
    input:
        cells=[cell.evaluation_file for cell in GRID],
        tables=rules.tables.output,


onstart:
    dag.on_start(GRID)


onsuccess:
    dag.on_success(GRID)


onerror:
    dag.on_error(GRID)
