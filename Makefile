# Everything starts from a bare clone: Python >= 3.11, make and a package index.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO := $(VENV)/demo
# One thread for each of two workers: torch's threads wait for one another, and badly so when the
# machine has other work.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

.PHONY: demo test test-all bench lint setup clean

demo: setup ## cram a passage into vectors of the packaged model, and restore it
	@mkdir -p $(DEMO)
	@cp src/memcram/data/demo.txt $(DEMO)/passage.txt
	$(BIN)/memcram compress $(DEMO)/passage.txt --force
	$(BIN)/memcram inspect $(DEMO)/passage.txt.mem.safetensors
	$(BIN)/memcram decompress $(DEMO)/passage.txt.mem.safetensors -o $(DEMO)/restored.txt --force
	cmp $(DEMO)/passage.txt $(DEMO)/restored.txt
	@echo "The same bytes came back: $(DEMO)/restored.txt"

test: setup lint ## lint, types, tests
	$(PYTEST) -m "not slow"

test-all: setup lint ## the slow tests too
	$(PYTEST)

bench: setup ## performance, as ratios within one run
	$(BIN)/python benchmarks/speed.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

setup: $(VENV)/.installed

# pyproject.toml and constraints.txt decide what is installed; a change of either installs again.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV)
