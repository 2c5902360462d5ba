# Everything here runs from a checkout; the only needs are Python 3.11+, git and make.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := gateway runner pki tests configs
UNIT_TESTS := tests/architecture tests/gateway tests/runner tests/pki tests/support
UV_INSTALL = VIRTUAL_ENV=$(VENV) UV_SYSTEM_CERTS=1 UV_PYTHON=$(BIN)/python $(BIN)/uv pip install --quiet

.PHONY: help demo test check lint unit bench build clean
help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | sort

demo: $(VENV)/.run ## host the demo app at https://hello.localhost:8443 until Ctrl-C
	@exec $(BIN)/lockgate demo

test: $(VENV)/.dev ## install what the tests need (root on Debian), run all of them
	@exec $(BIN)/python tests/support/prepare.py -- $(ARGS)

check: lint unit ## format, lint, types, laws, unit tests

lint: $(VENV)/.dev
	@$(BIN)/ruff format --quiet --check $(SOURCES)
	@$(BIN)/ruff check --quiet $(SOURCES)
	@$(BIN)/mypy gateway runner pki

unit: $(VENV)/.dev
	@exec $(BIN)/python -m pytest -n auto $(UNIT_TESTS) $(ARGS)

bench: $(VENV)/.dev ## measure, print the tables
	@exec $(BIN)/python tests/support/prepare.py --bench -- $(ARGS)

build: $(VENV)/.dev ## sdist and wheel in dist/
	@exec $(BIN)/python -m build --no-isolation

clean: ## remove what these targets made
	rm -rf $(VENV) .demo .test dist build .mypy_cache .ruff_cache .hypothesis *.egg-info
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

# Nothing is installed without a hash that the repository knows.
$(VENV)/.tools: locks/tools.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Lockgate needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	@echo "making $(VENV) from the lock files (once)"
	@$(PYTHON) -m venv $(VENV) || { echo "Python's venv module is missing (Debian: apt-get install python3-venv)"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r locks/tools.txt
	@touch $@

$(VENV)/.run: $(VENV)/.tools locks/run.txt pyproject.toml
	@$(UV_INSTALL) --require-hashes -r locks/run.txt
	@$(UV_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run locks/dev.txt
	@$(UV_INSTALL) --require-hashes -r locks/dev.txt
	@touch $@
