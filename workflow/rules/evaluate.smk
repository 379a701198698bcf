rule evaluate:
    input:
        policy=rules.train.output.policy,
        provenance=rules.train.output.provenance,
    output:
        episodes=f"{CELL}/episodes.csv",
        evaluation=f"{CELL}/evaluation.json",
    log:
        f"{LOGS}.evaluate.log",
    # Finished cells first, so that partial tables have the most to show.
    priority: 10
    retries: 2 * TRIES
    # For Snakemake's own --sdm apptainer. Without that, a job's container is --engine's affair.
    container:
        of(dag.image_file)
    threads: of(lambda cell: cell.cpus("evaluate"))
    resources:
        mem_mb=need("evaluate", "mem_mb"),
        runtime=need("evaluate", "runtime"),
        gpu=need("evaluate", "gpu"),
        gpu_model=need("evaluate", "gpu_model"),
        gres=need("evaluate", "gres"),
        slurm_partition=need("evaluate", "slurm_partition"),
    params:
        folder=subpath(output.episodes, parent=True),
        evaluation_hash=of(lambda cell: cell.evaluation_hash),
    shell:
        "exec amago-suite evaluate {params.folder:q} --mem-mb {resources.mem_mb} --parent $PPID --log {log:q} > {log:q} 2>&1"
