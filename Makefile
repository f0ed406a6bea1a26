# A target with a "## comment" is listed by `make help`. What takes more than a line is a script.

.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# A cluster's module system sets these; they would put other packages before the locked ones.
unexport PYTHONPATH PYTHONHOME

DEMO_SIZE ?= 1000x1000
DEMO_OUT ?= demo
ARGS ?=

.PHONY: help setup demo test test-all lint bench reference pictures docs lock image docker submit test-image test-slurm test-faults clean

help: ## this list
	@echo "hyperhpc: make TARGET, in the order you will want them"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-11s %s\n", $$1, $$2 }' Makefile

setup: ## make .venv with the locked packages and this checkout [PYTHON=python3.12]
	@bash container/venv.sh setup

demo: setup ## simulate a scene, analyse it, write demo/report.html [DEMO_SIZE=1000x1000 DEMO_OUT=demo]
	@.venv/bin/hyperhpc demo "$(DEMO_OUT)" --size "$(DEMO_SIZE)"

test: setup ## run the fast tests and a dozen whole runs in five minutes [ARGS="-k scene"]
	@.venv/bin/python -m pytest -q --tier quick -n logical --maxprocesses 16 --dist worksteal $(ARGS)

test-all: setup ## run all tests, on every Python 3.11-3.13 found [TEST_PYTHONS="3.11" ARGS="-k scene"]
	@bash tests/every_python.sh $(ARGS)

lint: ## check style, types and the direction of imports
	@bash container/venv.sh setup-dev
	@echo "ruff check" && .venv/bin/ruff check --quiet .
	@echo "ruff format --check" && .venv/bin/ruff format --check --quiet .
	@echo "mypy" && .venv/bin/mypy --no-error-summary
	@echo "lint-imports" && .venv/bin/lint-imports --no-logo
	@bash .ci/check_scripts.sh

bench: setup ## measure speed and memory, small scenes first [ARGS="seed", ARGS="--help" lists all]
	@.venv/bin/python benchmarks/bench.py $(or $(ARGS),quick)

reference: setup ## write docs/reference.md and docs/api.md from the code itself
	@.venv/bin/python docs/make_reference.py
	@.venv/bin/python docs/make_api.py

pictures: setup ## make the pictures of the documents again; needs Chromium [ARGS=chart]
	@.venv/bin/python docs/make_pictures.py $(ARGS)

docs: ## build these documents as a site of its own, build/site/index.html
	@bash container/venv.sh setup-dev
	@NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --quiet --strict
	@echo "site: build/site/index.html"

lock: ## resolve both locks again; pins that still fit stay [ARGS=--upgrade takes the newest]
	@bash container/venv.sh lock $(ARGS)

image: setup ## build build/hyperhpc.sif by Apptainer, without root [BOOTSTRAP=localimage FROM=base.sif]
	@container/build.sh prepare sif

docker: setup ## build the Docker image [IMAGE=hyperhpc:latest FROM=base:bookworm]
	@container/build.sh prepare docker

# By the environment and as they were typed: no shell and no make reads what a value holds.
JOB_VARIABLES := SITE SCENE OUT ARGS IMAGE MODE NODES WORKERS THREADS MEMORY MEMORY_OPTION TIME ACCOUNT PARTITION \
  SBATCH INTERFACE DASHBOARD WORKER_PARTITION WORKER_SBATCH DRIVER_CPUS DRIVER_MEMORY MODULES BINDS \
  CORES_PER_NODE THREADS_PER_CORE MEMORY_PER_NODE MAX_TASKS_PER_NODE DRY_RUN
$(foreach name,$(JOB_VARIABLES),$(eval submit: override export $(name) := $$(value $(name))))

submit: ## queue a run on a Slurm cluster [SITE=ceres SCENE=... OUT=... MODE=gang ARGS="--clusters 12"]
	@bash jobs/submit.sh

test-image: setup ## build both images from nothing and test them; Debian, as root [ARGS="-k docker"]
	@bash tests/image/run.sh $(ARGS)

test-slurm: setup ## start a Slurm cluster on this machine and run on it; Debian, as root [ARGS="-k gang"]
	@bash tests/slurm/run.sh $(ARGS)

test-faults: setup ## kill runs at random, try 1,000 attacks, read 10,000 damaged inputs [ARGS="--kills 1000"]
	@bash tests/faults/run.sh $(ARGS)

clean: ## remove .venv*, caches, build results and demo/
	@echo "Removing .venv*, caches, build results and demo/ from this checkout"
	@rm -rf .venv .venv-3.* .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	@rm -rf build dist demo
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "Shared with other checkouts, and kept: $${HYPERHPC_CACHE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/hyperhpc}"
