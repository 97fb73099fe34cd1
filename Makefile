# Everything starts from a bare clone: Python >= 3.11, make and a package index.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO := $(VENV)/demo
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# One thread for each of two workers: torch's threads wait for one another, and badly so when the
# machine has other work.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

.DEFAULT_GOAL := help
.PHONY: help demo test test-all architectures bench lint format setup clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1  \2/p' $(firstword $(MAKEFILE_LIST)) \
		| while read -r name text; do printf '  make %-10s %s\n' "$$name" "$$text"; done

demo: setup ## compress a passage with the packaged model and restore it
	@mkdir -p $(DEMO)
	@cp src/memcram/data/demo.txt $(DEMO)/passage.txt
	$(BIN)/memcram compress $(DEMO)/passage.txt --force
	$(BIN)/memcram inspect $(DEMO)/passage.txt.mem.safetensors
	$(BIN)/memcram decompress $(DEMO)/passage.txt.mem.safetensors -o $(DEMO)/restored.txt --force
	cmp $(DEMO)/passage.txt $(DEMO)/restored.txt
	@echo "The same bytes came back: $(DEMO)/restored.txt"

test: setup lint ## check style and types, and run the tests
	$(PYTEST) -m "not slow"

test-all: setup lint ## the same, with the slow tests
	$(PYTEST)

architectures: setup ## try every architecture of transformers and write docs/architectures.md
	PYTHONPATH=tests:tests/conformance $(BIN)/python -m sweep docs/architectures.md

bench: setup ## measure speed, as ratios within one run
	$(BIN)/python benchmarks/speed.py

lint: setup ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## format the code and apply safe fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

setup: $(VENV)/.installed ## install into .venv

# pyproject.toml and constraints.txt decide what is installed; a change of either installs again.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) -e '.[dev]'
	@touch $@

clean: ## remove .venv
	rm -rf $(VENV)
