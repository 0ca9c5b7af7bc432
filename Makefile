# Everything a contributor runs. `make demo` and `make test` need only Python (3.10 or newer) and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test lint types imports pytest others docs bench bench-record clean

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/demo.stamp ## show the training loop of a small fastai learner
	$(BIN)/loopscope demo

test: $(VENV)/test.stamp ## everything that CI runs: lint, types, imports, tests, the other Pythons
	$(MAKE) --no-print-directory lint types imports
	$(MAKE) --no-print-directory pytest
	$(MAKE) --no-print-directory others

lint: $(VENV)/test.stamp ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/test.stamp ## mypy --strict
	$(BIN)/mypy

imports: $(VENV)/test.stamp ## the layers of pyproject.toml, by import-linter
	$(BIN)/lint-imports --no-cache

pytest: $(VENV)/test.stamp ## the tests, with fastai required and coverage shown
	LOOPSCOPE_REQUIRE=fastai $(BIN)/python -m pytest --cov --cov-report=term --durations=10 $(ARGS)

others: $(VENV)/test.stamp ## the built wheel under every other supported Python found here
	$(BIN)/python tools/other_pythons.py

docs: $(VENV)/test.stamp ## execute the tutorials and keep their outputs
	$(BIN)/python tools/tutorials.py

bench: $(VENV)/test.stamp ## measure; prints tables and writes benchmarks/results/
	$(BIN)/python benchmarks/import_time.py
	$(BIN)/python benchmarks/inspect_time.py
	$(MAKE) --no-print-directory bench-record

bench-record: $(VENV)/bench.stamp ## the figures of recording alone, 15 minutes (ARGS=--quick: does it run?)
	$(BIN)/python benchmarks/recording.py $(ARGS)

clean: ## remove what the other targets made
	rm -rf $(VENV) .venvs build dist .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find src tests tools benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# Two sets of packages in one environment; test.stamp holds all that demo.stamp does.
$(VENV)/demo.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[fastai]'
	touch $@

$(VENV)/test.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[fastai,dev]'
	touch $(VENV)/demo.stamp $@

# The profilers that recording is compared with; no other target needs them.
$(VENV)/bench.stamp: $(VENV)/test.stamp
	$(PIP) --editable '.[fastai,dev,bench]'
	touch $@
