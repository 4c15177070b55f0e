# `make help` tells what there is. Each target sets up what it needs, once.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

PYTHON ?= python3
VENV ?= .venv
DB ?= sqlite
FAMILIES ?=
ONCE ?=
WORKERS ?= 2
ARGS ?=

PY := $(VENV)/bin/python
UV := $(VENV)/bin/uv
STAMPS := $(VENV)/.stamps
uv_pinned := $(shell sed -n '/^name = "uv"$$/{n;s/version = "\(.*\)"/==\1/p}' uv.lock)
# No interpreter from elsewhere: PYTHON is the one that was asked for.
export UV_PYTHON_DOWNLOADS := never

comma := ,
known := sqlite mariadb postgresql mysql
families := $(or $(strip $(subst $(comma), ,$(FAMILIES))),$(known))
$(if $(filter $(DB),$(known)),,$(error DB=$(DB) is none of $(known)))
$(foreach f,$(families),$(if $(filter $f,$(known)),,$(error FAMILIES has '$f': it takes $(known))))

# What must be in place for a database family: its packages, and its server.
needs_sqlite := $(STAMPS)/extra-sqlite
# MySQL is not fetched where MYSQLD names its program, nor a server that runs already is given.
needs_mysql := $(STAMPS)/driver-mysql $(if $(MYSQLD)$(TEST_MYSQL_URL),,$(STAMPS)/server-mysql)
needs_mariadb := $(STAMPS)/driver-mysql $(STAMPS)/server-mariadb
needs_postgresql := $(STAMPS)/driver-postgresql $(STAMPS)/server-postgresql

# Installs from the lock, hashes checked: $(call install,what `uv export` is asked for)
install = $(UV) export --quiet --frozen --no-emit-project --python $(PY) $(1) \
	| $(UV) pip install --quiet --python $(PY) --require-hashes -r - \
	&& mkdir -p $(STAMPS) && touch $@

.PHONY: help setup demo test lint docs bench bench-http soak conformance projects verify verify-clean lock clean

help:  ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14
	@echo
	@echo 'DB=sqlite|mariadb|postgresql|mysql  ONCE=1  for demo'
	@echo 'FAMILIES="sqlite postgresql" ARGS="-k x"    for test, conformance, projects; ARGS for bench'
	@echo 'FAMILIES=mysql                              for test: all of it on MySQL, else its contract alone'
	@echo 'WORKERS=0                                   tests one after the other, in one process'
	@echo 'PYTHON=python3.13 VENV=.venv-313            another interpreter, beside the first'

setup: $(STAMPS)/test $(STAMPS)/lint $(foreach f,$(families),$(needs_$f))  ## everything that test and lint need

demo: $(STAMPS)/demo $(needs_$(DB))  ## serve the atlas: DB=sqlite|mariadb|postgresql|mysql, ONCE=1
	@$(PY) examples/atlas/demo.py --db $(DB) $(if $(ONCE),--once)

test: $(STAMPS)/test $(foreach f,$(families),$(needs_$f))  ## all tests, on servers that they start: FAMILIES=, ARGS=
	@$(PY) -m pytest --numprocesses $(WORKERS) --dist loadfile $(ARGS)

lint: $(STAMPS)/lint  ## ruff, mypy, import-linter, the exported names
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	$(VENV)/bin/lint-imports
	$(PY) -m pytest --noconftest --quiet tests/test_exported_names.py

docs: $(STAMPS)/docs  ## build the documentation into docs/_build/html
	$(PY) -m sphinx --fail-on-warning --keep-going --quiet --builder html docs docs/_build/html

bench: $(STAMPS)/bench $(needs_sqlite) $(needs_mariadb) $(needs_postgresql)  ## the benchmarks: ARGS=
	@$(PY) -m benchmarks $(ARGS)

bench-http: $(STAMPS)/bench $(needs_mariadb) $(needs_postgresql)  ## requests per second beside stock Django: ARGS=
	@$(PY) -m benchmarks.http $(ARGS)

