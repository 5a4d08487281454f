SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help demo test check format clean

python := .venv/bin/python

help: ## Say what there is
	@echo 'make …'
	@sed -nE 's/^([a-z]+): ## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 12
	@echo 'The first two do all their own set-up, in .venv here; PYTHON=python3.12 chooses the interpreter.'

demo: ## Start a server and a worker here, train on real data, show it live (DEMO_ONCE=1: then end)
	@tools/setup server
	@$(python) -m dtrain demo --home .cache/demo

test: ## Run everything that the project checks (ARGS="-k name" for some of it)
	@tools/setup test
	@tools/parts
	@$(python) -m pytest $(ARGS)

check: ## Lint, types and import rules alone
	@tools/setup test
	@$(python) -m pytest tests/checks $(ARGS)

format: ## Format the code and mend what the linter can
	@tools/setup test
	@$(python) -m ruff format .
	@$(python) -m ruff check --fix .

clean: ## Remove what was built here (.venv, caches); servers' and workers' data stay
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis dist
	rm -rf frontend/node_modules frontend/src/dtrain_ui/static
