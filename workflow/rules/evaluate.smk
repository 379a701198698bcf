rule evaluate:
    input:
        policy=rules.train.output.policy,
        provenance=rules.train.output.provenance,
    output:
        episodes=f"{CELL}/episodes.csv",
        evaluation=f"{CELL}/evaluation.json",
    log:
        f"{LOGS}.evaluate.log",
    params:
        folder=subpath(output.episodes, parent=True),
        evaluation_hash=of(lambda cell: cell.evaluation_hash),
    threads: of(lambda cell: cell.threads)
    # Finished cells first, so that partial tables have the most to show.
    priority: 10
    retries: 2
    shell:
        "exec amago-suite evaluate {params.folder:q} --parent $PPID > {log:q} 2>&1"
