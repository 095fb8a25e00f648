# demo   set up .venv and score a small encoder and its random twin on embedded data
# test   set up .venv and run the tests (small tensors: more threads only wait for each other)
# lint   ruff and mypy
# bench  speed and memory against peers
# docs   write the task, protocol and model pages from the cards
#
# Each sets up what it needs by itself. Another Python: make PYTHON=/path/to/python3.12 demo

.PHONY: demo test lint bench docs
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?=

demo: $(VENV)/.installed
	$(BIN)/tips-bench quickstart

test: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.installed-test
	@set -e; for script in benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python "$$script"; done

docs: $(VENV)/.installed
	$(BIN)/python scripts/card_pages.py

$(BIN)/python:
	@sh scripts/system_libraries.sh
	@python=$$(PYTHON="$(PYTHON)" sh scripts/find_python.sh) && echo "Setting up $(VENV) with $$python" \
		&& { "$$python" -m venv $(VENV) || { rm -rf $(VENV); exit 1; }; }

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $(VENV)/.installed $@
