# demo   set up .venv and score a small encoder and its random twin on embedded data
# check  lint and the quick tests, in under two minutes on two cores: run it before each commit
# test   all tests, with a sample of the attacks
# attack all attacks of tests/attacks, some minutes; prints how many they were
# lint   ruff and mypy
# bench  speed and memory against peers
# docs   write the task, protocol and model pages from the cards
# docs-site  write the documentation as a website to build/docs/; a broken link is an error
# sanity rank encoders of known order on generated rooms, and write docs/sanity.md (more than half an hour of processor time)
#
# Each sets up what it needs by itself. Another Python: make PYTHON=/path/to/python3.12 demo

.PHONY: demo check test attack lint bench docs docs-site sanity
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?=
# A test file a process, so that what its tests share is made once; in their order, so that the long ones are not the last.
PYTEST := $(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder

demo: $(VENV)/.installed
	$(BIN)/tips-bench quickstart

check: lint
	$(PYTEST) -q -m "not slow and not nightly" tests/unit tests/contract

test: $(VENV)/.installed-test
	$(PYTEST)

attack: $(VENV)/.installed-test
	$(PYTEST) -q -m "" tests/attacks

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed-test
	@set -e; for script in benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python "$$script"; done

docs: $(VENV)/.installed
	$(BIN)/python scripts/card_pages.py

docs-site: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=. $(BIN)/mkdocs build --strict --quiet
	@echo "Written to build/docs/. To look at it: $(BIN)/mkdocs serve"

sanity: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.sanity --out runs/sanity
	PYTHONPATH=. $(BIN)/python scripts/sanity_page.py runs/sanity/records

$(BIN)/python:
	@sh scripts/system_libraries.sh
	@python=$$(PYTHON="$(PYTHON)" sh scripts/find_python.sh) && echo "Setting up $(VENV) with $$python" \
		&& { "$$python" -m venv $(VENV) || { rm -rf $(VENV); exit 1; }; }

# --no-compile: Python compiles what it imports; to compile all that is installed takes longer than to install it.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "Installing packages. The first time takes some minutes."
	$(BIN)/python -m pip install --no-compile --quiet --disable-pip-version-check -e .
	@touch $@

# A validator that wants a newer Python and packages which its checks do not use. It is in a folder of its own, and tests alone look there.
PEERS := --no-deps --ignore-requires-python 'every_eval_ever>=0.3,<0.4'

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	@sh scripts/test_packages.sh
	@echo "Installing packages. The first time takes some minutes."
	$(BIN)/python -m pip install --no-compile --quiet --disable-pip-version-check -e '.[test]'
	$(BIN)/python -m pip install --no-compile --quiet --disable-pip-version-check --upgrade --target $(VENV)/peers $(PEERS)
	@touch $(VENV)/.installed $@

$(VENV)/.installed-docs: pyproject.toml | $(BIN)/python
	@echo "Installing packages. The first time takes some minutes."
	$(BIN)/python -m pip install --no-compile --quiet --disable-pip-version-check -e '.[docs]'
	@touch $(VENV)/.installed $@
