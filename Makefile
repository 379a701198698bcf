# What a person would type. `make` alone lists it.
PYTHON ?= python3
SUITE  ?= quick
ENGINE ?=
ARGS   ?=

VENV := .venv
BIN  := $(VENV)/bin
PIP  := $(BIN)/pip --quiet --disable-pip-version-check --no-input install
WHEELS := --require-hashes --only-binary :all:
LOCKED := $(WHEELS) --no-binary connection-pool --no-build-isolation --use-pep517
AGENT := containers/agent
CORE := containers/core/requirements
PIPE := requirements/pipeline
DEV  := requirements/dev
# Families of environments that cannot share the core's pins: a folder, and a virtual environment, each.
OTHERS := $(filter-out core,$(patsubst containers/%/requirements.in,%,$(wildcard containers/*/requirements.in)))
FAMILIES ?= $(OTHERS)
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest \
        --generate-hashes --emit-build-options --override requirements/left-out.txt --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

define HELP
make run     set up, train and evaluate every cell of a suite, print its table   SUITE=quick ENGINE=docker ARGS="--dry-run"
make test    set up with the test tools and run the tests                        ARGS="tests/unit -k grid"
make family-NAME    build .venv-NAME, for the environments of another family: $(OTHERS)
make test-families  build them, then train and check environments of each        FAMILIES="jax offline"
make test-engines  set up Docker, podman and Apptainer (Debian, root), build the core's image, test all three
make test-slurm  every scenario on a SLURM cluster that is brought up here (Debian, root)
make lint    check style, types and the workflow
make torture kill small cells again and again, compare with one left alone       ARGS="--kills 30"
make fuzz    feed 100,000 hostile files to every reader, print what came of them   ARGS="--only gin"
make audit   compare the locks with known advisories, write an SBOM of each and of every image
make bench   run the benchmarks: a table each, and JSON                          ARGS=learning
make example run the suite of the docs and write its page
make lock    resolve the locked requirements again                               ARGS=--upgrade
make clean   remove the set-up, caches and build output; results stay
endef

.PHONY: help run test family-NAME test-families test-engines test-slurm lint torture fuzz audit bench example lock clean

help:
	@: $(info $(HELP))

run: $(VENV)/run.stamp
	$(BIN)/amago-suite run $(SUITE) $(if $(ENGINE),--engine $(ENGINE)) $(ARGS)

test: $(VENV)/dev.stamp
	$(BIN)/pytest --numprocesses=logical --maxprocesses=4 $(ARGS)

family-%: .venv-%/stamp
	@echo "amago-suite uses .venv-$* for the environments of family $*"

test-families: $(VENV)/dev.stamp $(FAMILIES:%=.venv-%/stamp)
	$(BIN)/pytest tests/families --require family $(FAMILIES:%=--family %) $(ARGS)

test-slurm: $(VENV)/dev.stamp
	$(BIN)/pytest tests/slurm --require slurm --durations=0 $(ARGS)

# On a machine without an image registry: the base is made of Debian's packages (tests/engines/setup).
test-engines: export AMAGO_IMAGE_BASE := amago-suite/base
test-engines: $(VENV)/dev.stamp
	tests/engines/setup docker base podman apptainer
	$(BIN)/amago-suite images build core --engine docker --engine podman --engine apptainer
	$(BIN)/pytest tests/engines --require docker --require podman --require apptainer $(ARGS)

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/python .ci/lint_workflow.py

torture: $(VENV)/dev.stamp
	$(BIN)/python -m tests.torture.torture $(ARGS)

fuzz: $(VENV)/dev.stamp
	nice -n 15 $(BIN)/python -W ignore -m tests.fuzz $(ARGS)

audit: $(VENV)/dev.stamp
	$(BIN)/python .ci/audit.py

bench: $(VENV)/dev.stamp
	$(BIN)/python -m benchmarks $(ARGS)

example: $(VENV)/run.stamp
	$(BIN)/amago-suite run example $(ARGS)
	$(BIN)/python docs/example.py

lock: $(VENV)/dev.stamp
	$(LOCK) $(ARGS) $(AGENT).in $(CORE).in -o $(CORE).lock
	$(LOCK) $(ARGS) $(AGENT).in $(CORE).in $(PIPE).in -c $(CORE).lock -o $(PIPE).lock
	$(LOCK) $(ARGS) $(AGENT).in $(CORE).in $(PIPE).in $(DEV).in -c $(PIPE).lock -o $(DEV).lock
	set -e; for family in $(OTHERS); do \
	  $(LOCK) $(ARGS) $(AGENT).in containers/$$family/requirements.in -o containers/$$family/requirements.lock; done

clean:
	rm -rf $(VENV) $(OTHERS:%=.venv-%) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

# The set-up. The core comes first because its locked setuptools builds what has no wheel: a build of
# its own environment would fetch tools that no lock pins. torch comes without a hash because its
# build differs from machine to machine: alone at first, since locked packages ask for it, and at
# last with what its build needs beyond the locks (a GPU's libraries).
$(VENV)/run.stamp: $(PIPE).lock requirements/torch.txt pyproject.toml | $(BIN)/pip
	@echo "Installing the locked requirements into $(VENV): once, a few minutes"
	$(PIP) --no-deps --only-binary :all: -r requirements/torch.txt
	$(PIP) $(WHEELS) -r $(CORE).lock
	$(PIP) $(LOCKED) -r $(PIPE).lock
	$(PIP) --only-binary :all: -r requirements/torch.txt
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

# The same for a family: all that its lock has, whatever the core has. Its own setuptools comes first and
# builds what has no wheel (a lock says so with --no-binary).
# (Not to be deleted as a step on the way to family-NAME.)
.PRECIOUS: .venv-%/stamp
FAMILY_PIP = .venv-$*/bin/pip --quiet --disable-pip-version-check --no-input install
.venv-%/stamp: containers/%/requirements.lock requirements/torch.txt pyproject.toml | $(VENV)/run.stamp
	@echo "Installing the family $* into .venv-$*: once, a few minutes"
	$(BIN)/python -m venv .venv-$*
	$(FAMILY_PIP) --no-deps --only-binary :all: -r requirements/torch.txt
	awk '/^[^ ]/ { mine = /^setuptools==/ } mine' $< > .venv-$*/builder.txt
	$(FAMILY_PIP) $(WHEELS) -r .venv-$*/builder.txt
	$(FAMILY_PIP) $(WHEELS) --no-deps --no-build-isolation --use-pep517 -r $<
	$(FAMILY_PIP) --only-binary :all: -r requirements/torch.txt
	$(FAMILY_PIP) --no-deps --no-build-isolation -e .
	@touch $@

# Without dependencies: the lock has all of them but those of requirements/left-out.txt.
$(VENV)/dev.stamp: $(DEV).lock $(VENV)/run.stamp
	$(PIP) $(LOCKED) --no-deps -r $(DEV).lock
	@touch $@

$(BIN)/pip:
	@$(PYTHON) -c "import sys; sys.exit(None if sys.version_info >= (3, 11) else 'Python 3.11 or newer is needed and $(PYTHON) is %d.%d: name another with make PYTHON=python3.11' % sys.version_info[:2])"
	$(PYTHON) -m venv $(VENV)
