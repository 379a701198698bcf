# Only complete tables are outputs. Partial ones are written by `onerror` to another folder: here
# they would count as done, and failed cells would never be tried again.
#
# `snakemake --report FILE.html` (or .zip) collects what is flagged here, with its caption.


rule tables:
    input:
        evaluations=[cell.evaluation_file for cell in GRID],
        episodes=[cell.episodes for cell in GRID],
        provenances=[cell.provenance for cell in GRID],
    output:
        episodes=dag.pattern(GRID, "tables", "episodes.parquet"),
        runs=report(
            dag.pattern(GRID, "tables", "runs.csv"),
            caption="../report/runs.rst",
            category="Tables",
            labels={"table": "runs"},
        ),
        scores=report(
            dag.pattern(GRID, "tables", "scores.csv"),
            caption="../report/scores.rst",
            category="Tables",
            labels={"table": "scores"},
        ),
        aggregate=report(
            dag.pattern(GRID, "tables", "aggregate.csv"),
            caption="../report/aggregate.rst",
            category="Tables",
            labels={"table": "across environments"},
        ),
        comparisons=report(
            dag.pattern(GRID, "tables", "comparisons.csv"),
            caption="../report/comparisons.rst",
            category="Tables",
            labels={"table": "comparisons"},
        ),
        costs=report(
            dag.pattern(GRID, "tables", "costs.csv"),
            caption="../report/costs.rst",
            category="Tables",
            labels={"table": "costs"},
        ),
        missing=dag.pattern(GRID, "tables", "missing.csv"),
        markdown=dag.pattern(GRID, "tables", "scores.md"),
        report=report(
            dag.pattern(GRID, "report.html"),
            caption="../report/report.rst",
            category="Report",
            labels={"page": "report"},
        ),
        figures=report(
            directory(dag.pattern(GRID, "report")),
            patterns=["{figure}.svg"],
            caption="../report/figures.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
    log:
        dag.pattern(GRID, "logs", "tables.log"),
    params:
        plan=GRID.plan_file,
        grid=dag.grid_digest(GRID),
    shell:
        "exec amago-suite tables --plan {params.plan:q} --complete > {log:q} 2>&1"
