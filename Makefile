# The project's front door: `make digits` runs the main job, `make test` passes the tests.
# Both first install, from a locked set of versions, into a virtual environment of their own.
# Another interpreter: `make test PYTHON=python3.13`. Another folder: `make test VENV=somewhere`.

PYTHON ?= python3
VENV ?= .venv

VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
RUN := $(VENV)/bin/python -m
PIP := $(RUN) pip --quiet --no-input --disable-pip-version-check install --no-compile

# A stamp says that an environment is whole. `test` contains `core`, so either will do to run something.
CORE := $(VENV)/core-$(VERSION)
TEST := $(VENV)/test-$(VERSION)
ANY := $(firstword $(wildcard $(TEST)) $(CORE))

.PHONY: help digits test slow lint format environment lock clean
.DEFAULT_GOAL := help

help:
	@echo "make digits       the main job: an ensemble of networks learns handwritten digits"
	@echo "make test         the tests (make slow: those that take long)"
	@echo "make lint         style and types (make format: mend the style)"
	@echo "make environment  only install, into $(VENV)"
	@echo "make lock         look for newer versions of what we depend on"
	@echo "make clean        remove $(VENV) and the caches"

digits: $(ANY)
	$(VENV)/bin/retrograde train

test: $(TEST)
	$(RUN) pytest -n 2 $(ONLY)

slow: $(TEST)
	$(RUN) pytest -n 2 -m slow

lint: $(TEST)
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy

format: $(TEST)
	$(RUN) ruff check --fix
	$(RUN) ruff format

environment: $(TEST)

# An environment that is half made, or made with another Python, is made anew.
define install
	@$(PYTHON) -c 'import sys; sys.exit("retrograde needs Python 3.11 or later, and $(PYTHON) is %d.%d: " \
	  "name another, as in make PYTHON=python3.12" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@echo "Installing into $(VENV) with Python $(VERSION); this takes about half a minute."
	@test -e $(CORE) -o -e $(TEST) || $(PYTHON) -m venv --clear $(VENV)
	@rm -f $(CORE) $(TEST)
	@$(PIP) --require-hashes --requirement requirements/$(1).txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@
endef

$(CORE): requirements/core.txt pyproject.toml
	$(call install,core)

$(TEST): requirements/test.txt pyproject.toml
	$(call install,test)

# `core` takes its versions from `test`, so that what is tested is what runs.
COMPILE = $(RUN) uv --quiet pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
  --no-annotate --custom-compile-command "make lock" --group build
EXTRAS = --extra tensorboard --extra gymnasium --extra atari --extra hdf5 --extra nir
lock: $(TEST)
	$(PIP) uv
	$(COMPILE) --upgrade --group test $(EXTRAS) --output-file requirements/test.txt
	$(COMPILE) --constraint requirements/test.txt --output-file requirements/core.txt

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
