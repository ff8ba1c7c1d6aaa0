# Every target installs what it needs. Two virtual environments, both disposable: .venv runs the
# package from this checkout, .venv-test tests the wheel that a user would install.

PYTHON  ?= python3
WORKERS ?= auto

VENV      := .venv
TEST_VENV := .venv-test
LOCK_VENV := .venv-constraints

# Folders are listed beside their files, so that deleting a file counts as a change.
SOURCES := $(shell find wsgateway -name __pycache__ -prune -o -print)

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# What the caller's shell adds to the import path would be tested instead of the package.
unexport PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test test-cluster soak lint format bench bench-quick bench-growth bench-peers autobahn docs constraints clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

run: $(VENV)/.installed ## Start the gateway with the example application (ARGS="--port 9000" adds flags)
	@exec $(VENV)/bin/wsgateway serve $(ARGS)

# The import path must not hold this folder, or the tests would import the source tree instead of
# the wheel. PYTHONSAFEPATH keeps it out, in workers and in processes that tests start too.
test: lint ## Run lint, types and tests with coverage (ARGS="-k handshake" runs some)
	rm -f .coverage .coverage.*
	PYTHONSAFEPATH=1 $(TEST_VENV)/bin/coverage run -m pytest \
		--numprocesses=$(WORKERS) --hypothesis-profile=ci --ignore=tests/cluster $(ARGS)
	$(TEST_VENV)/bin/coverage combine --quiet
	$(TEST_VENV)/bin/coverage report $(if $(ARGS),--fail-under=0)

# One after the other: leases of a second, and other tests on the same cores, do not go together.
test-cluster: $(TEST_VENV)/.installed ## Run the tests of several nodes with real Valkey servers
	PYTHONSAFEPATH=1 $(TEST_VENV)/bin/python -m pytest tests/cluster $(ARGS)

soak: $(TEST_VENV)/.installed ## Three nodes, thousands of clients, a fault every 20 s (ARGS="--minutes 2")
	$(TEST_VENV)/bin/python -m bench.soak $(ARGS)

lint: $(TEST_VENV)/.installed ## Run ruff, mypy, import-linter and hadolint
	$(TEST_VENV)/bin/ruff check .
	$(TEST_VENV)/bin/ruff format --check .
	$(TEST_VENV)/bin/mypy
	$(TEST_VENV)/bin/lint-imports --no-logo
	$(TEST_VENV)/bin/hadolint Dockerfile

format: $(TEST_VENV)/.installed ## Format the code and mend what ruff can mend
	$(TEST_VENV)/bin/ruff check --fix-only .
	$(TEST_VENV)/bin/ruff format .

bench: $(TEST_VENV)/.installed ## Measure everything that docs/performance.md lists
	$(TEST_VENV)/bin/python -m bench $(ARGS)

bench-quick: $(TEST_VENV)/.installed ## The same in under a minute, with less certainty
	$(TEST_VENV)/bin/python -m bench --quick $(ARGS)

bench-growth: $(TEST_VENV)/.installed ## Measure 1 to 4 nodes, 1,000 to 15,000 connections (ARGS="--quick")
	$(TEST_VENV)/bin/python -m bench.growth $(ARGS)

bench-peers: $(TEST_VENV)/.installed ## Measure servers of others beside the gateway (ARGS="--peers ws" some)
	$(TEST_VENV)/bin/python -m bench.peers $(ARGS)

autobahn: $(TEST_VENV)/.installed ## Run the Autobahn Testsuite; wants Python 2.7 (ARGS="6.4.*" runs some)
	$(TEST_VENV)/bin/python -m conformance.autobahn $(ARGS)

docs: $(TEST_VENV)/.installed ## Write what docs/ has of settings and of the definition from the code
	$(TEST_VENV)/bin/python docs/configuration_page.py
	$(TEST_VENV)/bin/python docs/definition_page.py

constraints: ## Pin the newest versions that pyproject.toml allows in constraints.txt
	$(call create-venv,$(LOCK_VENV))
	$(LOCK_VENV)/bin/pip install --quiet '.[dev]'
	@{ \
		echo '# Every package that wsgateway[dev] installs, at the versions that its tests ran with.'; \
		echo '# Written by `make constraints`.'; \
		$(LOCK_VENV)/bin/pip freeze --exclude wsgateway; \
	} > constraints.txt.new
	mv constraints.txt.new constraints.txt
	rm -rf $(LOCK_VENV)

clean: ## Remove the virtual environments and everything built or cached
	rm -rf $(VENV) $(TEST_VENV) $(LOCK_VENV) build dist constraints.txt.new
	rm -rf .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

# Editable, so that a change to the code needs no second installation.
$(VENV)/.installed: $(VENV)/.created pyproject.toml
	$(VENV)/bin/pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(TEST_VENV)/.installed: $(TEST_VENV)/.packages $(SOURCES) README.md LICENSE
	$(call build-wheel)
	$(TEST_VENV)/bin/pip install --quiet --no-deps --force-reinstall build/wheel/*.whl
	@touch $@

# The wheel is built without isolation so that constraints.txt pins the build backend too.
$(TEST_VENV)/.packages: $(TEST_VENV)/.created pyproject.toml
	$(TEST_VENV)/bin/pip install --quiet --constraint constraints.txt hatchling
	$(call build-wheel)
	$(TEST_VENV)/bin/pip install --quiet --constraint constraints.txt "$$(ls build/wheel/*.whl)[dev]"
	@touch $@

# New pins start from nothing, so that no package of the old ones stays behind.
$(VENV)/.created $(TEST_VENV)/.created: constraints.txt
	$(call create-venv,$(@D))
	@touch $@

define build-wheel
	@rm -rf build/wheel
	$(TEST_VENV)/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir build/wheel .
endef

define create-venv
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo '"$(PYTHON)" is missing or older than Python 3.11. Where another is installed:' \
			'make $(MAKECMDGOALS) PYTHON=python3.11' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo '"$(PYTHON)" cannot make virtual environments.' \
			'On Debian: apt-get install make python3-venv' >&2; exit 1; }
	rm -rf $(1)
	$(PYTHON) -m venv $(1)
endef
