# `make train` and `make test` need Debian (or another Linux), Python 3.11, git and make. Nothing else.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
RECIPE ?= recipes/quickstart.yaml

.PHONY: help setup train test check format audit clean

help:  ## what there is to make
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

setup: $(VENV)/.installed  ## .venv with everything, pinned by constraints.txt

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

train: setup  ## train the quickstart recipe (or RECIPE=...)
	$(BIN)/antiphon train $(RECIPE)

test: setup  ## all tests, those that start Ray beside the others
	$(BIN)/python -m pytest --numprocesses 2

check: setup  ## what CI checks before the tests: format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup  ## format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# In an environment of its own: its packages are none of those that it looks at.
audit:  ## known vulnerabilities of the pinned packages; needs PyPI's API, fails where one cannot be looked up
	$(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/python -m pip install --quiet pip-audit==2.10.1
	$(VENV)-audit/bin/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt

clean:  ## remove the environment and caches; runs/ stays
	rm -rf $(VENV) $(VENV)-audit .mypy_cache .pytest_cache .ruff_cache .hypothesis build *.egg-info
