# Only complete tables are outputs. Partial ones are written by `onerror` to another folder: here
# they would count as done, and failed cells would never be tried again.


rule tables:
    input:
        evaluations=[cell.evaluation_file for cell in GRID],
        episodes=[cell.episodes for cell in GRID],
        provenances=[cell.provenance for cell in GRID],
    output:
        episodes=dag.pattern(GRID, "tables", "episodes.parquet"),
        runs=dag.pattern(GRID, "tables", "runs.csv"),
        scores=dag.pattern(GRID, "tables", "scores.csv"),
        aggregate=dag.pattern(GRID, "tables", "aggregate.csv"),
        comparisons=dag.pattern(GRID, "tables", "comparisons.csv"),
        costs=dag.pattern(GRID, "tables", "costs.csv"),
        missing=dag.pattern(GRID, "tables", "missing.csv"),
        markdown=dag.pattern(GRID, "tables", "scores.md"),
        report=dag.pattern(GRID, "report.html"),
    log:
        dag.pattern(GRID, "logs", "tables.log"),
    params:
        plan=GRID.plan_file,
        grid=dag.grid_digest(GRID),
    shell:
        "exec amago-suite tables --plan {params.plan:q} --complete > {log:q} 2>&1"
