# An image is an input of no cell: finished cells would be trained again whenever one is built, or the
# engine changes. `onstart` looks for the images of unfinished cells before the first job, and builds
# what is missing. This rule renews all images of a suite, say before it goes where no registry is:
#
#     snakemake images --cores 1 --config suite=memory engine=apptainer


rule images:
    log:
        dag.pattern(GRID, "logs", "images.log"),
    params:
        families=sorted({cell.family for cell in GRID}),
        engine=config.get("engine", "docker"),
    shell:
        "exec amago-suite images build {params.families:q} --engine {params.engine:q} > {log:q} 2>&1"
