# Everything a contributor runs. `make demo` and `make test` need only Python (3.10 or newer) and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Lightning, Transformers, Keras and Ignite live apart from fastai, which brings torchvision: see constraints.txt.
OTHERS := .venvs/frameworks
INSTALL := -m pip install --disable-pip-version-check --quiet --constraint constraints.txt
PIP := $(BIN)/python $(INSTALL)
# On all cores; the tests of a file stay together, because they share what takes long to make. Without coverage, whose
# tracer and that of the tests' witnesses are in each other's way in such processes: `make coverage` shows it.
# One file has processes of its own: its witness does not bear the recorder's tests before it in one process.
ALONE := tests/test_conformance_recordings_fastai.py
PYTEST := -m pytest -n auto --dist loadfile --no-loadscope-reorder --durations=10

.DEFAULT_GOAL := help
.PHONY: help demo test lint types imports pytest coverage pytest-fastai pytest-frameworks others docs bench bench-record bench-frameworks clean

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' Makefile

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

pytest: pytest-fastai pytest-frameworks ## the tests, with every framework required

pytest-fastai: $(VENV)/test.stamp ## all that needs fastai or no framework
	LOOPSCOPE_REQUIRE=fastai $(BIN)/python $(PYTEST) --ignore=$(ALONE) $(ARGS)
	$(if $(ARGS),,LOOPSCOPE_REQUIRE=fastai $(BIN)/python $(PYTEST) $(ALONE))

pytest-frameworks: $(OTHERS)/test.stamp ## all that needs Lightning, Transformers, Keras or Ignite
	LOOPSCOPE_REQUIRE=lightning,transformers,keras,ignite KERAS_BACKEND=torch \
		$(OTHERS)/bin/python $(PYTEST) -m framework $(ARGS)

coverage: $(VENV)/test.stamp ## the tests that need fastai or no framework, in one process, with coverage shown
	LOOPSCOPE_REQUIRE=fastai $(BIN)/python -m pytest --cov --cov-report=term --durations=10 $(ARGS)

others: $(VENV)/test.stamp ## the built wheel under every other supported Python found here
	$(BIN)/python tools/other_pythons.py

docs: $(VENV)/test.stamp ## execute the tutorials and keep their outputs; write the generated pages and tables
	$(BIN)/python tools/tutorials.py
	$(BIN)/python tools/moments.py
	$(BIN)/python tools/rules.py
	$(BIN)/python tools/versions.py

bench: $(VENV)/test.stamp ## measure; prints tables and writes benchmarks/results/
	$(BIN)/python benchmarks/import_time.py
	$(BIN)/python benchmarks/inspect_time.py
	$(BIN)/python benchmarks/check_time.py
	$(MAKE) --no-print-directory bench-record
	$(MAKE) --no-print-directory bench-frameworks

bench-record: $(VENV)/bench.stamp ## the figures of recording alone, 15 minutes (ARGS=--quick: does it run?)
	$(BIN)/python benchmarks/recording.py $(ARGS)

bench-frameworks: $(OTHERS)/bench.stamp ## the figures of the other four frameworks, 8 minutes (ARGS=--quick)
	KERAS_BACKEND=torch $(OTHERS)/bin/python benchmarks/frameworks.py $(ARGS)

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

$(OTHERS)/test.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(OTHERS)
	$(OTHERS)/bin/python $(INSTALL) --editable '.[lightning,transformers,keras,ignite,dev]' pytorch-lightning tensorboard
	touch $@

# The profilers that recording is compared with; no other target needs them.
$(VENV)/bench.stamp: $(VENV)/test.stamp
	$(PIP) --editable '.[fastai,dev,bench]'
	touch $@

$(OTHERS)/bench.stamp: $(OTHERS)/test.stamp
	$(OTHERS)/bin/python $(INSTALL) --editable '.[lightning,transformers,keras,ignite,dev,bench]'
	touch $@
