# make demo     run the quick start            make check   lint, types, layers, documents, contracts
# make test     the tests (ARGS="-k name";     make bench   measurements (ARGS="start contract")
#               SLOW=1: the slow ones too)
# make docs     the documents, into site/      make clean   remove what make made

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# A notice about a future major version, which pyproject.toml excludes.
export NO_MKDOCS_2_WARNING := 1

# Set-up is done once, and again when the project's requirements change.
RUNTIME := $(VENV)/.runtime
TOOLS := $(VENV)/.tools

.PHONY: demo test check bench docs pages clean

demo: $(RUNTIME)
	$(BIN)/fsmrt run examples/quickstart --sandbox host

# What needs minutes (gibibytes, rounds of hostile trees, another user) runs where CI is set.
SLOW ?= $(CI)

test: $(TOOLS)
	$(BIN)/python -m pytest $(if $(SLOW),,-m "not slow") $(ARGS)

check: $(TOOLS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layers.py tests/test_public_surface.py tests/test_docs.py
	$(BIN)/mkdocs --quiet build --strict
	$(BIN)/fsmrt check examples/quickstart

bench: $(RUNTIME)
	$(BIN)/python -m bench $(ARGS)

docs: pages
	$(BIN)/mkdocs --quiet build --strict

pages: $(TOOLS)
	$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) site .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(RUNTIME): pyproject.toml | $(BIN)/python
	$(PIP) -e .
	@touch $@

$(TOOLS): pyproject.toml | $(BIN)/python
	$(PIP) -e '.[check,docs]'
	@touch $@ $(RUNTIME)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo 'fsmrt needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	    { rm -rf $(VENV); echo 'the venv module does not work; on Debian: apt-get install python3-venv' >&2; exit 1; }
