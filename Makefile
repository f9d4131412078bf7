# The words of the README and of CI. Everything is installed into .venv; nothing else is touched.

.DEFAULT_GOAL := help
.PHONY: help demo up test check bench requirements clean

BIN := .venv/bin
# The first of these that runs and is new enough; `make PYTHON=…` names another one.
PYTHON ?= $(shell for each in python3.11 python3 python3.12 python3.13; do \
	$$each -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$each && break; \
	done)
READY := .venv/ready
# A whole run ends within this, plus one test's own limit (pyproject.toml).
TEST_SECONDS_MAX := 2000

help: ## list the targets
	@sed -n 's/^\([.a-z]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "  make %-14s%s\n", $$1, $$2 }'

.venv: $(READY) ## install everything, from pinned and hash-checked requirements

$(READY): requirements.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed (make PYTHON=/path/to/python)"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY) ## start everything, stream the recorded sessions through it, show the totals, stop
	$(BIN)/fleetmeter demo

up: $(READY) ## start everything and stay, until Ctrl-C
	$(BIN)/fleetmeter up

test: $(READY) ## all tests, on a real Kafka and a real store
	$(BIN)/python -m pytest --session-timeout=$(TEST_SECONDS_MAX)

check: $(READY) ## lint, format, types, who imports whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY) ## events per second and lag, beside the floor of the same machine
	$(BIN)/python tests/bench/bench.py

requirements: $(READY) ## pin the newest allowed versions, with hashes, into requirements.txt
	$(BIN)/uv pip compile pyproject.toml --quiet --upgrade --universal --python-version 3.11 \
		--extra all --group dev --generate-hashes --no-emit-index-url --no-emit-find-links \
		--custom-compile-command "make requirements" --output-file requirements.txt

clean: ## remove the environment and every cache
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist
