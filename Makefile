SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help demo test check fuzz faults soak machine bench bench-peers format clean

python := .venv/bin/python
# Most tests wait for processes that they started, so there may be more than there are cores.
at_once := $(shell cores=$$(nproc); echo $$((cores < 8 ? cores + 1 : 8)))
# Each of the many processes that tests start would compile all of DTrain again.
unexport PYTHONDONTWRITEBYTECODE

help: ## Say what there is
	@echo 'make …'
	@sed -nE 's/^([a-z-]+): ## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 12
	@echo 'The first two do all their own set-up, in .venv here; PYTHON=python3.12 chooses the interpreter.'

demo: ## Start a server and a worker here, train on real data, show it live (DEMO_ONCE=1: then end)
	@tools/setup server
	@$(python) -m dtrain demo --home .cache/demo

test: ## Run everything that the project checks (ARGS="-k name" for some of it)
	@tools/setup test
	@tools/parts
	@$(python) -m pytest -n $(at_once) --dist loadfile --no-loadscope-reorder $(ARGS)

check: ## Lint, types and import rules alone
	@tools/setup test
	@$(python) -m pytest tests/checks $(ARGS)

fuzz: ## Ask the API whatever it may be asked, each time something else (EXAMPLES=1000 SEED=7)
	@tools/setup test
	@tools/parts
	@FUZZ_EXAMPLES=$(or $(EXAMPLES),200) FUZZ_SEED=$(SEED) $(python) -m pytest --timeout 0 tests/integration/test_api_fuzz.py $(ARGS)

faults: ## Kill, stop, cut, fill and set clocks for an hour or so; ends with a table (EXAMPLES=1000)
	@tools/setup test
	@tools/parts
	@QUEUE_EXAMPLES=$(or $(EXAMPLES),300) $(python) -m pytest --timeout 0 tests/faults \
		tests/integration/test_faults.py tests/contract/test_queue_races.py \
		tests/contract/test_queue_model.py $(ARGS)

soak: ## Run 200 jobs while servers and agents are killed and connections cut (ARGS="--jobs 1000")
	@tools/setup test
	@cd tests && ../$(python) -m soak $(ARGS)

machine: ## Try isolation and the units of systemd on a machine of their own, in QEMU, as root
	@tools/setup test
	@cd tests && ../$(python) -m machine $(ARGS)

bench: ## Measure DTrain beside this machine's floor and its peers (ARGS="--trial", ARGS="--long")
	@tools/setup test
	@$(python) -m benchmarks $(ARGS)

bench-peers: ## Bring in the peers that the benchmark compares with: HyperQueue, RQ, Ray, Slurm
	@tools/setup test
	@benchmarks/peers/install

format: ## Format the code and mend what the linter can
	@tools/setup test
	@$(python) -m ruff format .
	@$(python) -m ruff check --fix .

clean: ## Remove what was built here (.venv, caches); servers' and workers' data stay
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis dist
	rm -rf frontend/node_modules frontend/src/dtrain_ui/static
