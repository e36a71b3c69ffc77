# make report · make test · make test-npu · make lab      each sets up .venv by itself, once
PYTHON ?= python3
EXTRAS ?= dev
ARGS ?=
# The miniature on a laptop: short, so that the three reports take two minutes. With ARGS the notebooks' own defaults hold.
SHORT := -p seconds=4
BIN := .venv/bin
RIG := .cache/npu-rig
# The kit reads the sources in place, so only a change of the dependencies is a reason to install again.
INSTALLED := .venv/.installed-$(EXTRAS)

.DEFAULT_GOAL := help
.PHONY: help report test test-npu check lab clean

help:
	@echo 'make report   run smoke, benchmark and accuracy, and leave HTML reports in reports/'
	@echo '              make report ARGS="-p device=npu -p model=/weights/InternViT-6B-224px"'
	@echo 'make test     lint, types and tests'
	@echo 'make test-npu the tests of the NPU path: the real torch-npu on a stub of CANN, no NPU needed (part of make test)'
	@echo 'make lab      open the notebooks in JupyterLab'
	@echo 'make clean    remove .venv and what was built'
	@echo
	@echo 'PYTHON=python3.11 chooses the interpreter; EXTRAS=dev,npu installs torch-npu too.'

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade-strategy only-if-needed -c constraints.txt -e '.[$(EXTRAS)]'
	touch $@

report: $(INSTALLED)
	$(BIN)/ivit run smoke benchmark accuracy $(or $(ARGS),$(SHORT))

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: check
	$(BIN)/python -m pytest
	$(MAKE) test-npu

$(RIG)/activate: $(INSTALLED) tests/npu_rig/build.py tests/npu_rig/cann.c
	$(BIN)/python tests/npu_rig/build.py $(RIG)

test-npu: $(INSTALLED)
	@if command -v gcc >/dev/null && command -v nm >/dev/null; \
	then $(MAKE) $(RIG)/activate && . $(RIG)/activate && $(BIN)/python -m pytest tests/npu; \
	else echo 'test-npu: skipped, building the stub of CANN needs gcc and nm'; fi

lab: $(INSTALLED)
	$(BIN)/jupyter lab --notebook-dir=notebooks $(ARGS)

clean:
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache *.egg-info
