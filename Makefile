# What people and CI call. `make` lists it. Needs make and Python 3.11 or newer; the rest comes into $(VENV).

VENV ?= .venv
BIN := $(VENV)/bin
TESTS ?=
# Tried besides the Python that .venv has: PYTHON+DJANGO, where that Python is installed; with +psycopg2 the tests on
# PostgreSQL over that driver.
MATRIX ?= 3.12+6.0 3.13+6.1 3.11+5.2+psycopg2
# Where the demo's messages go, and results as well unless it is RabbitMQ: redis://localhost, amqp://localhost; unset:
# the database.
BROKER ?=

.DEFAULT_GOAL := help
.PHONY: help demo test matrix bench lint docs clean

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-6s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed ## A worker and beat at work (BROKER=redis://localhost, amqp://…; DATABASE_URL=postgres://…)
	@rm -rf .demo && mkdir .demo
	@$(if $(filter postgres%,$(DATABASE_URL)),$(INSTALL) '.[postgres]')
	@DATABASE_URL=$(or $(DATABASE_URL),sqlite:///$(CURDIR)/.demo/db.sqlite3) \
		$(if $(BROKER),DJQUEUE_BROKER_URL=$(BROKER) $(if $(filter amqp%,$(BROKER)),,DJQUEUE_RESULT_BACKEND=$(BROKER))) \
		$(BIN)/python manage.py demo --logs .demo

test: $(VENV)/.installed-dev ## Run the tests (TESTS="-k retry" runs some)
	$(BIN)/pytest $(TESTS)

matrix: ## Unit and contract tests on other Pythons and Djangos, and over psycopg 2
	.ci/matrix $(MATRIX)

bench: $(VENV)/.installed-bench ## Measure beside peers, in one run
	$(BIN)/python -m benchmarks.run

lint: $(VENV)/.installed-dev ## ruff, mypy, import-linter, missing migrations
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python manage.py makemigrations --check --dry-run

docs: $(VENV)/.installed-dev ## Write the generated pages, run the code on the pages
	$(BIN)/python docs/generate.py
	$(BIN)/pytest tests/functional/test_pages.py

clean: ## Remove what was made, the environment too
	rm -rf $(VENV) .venv-* .demo build dist *.egg-info .coverage .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

# The first of these that is new enough makes the environment; one that is whole is kept.
PYTHONS := python3 python3.14 python3.13 python3.12 python3.11 python

$(VENV)/.made:
	@if $(BIN)/python -m pip --version >/dev/null 2>&1; then touch $@; exit 0; fi; \
	for python in $(PYTHONS); do \
		if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			echo "$$python -m venv $(VENV)"; \
			$$python -m venv $(VENV) && touch $@; \
			exit; \
		fi; \
	done; \
	echo "djqueue needs Python 3.11 or newer; none of these is: $(PYTHONS)." >&2; exit 1

# setuptools warns of every editable installation from a checkout like this one.
INSTALL := PYTHONWARNINGS='ignore:Editable installation' \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable

# Installed again only when what is needed has changed.
$(VENV)/.installed: setup.cfg | $(VENV)/.made
	$(INSTALL) .
	@touch $@

$(VENV)/.installed-dev: setup.cfg | $(VENV)/.made
	$(INSTALL) '.[dev]'
	@touch $@ $(VENV)/.installed

# What the tests need and no more, on the Django named by DJANGO (6.0).
$(VENV)/.installed-test: setup.cfg | $(VENV)/.made
	$(INSTALL) '.[test]' 'django~=$(DJANGO).0'
	@touch $@

$(VENV)/.installed-bench: setup.cfg | $(VENV)/.made
	$(INSTALL) '.[bench]'
	@touch $@ $(VENV)/.installed
