# Every target does all of its own set-up: Python 3.11+ and network access to the registries are enough
# (bench needs wrk beside them, and says so).
PYTHON ?= python3
BIN := .venv/bin

# What starts hundreds of processes must not compile everything anew for each.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: all install run test test-all image faults simulate explore check lines widget bench screenshots robots release lock clean
all: check test-all

install: .venv/serve.stamp

run: install
	$(BIN)/hitcounter serve

# Modules without I/O or clock: every branch of theirs is tested.
PURE := block client_address config errors filter_lists hit period setting_parsers site exactly_once.increments exactly_once.records store.durability store.keys store.url
# Modules that hold hits on their way to the store: so is every branch of these, on real disks and sockets.
KEEPING := adoption delivery journal journal_file journal_format journals lanes outage waiting writer
EVERY_BRANCH := --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=100

# Most tests wait for servers, not for a core.
N_PROCESSES ?= $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1))))
PYTEST := $(BIN)/pytest -n $(N_PROCESSES) --dist loadgroup

# What to run before each commit: every layer, in less than three minutes on two cores.
test: .venv/dev.stamp
	$(PYTEST) -m 'not slow'

# Everything: the slow tests too, more of what is drawn by lot, and the branches that tests must reach. It says what it adds.
test-all: export SIMULATED_SCHEDULES ?= 10000
test-all: export FAULT_SCHEDULES ?= 100
test-all: export OUTAGE_S ?= 10
test-all: PYTEST += --hypothesis-profile=all
test-all: .venv/dev.stamp
	$(PYTEST) tests/unit $(PURE:%=--cov=hitcounter.%) $(EVERY_BRANCH)
	$(PYTEST) tests/journal $(KEEPING:%=--cov=hitcounter.exactly_once.%) $(EVERY_BRANCH)
	$(PYTEST) --ignore=tests/unit --ignore=tests/journal

# The image, built without a container engine, and run; test-all runs it too, once it is there. Needs root, buildah and runc.
image: .venv/dev.stamp
	.ci/image
	$(PYTEST) tests/image

# More fault schedules than test-all runs: N=1000, or one of them again: SEED=123.
faults: .venv/dev.stamp
	$(BIN)/python -m tests.faults $(if $(SEED),--seed $(SEED),--n $(or $(N),100))

# More simulated schedules than test-all runs: N=1000000, or one of them again, with all that happens: SEED=123.
simulate: .venv/dev.stamp
	$(BIN)/python -m tests.simulation $(if $(SEED),-v --seed $(SEED),--n $(or $(N),10000))

# Every interleaving of a few hits and faults: WRITERS=2 HITS=2 FAULTS=1 takes minutes.
explore: .venv/dev.stamp
	$(BIN)/python -m tests.search --writers $(or $(WRITERS),1) --hits $(or $(HITS),3) --faults $(or $(FAULTS),3) $(if $(OTHERS),--others)

check: .venv/dev.stamp
	$(BIN)/python requirements/check.py
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	sh deploy/check.sh
	sh tests/browser/javascript/check.sh
	sh tests/browser/packages/install.sh

# How many lines of code there are, by room.
lines: .venv/dev.stamp
	@$(BIN)/python -m tests.support.lines

# The script that is served, built anew from widget/; needs Node.js.
widget:
	sh tests/browser/javascript/check.sh build

bench: .venv/dev.stamp
	$(BIN)/python -m bench

# The pictures of the README, drawn anew, and sheets of the block in all its looks to be looked at; needs Chromium.
SHEETS := build/blocks
screenshots: .venv/dev.stamp
	sh tests/browser/packages/install.sh
	$(BIN)/python -m tests.browser.front_page
	$(BIN)/python -m tests.browser.sheets $(SHEETS)

# A Python that was removed leaves a link to nothing: then all of it is set up anew.
$(BIN)/python: ;

.venv/serve.stamp: $(BIN)/python requirements/install.sh requirements/serve.txt requirements/embedded.txt requirements/build.txt pyproject.toml
	@PYTHON=$(PYTHON) sh requirements/install.sh serve

.venv/dev.stamp: .venv/serve.stamp requirements/dev.txt
	@PYTHON=$(PYTHON) sh requirements/install.sh dev

# Judge the patterns of is-bot, before the lock moves to a new release of it; WITH=is-bot==0.3.8 tries one. Needs npm.
robots: .venv/dev.stamp
	sh requirements/robots.sh $(WITH)

# Check everything, and build what is released into dist/, with the changelog's section as its notes.
release: all
	rm -rf dist
	$(BIN)/python requirements/release.py

# Resolve anew after pyproject.toml changed; hashes pin every file of every dependency.
lock: .venv/dev.stamp
	sh requirements/lock.sh

clean:
	rm -rf .venv dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
