# Everything a developer types. Each target sets up what it needs in .venv, and does nothing twice.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet
PYTHON ?=
UV ?= $(BIN)/uv
ARGS ?=
SETS ?= $(patsubst tests/built/%/go.mod,%,$(wildcard tests/built/*/go.mod))
WORKERS ?= 2
LOKI_DIR ?= $(HOME)/.cache/rollbackd

# An active virtual environment, or a site-wide pip setting, must not leak into ours.
unexport VIRTUAL_ENV PYTHONHOME PYTHONPATH PIP_USER PIP_TARGET PIP_PREFIX

.DEFAULT_GOAL := help
.PHONY: help demo test test-loki built test-built fuzz check format lint-fix lock wheel clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.core ## See a bad release caught and reverted, on this machine, in under a minute
	@$(BIN)/rollbackd demo $(ARGS)

test: $(VENV)/.dev ## Run all tests (ARGS="-k word tests/unit" to choose, WORKERS=0 for one process)
	@$(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=worksteal $(ARGS)

fuzz: $(VENV)/.dev ## A million hostile inputs for every parser, then for the API; hours (ARGS="syslog --inputs 10000")
	@$(BIN)/python -m tools.fuzz $(ARGS)
	$(if $(ARGS),,@$(BIN)/python -m tools.fuzz_api)

test-loki: $(VENV)/.dev ## Test the source `loki` against a real one (needs Go, which builds it in minutes the first time)
	@LOKI="$$(sh tools/make_loki.sh $(LOKI_DIR))" $(BIN)/python -m pytest tests/system/real_loki.py $(ARGS)

built: ## Build Kubernetes and what else some tests run on (needs Go and time, once; tests/built/README.md)
	@sh tests/built/build $(SETS)

test-built: $(VENV)/.dev built ## Test the target `kubernetes` on a real one
	@$(BIN)/python -m pytest tests/system/kubernetes $(ARGS)

check: $(VENV)/.dev ## Formatting, lint, types, import rules, links of the docs, locks, changelog fragments
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python tools/check_links.py
	$(BIN)/python tools/check_locks.py
	$(BIN)/towncrier build --draft --version next > /dev/null

format: $(VENV)/.dev ## Put the code in its form
	$(BIN)/ruff format .

lint-fix: $(VENV)/.dev ## Let ruff repair what it can, then format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The dev lock follows the other two, so that a tested version is a shipped version.
LOCK := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command "make lock" $(if $(UPGRADE),--upgrade)
lock: $(VENV)/.dev ## Write requirements/*.lock anew after a change to pyproject.toml (UPGRADE=1 takes newer versions)
	$(LOCK) pyproject.toml --output-file requirements/core.lock
	$(LOCK) --group build --output-file requirements/build.lock
	$(LOCK) pyproject.toml --all-extras --group dev --constraint requirements/core.lock \
		--constraint requirements/build.lock --output-file requirements/dev.lock

wheel: $(VENV)/.core ## Build dist/*.whl
	$(BIN)/python -m hatchling build --target wheel

clean: ## Remove .venv, caches and build results
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist
	find rollbackd tests tools bench -name __pycache__ -prune -exec rm -rf {} +

# -- set-up: a stamp is newer than what it was made from ------------------------------------------------

# A virtual environment whose interpreter is gone is made anew.
ifneq ($(shell test -x $(BIN)/python && echo there),there)
.PHONY: $(VENV)/pyvenv.cfg
endif

$(VENV)/pyvenv.cfg:
	@PYTHON="$(PYTHON)" sh tools/make_venv.sh $(VENV)

$(VENV)/.core: requirements/core.lock requirements/build.lock pyproject.toml $(VENV)/pyvenv.cfg
	@echo "Installing what rollbackd needs into $(VENV)"
	@$(PIP) install --require-hashes -r requirements/core.lock -r requirements/build.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.lock pyproject.toml $(VENV)/pyvenv.cfg
	@echo "Installing what development needs into $(VENV)"
	@$(PIP) install --require-hashes -r requirements/dev.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $(VENV)/.core $@
