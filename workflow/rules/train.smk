# Checkpoints lie in the cell's state/ folder, which is no output on purpose: Snakemake deletes
# the outputs of failed and interrupted jobs, and a retry goes on from the last checkpoint.


rule train:
    output:
        policy=f"{CELL}/policy.safetensors",
        provenance=f"{CELL}/provenance.json",
    log:
        f"{LOGS}.train.log",
    # For interruptions: a failure for good is recorded in state/failed.json and fails at once.
    retries: 10 * TRIES
    # For Snakemake's own --sdm apptainer. Without that, a job's container is --engine's affair.
    container:
        of(dag.image_file)
    threads: of(lambda cell: cell.cpus("train"))
    resources:
        mem_mb=need("train", "mem_mb"),
        runtime=need("train", "runtime"),
        gpu=need("train", "gpu"),
        gpu_model=need("train", "gpu_model"),
        gres=need("train", "gres"),
        slurm_partition=need("train", "slurm_partition"),
    params:
        folder=subpath(output.policy, parent=True),
        # A change of these trains the cell again (or further); gin and suite files are no inputs,
        # so that a comment in one of them does not.
        train_hash=of(lambda cell: cell.train_hash),
        epochs=of(lambda cell: cell.budget_epochs),
    shell:
        "exec amago-suite train {params.folder:q} --mem-mb {resources.mem_mb} --parent $PPID --log {log:q} > {log:q} 2>&1"
