# Falsify: `make run` starts everything, `make test` checks everything. `make help` lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
UV_VERSION := 0.13.9
PY := .venv/bin/python
PYTEST := $(PY) -m pytest -p no:cacheprovider
TEST_WORKERS ?= 2
# uv takes a minute where pip takes ten; pip knows indexes that only its own configuration names.
install = .venv/bin/uv pip install -q --python $(PY) -r $(1) || { \
	echo "uv could not install $(1); trying pip"; $(PY) -m pip install -q --disable-pip-version-check -r $(1); }

.PHONY: help run test test-slow lint bench lock clean system

help: ## this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 12

run: .venv/installed ## start Falsify with a demo; PORT, HOST, VAR_DIR, DATABASE_URL, REDIS_URL are honoured
	@FALSIFY_STOP_WITH_PARENT=1 exec $(PY) -m config.supervisor --admin --demo

test: .venv/installed-dev system lint ## linters, then the tests
	@DJANGO_SETTINGS_MODULE=tests.settings $(PY) manage.py makemigrations --check --dry-run
	@$(PY) scripts/with_postgres.py $(PYTEST) -q -m "postgres and not slow"
	@OMP_NUM_THREADS=1 $(PYTEST) -q -n $(TEST_WORKERS)

test-slow: .venv/installed-dev system ## the tests that take minutes
	@$(PYTEST) -q -m slow

lint: .venv/installed-dev ## ruff, mypy, import contracts
	@$(PY) -m ruff check . && $(PY) -m ruff format --check -q .
	@$(PY) -m mypy .
	@.venv/bin/lint-imports

bench: .venv/installed-dev ## every benchmark; results go to docs/benchmarks.md
	@for file in benchmarks/bench_*.py; do echo "== $$file"; $(PY) -m "benchmarks.$$(basename "$$file" .py)"; done

lock: .venv/installed ## pin every dependency anew
	@.venv/bin/uv pip compile -q --universal --python-version 3.11 --no-annotate --no-header --no-emit-index-url \
		requirements.in -o requirements.txt
	@.venv/bin/uv pip compile -q --universal --python-version 3.11 --no-annotate --no-header --no-emit-index-url \
		-c requirements.txt requirements-dev.in -o requirements-dev.txt

clean: ## remove what was installed and cached; var/ (your data) stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './var/*' -prune -exec rm -rf {} +

# What tests use of the system: a browser, PostgreSQL, Redis. Installed only as root where apt-get exists; tests skip
# with a reason what is missing.
system:
	@bash scripts/system_packages.sh

.venv/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Falsify needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1 || echo missing). Set PYTHON=python3.12, say."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "This Python cannot make virtual environments. On Debian: apt-get install python3-venv"; exit 1; }
	@echo "Making .venv"
	@$(PYTHON) -m venv .venv
	@$(PY) -m pip install -q --disable-pip-version-check uv==$(UV_VERSION)

.venv/installed: requirements.txt | .venv/bin/uv
	@echo "Installing requirements.txt (the first time takes some minutes)"
	@$(call install,requirements.txt)
	@touch $@

.venv/installed-dev: requirements-dev.txt requirements.txt | .venv/bin/uv
	@echo "Installing requirements-dev.txt"
	@$(call install,requirements-dev.txt)
	@touch $@ .venv/installed
