# `make repro` and `make test` set everything up; `make help` lists the rest.

PYTHON ?= python3
PARAMS ?= params.yaml
TORCH_INDEX ?=
# As many test files at once as there are cores.
PYTEST := pytest --numprocesses auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder
ALL_TESTS := tests/test_*.py tests/process
# Else each of hundreds of processes would compile the sources.
unexport PYTHONDONTWRITEBYTECODE
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help setup repro test torture check clients results docs audit dist format clean

help:
	@echo "make repro                             install, then run the pipeline (dvc repro)"
	@echo "make repro PARAMS=params/notebook.yaml run it on other params, in a copy under .bertpipe/runs"
	@echo "make test                              install, then run the quick tests"
	@echo "make torture                           test every kill and every point of failure; writes docs/explanation/reliability.md"
	@echo "make check                             format, lint, types, import floors, all tests with coverage"
	@echo "make clients                           compare transformers 4 and 5, sentence-transformers, ONNX Runtime and transformers.js with bertpipe (network, Node.js)"
	@echo "make results                           check that dvc.lock and reports/ are of these sources and params"
	@echo "make docs                              build the documentation into site/; a dead link or a stale page fails it"
	@echo "make audit                             check the pinned versions for known vulnerabilities (network)"
	@echo "make dist                              build the package into dist/, from its own source archive, and check it with twine (network)"
	@echo "make format                            rewrite the sources as ruff formats them"
	@echo "make clean                             remove the virtual environment and the outputs of the pipeline"
	@echo "TORCH_INDEX=URL picks another build of torch, PYTHON=python3.12 another interpreter"

setup: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "bertpipe needs Python 3.11 or later: make PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		$(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) 'torch>=2.11,<2.14'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

repro: setup
ifeq ($(PARAMS),params.yaml)
	$(BIN)/python scripts/repro_copy.py --check $(PARAMS)
	dvc repro
	@echo "The report on this run: $(CURDIR)/reports/report.html"
else
	$(BIN)/python scripts/repro_copy.py $(PARAMS)
endif

test: setup
	$(BIN)/python -m $(PYTEST) -m "not thorough"

torture: setup
	BERTPIPE_TORTURE=1 BERTPIPE_COUNTS=docs/explanation/reliability.json $(BIN)/python -m pytest -m promise $(ALL_TESTS)
	$(BIN)/python scripts/reliability.py

check: $(VENV)/extras
	ruff format --check .
	ruff check .
	lint-imports & other=$$!; mypy && wait $$other
	coverage erase
	coverage run -m $(PYTEST) $(ALL_TESTS)
	$(VENV)/demo/bin/python -m coverage run -m pytest tests/process/test_demo_page.py
	coverage combine --quiet
	coverage report

# Not part of the check: each client has an environment of its own, below $(VENV)/clients.
clients: setup
	TORCH_INDEX=$(TORCH_INDEX) $(BIN)/python -m clients

# Not part of the check: an edited docstring must not ask for a new training.
results: setup
	$(BIN)/python scripts/check_results.py

# Not `--quiet`: that would also silence the warnings that `--strict` counts.
docs: $(VENV)/docs
	$(BIN)/python scripts/reference.py --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Tests read back what these programs were given.
$(VENV)/extras: $(VENV)/installed $(VENV)/demo/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[tensorboard,mlflow,wandb]'
	touch $@

# Gradio takes neither the Pillow nor the tomlkit of the pipeline. So it is in an environment of its own, which has the
# packages of the other one but for these two, and changes no version of the pipeline's.
$(VENV)/demo/installed: $(VENV)/installed
	$(PYTHON) -m venv $(VENV)/demo
	packages=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') && \
		echo "import site; site.addsitedir('$$packages')" > $$($(VENV)/demo/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/pipeline.pth
	grep -vE '^(pillow|tomlkit)==' constraints.txt > $(VENV)/demo/constraints.txt
	$(VENV)/demo/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(VENV)/demo/constraints.txt 'gradio>=6.31,<7'
	touch $@

$(VENV)/docs: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	touch $@

audit: $(VENV)/audit/installed
	$(VENV)/audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip

# In an environment of its own, so that it changes no version of the pipeline's.
$(VENV)/audit/installed:
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	touch $@

dist: $(VENV)/dist/installed
	rm -rf dist
	$(VENV)/dist/bin/python -m build
	$(VENV)/dist/bin/twine check --strict dist/*

$(VENV)/dist/installed:
	$(PYTHON) -m venv $(VENV)/dist
	$(VENV)/dist/bin/python -m pip install --quiet --disable-pip-version-check build twine
	touch $@

format: setup
	ruff format .
	ruff check --fix .

clean:
	if [ -x $(BIN)/python ]; then $(BIN)/python scripts/clean.py; fi
	rm -rf $(VENV) site
