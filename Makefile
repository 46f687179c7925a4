# What a developer types. Every target sets up what it needs: on a fresh machine with Python 3.11 or later and git,
# `make test` or `make run` alone is enough; once set up, nothing here needs the network but the first `make run`.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up
# More processes than processors, since tests wait; one test after the other from the front of one queue, so that none is left over.
AT_ONCE := -n 5 --dist load --maxschedchunk 1
PYTEST_ARGS ?= $(AT_ONCE) -m "not slow"
DEMO_ARGS ?=
BENCH_ARGS ?=
CRASH_ARGS ?=
HOSTILE_ARGS ?=
MUTANTS_ARGS ?=
WALKS ?= 1000
FIRST ?= 0

# As root, without a terminal and with an empty or unwritable home, pip is to work without a word.
export PIP_ROOT_USER_ACTION := ignore
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
MAKEFLAGS += --no-print-directory
PIP := $(BIN)/python -m pip install --quiet -c constraints.txt

.PHONY: help setup extras run run-compare compiled test test-slow lint types bench crash crash-long crash-sweep soak e2e-agents hostile mutants walk check clean system-packages browser
.DELETE_ON_ERROR:

help:
	@echo "make setup            a virtual environment in $(VENV), with exact versions"
	@echo "make run              the real thing: a shipped plan carried out on a real code base, without any key"
	@echo "make run-compare      the same, and then one task at a time, with the speed-up measured"
	@echo "make test             the tests, but those marked slow (PYTEST_ARGS='-n 2 -k landing')"
	@echo "make test-slow        the slow ones: rarer turns that things take, end to end"
	@echo "make lint, types      ruff; mypy, of tests and scripts too"
	@echo "make check            lint, types and test"
	@echo "make crash            the daemon killed at every named point and at random, then checked (CRASH_ARGS='--seed 7')"
	@echo "make soak             a daemon kept busy and shot at for half an hour, in which nothing may pile up (SOAK_ARGS='--minutes 60')"
	@echo "make crash-long       the same by every kind, far more often, for hours"
	@echo "make crash-sweep      each process of each step of a landing killed at each of its system calls (needs strace)"
	@echo "make e2e-agents       the real Claude Code, Codex and MCP Inspector, where they are, against endpoints of our own"
	@echo "make hostile          hundreds of odd histories, landed and then judged by plain git (HOSTILE_ARGS='--seed 7 --count 50')"
	@echo "make mutants          planted bugs, to see that the checks can fail (MUTANTS_ARGS='--only no-epoch')"
	@echo "make walk             the simulated world, by many seeds (WALKS=1000 FIRST=0)"
	@echo "make bench            the figures, as ratios to floor programs measured beside them (minutes)"
	@echo "make extras           the packages of the extras mcp and yaml, whose tests are skipped without them"
	@echo "make system-packages  as root with apt: bubblewrap for the sandbox, strace for the sweep"
	@echo "make browser          as root with apt: Chromium, for the test of the page of swarm web, which is skipped without it"
	@echo "make clean            removes caches and builds; $(VENV) stays"

setup: $(STAMP)
	@:

# The build backend comes first, at its pinned version, so that the editable install needs no build environment of its own.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit(0 if sys.version_info >= (3, 11) else "swarm needs Python 3.11 or later and this is " + v + ".\n  Next: make setup PYTHON=python3.11")'
	@if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	    echo "setting up $(VENV)"; rm -rf $(VENV); \
	    $(PYTHON) -m venv $(VENV) || $(PYTHON) -m virtualenv --quiet $(VENV) || { \
	        rm -rf $(VENV); echo "$(PYTHON) has neither venv nor virtualenv. Next: install one of them (Debian: python3-venv)." >&2; exit 1; }; \
	fi
	@$(PIP) hatchling editables
	@$(PIP) --no-build-isolation -e '.[dev]'
	@touch $@

# What is optional to a user is to the tests too: without it they are skipped, and say so.
extras: $(STAMP)
	@$(PIP) --no-build-isolation -e '.[dev,mcp,yaml]'

run: $(STAMP)
	@$(BIN)/python scripts/demo.py $(DEMO_ARGS)

run-compare: $(STAMP)
	@$(BIN)/python scripts/demo.py --compare $(DEMO_ARGS)

# By one process: each of pytest's workers would compile all tests at once, and a fresh clone wait for a minute.
compiled: $(STAMP)
	@[ -n "$$PYTHONDONTWRITEBYTECODE" ] || [ -d tests/unit/__pycache__ ] || $(BIN)/python -m pytest -q -n 0 --collect-only > /dev/null || true

test: compiled
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

test-slow: $(STAMP)
	@$(BIN)/python -m pytest $(AT_ONCE) -m slow

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(STAMP)
	@$(BIN)/mypy

bench: $(STAMP)
	@$(BIN)/python scripts/bench.py $(BENCH_ARGS)

crash: $(STAMP)
	@$(BIN)/python -m tests.crash $(CRASH_ARGS)

crash-long: $(STAMP)
	@$(BIN)/python -m tests.crash --long $(CRASH_ARGS)

soak: $(STAMP)
	@$(BIN)/python -m tests.crash.soak $(SOAK_ARGS)

crash-sweep: $(STAMP)
	@$(BIN)/python -m tests.crash.sweep $(CRASH_ARGS)

e2e-agents: $(STAMP)
	@$(BIN)/python -m pytest tests/e2e/test_real_agents.py -q -rs $(PYTEST_ARGS)

hostile: $(STAMP)
	@$(BIN)/python -m tests.hostile $(HOSTILE_ARGS)

mutants: $(STAMP)
	@$(BIN)/python -m tests.crash.mutants $(MUTANTS_ARGS)

walk: $(STAMP)
	@SWARM_WALK_SEEDS=$(WALKS) SWARM_WALK_FIRST=$(FIRST) $(BIN)/python -m pytest tests/unit/test_random_walk.py -q $(PYTEST_ARGS)

check: lint types test

# Best effort: what is missing only skips the tests that need it, so this never fails.
system-packages:
	@if command -v bwrap >/dev/null 2>&1 && command -v strace >/dev/null 2>&1 && command -v git >/dev/null 2>&1; then :; \
	elif [ "$$(id -u)" != 0 ]; then echo "bubblewrap or strace is not installed and this is not root: tests that need them are skipped"; \
	elif ! command -v apt-get >/dev/null 2>&1; then echo "no apt-get here: tests that need bubblewrap or strace are skipped"; \
	else export DEBIAN_FRONTEND=noninteractive; \
	    { timeout 120 apt-get -qq update && timeout 180 apt-get -qq -y --no-install-recommends install bubblewrap strace git; } >/dev/null 2>&1 </dev/null \
	    || echo "apt-get could not install bubblewrap and strace: tests that need them are skipped"; \
	fi

# Not among the others: it is some hundred megabytes.
browser:
	@command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1 || command -v google-chrome >/dev/null 2>&1 || { \
	    export DEBIAN_FRONTEND=noninteractive; \
	    apt-get -qq update && apt-get -qq -y --no-install-recommends install chromium; }

clean:
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
	@find . -path ./$(VENV) -prune -o -path ./.git -prune -o -type d -name __pycache__ -exec rm -rf {} +
