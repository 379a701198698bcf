# The planned grid, and how rules look up the settings of a cell.

from amago_suite import dag

GRID = dag.load_grid(
    config,
    main=workflow.is_main_process,
    deployment=workflow.deployment_settings.deployment_method,
)
CELL = dag.pattern(GRID, "{environment}", "{architecture}", "seed_{seed}")
LOGS = dag.pattern(GRID, "logs", "{environment}", "{architecture}", "seed_{seed}")
of = dag.reader(GRID)
# A job on a cluster is a Snakemake too, and would try again by itself, in what is left of its time.
TRIES = 1 if workflow.is_main_process else 0
need = dag.requester(GRID)


if workflow.is_main_process:
    dag.use_executors(GRID)


wildcard_constraints:
    environment="[a-z0-9-]+",
    architecture="[a-z0-9-]+",
    seed="[0-9]+",