soak: $(STAMPS)/bench $(needs_mariadb) $(needs_postgresql)  ## a storm on each server, then load and faults, fifteen minutes: ARGS=seconds
	@$(PY) -m benchmarks.soak $(ARGS)

conformance: $(STAMPS)/conformance $(needs_sqlite) $(needs_mariadb) $(needs_postgresql)  ## Django's own tests, as it is and on the loop: FAMILIES=, ARGS=
	@$(PY) -m conformance --families $(filter-out mysql,$(families)) $(ARGS)

projects: $(needs_sqlite) $(needs_mariadb) $(needs_postgresql)  ## the models of wagtail, Oscar, pretix in SQLAlchemy, against Django's ORM: FAMILIES=, ARGS=
	@$(PY) -m projects $(ARGS) --families $(filter-out mysql,$(families))

verify:  ## the long version of everything; a later run goes on where this one ended
	@scripts/verify.sh

verify-clean:  ## forget what verify has done
	rm -rf .verify

lock: $(STAMPS)/uv  ## resolve anew within the bounds of pyproject.toml: ARGS=--upgrade
	$(UV) lock --python $(PY) $(ARGS)
	$(PY) scripts/strip_lock.py uv.lock

clean:  ## remove everything that was made here
	rm -rf $(VENV) .tox .verify .conformance .projects .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage* htmlcov dist build docs/_build

$(STAMPS)/uv:
	@command -v $(PYTHON) >/dev/null || { echo "error: there is no $(PYTHON) here: make PYTHON=python3.13 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "error: $(PYTHON) is $$($(PYTHON) --version 2>&1); Python 3.11 or newer is needed: make PYTHON=python3.13 ..." >&2; exit 1; }
	@scripts/system.sh $(PYTHON) venv
	$(PYTHON) -m venv --clear $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check 'uv$(uv_pinned)'
	@mkdir -p $(STAMPS) && touch $@

# The packages themselves, editable: every other set stands on this one.
$(STAMPS)/project: pyproject.toml uv.lock | $(STAMPS)/uv
	@echo "installing django-asyncdb"
	@$(call install,--only-group build)
	@$(call install,)
	@$(UV) pip install --quiet --python $(PY) --no-deps --no-build-isolation --editable . && touch $@

$(STAMPS)/extra-%: $(STAMPS)/project
	@echo "installing the extra $*"
	@$(call install,--extra $*)

$(STAMPS)/demo: $(STAMPS)/project
	@echo "installing the group demo"
	@$(call install,--group demo --extra cli --extra sqlite)

# mysqlclient is compiled here; both extras and drivers by the family's name.
$(STAMPS)/driver-mysql: $(STAMPS)/project $(STAMPS)/build-tools
$(STAMPS)/driver-%: $(STAMPS)/project
	@echo "installing the extra $* and Django's driver"
	@$(call install,--extra $* --group driver-$*)

$(STAMPS)/test: $(STAMPS)/project
	@echo "installing the group test"
	@$(call install,--group test --all-extras)

$(STAMPS)/lint: $(STAMPS)/project
	@echo "installing the group lint"
	@$(call install,--group lint --all-extras)

$(STAMPS)/docs: $(STAMPS)/project
	@echo "installing the group docs"
	@$(call install,--group docs)

$(STAMPS)/bench: $(STAMPS)/project
	@echo "installing the group bench"
	@$(call install,--group bench --all-extras)

$(STAMPS)/conformance: $(STAMPS)/project
	@echo "installing the group conformance"
	@$(call install,--group conformance --all-extras)

$(STAMPS)/build-tools: | $(STAMPS)/uv
	@scripts/system.sh $(PY) build && touch $@

$(STAMPS)/server-mysql: | $(STAMPS)/uv
	@scripts/mysql.sh $(VENV)/mysql && touch $@

$(STAMPS)/server-%: | $(STAMPS)/uv
	@scripts/system.sh $(PY) $* && touch $@
