# Everything from a machine that has only Python 3.11 or newer and make. `make` alone lists the targets.
PYTHON ?= python3
VENV   ?= .venv
# Processes of make transfer
WORKERS ?= 2
# Arguments for pytest, e.g. make test PYTEST_ARGS="-n 4 --dist loadfile"; files in the order of tests/conftest.py
PYTEST_ARGS ?= -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# Tests of make check, which build no book, open no browser, inject no fault and train nothing of size
QUICK := config data_sets feature_rank files importance ledger optim optim_lsam optim_normalization pages palettes probe \
  records repository selection statistics toy_data bench_limits bench_record bench_uses

BIN   := $(VENV)/bin
STAMP := $(VENV)/.samlib-installed
NOTEBOOKS := $(wildcard book/*.ipynb)

.DEFAULT_GOAL := help
.PHONY: help setup book pdf quick lab paper transfer bench freeze lint check test pages portable clean

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' Makefile | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

$(STAMP): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "make setup: expected Python 3.11 or newer, got %d.%d; install one and pass it: make PYTHON=python3.12 setup" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $(STAMP)

setup: $(STAMP) ## create .venv and install the pinned requirements and samlib

book: $(STAMP) ## execute what changed and build the pages into _build/html
	$(BIN)/python -m edition.publish book

pdf: $(STAMP) ## build the pages and print them all into _build/book.pdf (needs Chromium or Chrome)
	$(BIN)/python -m edition.publish pdf

quick: $(STAMP) ## the same at the small profile, into _build/quick/html
	$(BIN)/python -m edition.publish quick

lab: $(STAMP) ## open the chapters in JupyterLab
	$(BIN)/jupyter lab book/

paper: $(STAMP) ## start the full-scale runs (hours, those meant for a GPU days without one; resumes where it stopped)
	$(BIN)/python -m edition runs start --profile paper

transfer: $(STAMP) ## prepare one of DomainBed's sets and do its runs, last block and whole network: make transfer SET=officehome DATA=DIR
	@test -n "$(SET)" -a -n "$(DATA)" || { echo "make transfer: expected SET=pacs, officehome or vlcs and DATA=the folder that holds it"; exit 1; }
	$(BIN)/python -m data_scripts.prepare $(SET) --size 112 --root "$(DATA)"
	SAMLIB_DATA="$(DATA)" $(BIN)/python -m edition runs start --experiment $(SET) --workers $(WORKERS)
	SAMLIB_DATA="$(DATA)" $(BIN)/python -m edition runs start --experiment $(SET)_whole --workers $(WORKERS)

bench: $(STAMP) ## measure this machine and record it for the performance page (a quarter of an hour, quiet)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pytorch-optimizer==4.1.0'
	OMP_NUM_THREADS=1 $(BIN)/python -m edition.bench all --record

freeze: $(STAMP) ## write the executed outputs into book/*.ipynb (it and bench change tracked files)
	$(BIN)/python -m edition.publish freeze

lint: $(STAMP) ## ruff check, ruff format --check, mypy, who imports whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint ## lint, types, and the tests that take no book, no browser and no faults
	OMP_NUM_THREADS=1 PYTHONHASHSEED=0 $(BIN)/python -m pytest $(PYTEST_ARGS) -m "not slow" $(QUICK:%=tests/test_%.py)

test: $(STAMP) ## lint, the pages and their links, the unit tests, every chapter under nbval; ALL=1 adds what is slow
	$(MAKE) --no-print-directory -j 2 lint pages
	$(BIN)/python -m edition.publish links
	OMP_NUM_THREADS=1 PYTHONHASHSEED=0 $(BIN)/python -m pytest $(PYTEST_ARGS) $(if $(ALL),,-m "not slow") --nbval-lax --nbval-current-env tests $(NOTEBOOKS)

pages: $(STAMP)
	$(BIN)/python -m edition.publish pages

portable: $(STAMP) ## every chapter under nbval twice, each time computed as another processor would
	$(BIN)/python tests/portable.py

clean: ## remove what the targets built, except .venv
	rm -rf _build .pytest_cache .mypy_cache .ruff_cache samlib.egg-info
	find samlib edition data_scripts tests -name __pycache__ -type d -prune -exec rm -rf {} +
