# make report · make test · make test-npu · make lab      each sets up .venv by itself, once
PYTHON ?= python3
EXTRAS ?= dev
ARGS ?=
# The miniature on a laptop: short, so that the reports take two to four minutes. With ARGS the notebooks' own defaults hold.
SHORT := -p seconds=4
BIN := .venv/bin
RIG := .cache/npu-rig
# The kit reads the sources in place, so only a change of the dependencies is a reason to install again.
INSTALLED := .venv/.installed-$(EXTRAS)
OLDER := .venv/transformers-4
# Two processes with one thread each: the networks in the tests are too small for more threads to help.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help report test test-npu test-kill test-transformers-4 check bench lab clean

help:
	@echo 'make report   run smoke, benchmark, accuracy and explore, and leave HTML reports in reports/'
	@echo '              make report ARGS="-p model=random:tiny-224 -p data=synthetic"'
	@echo 'make test     lint, types, import rule and tests'
	@echo 'make test-npu   the tests of the NPU path: the real torch-npu on a stub of CANN, no NPU needed (part of make test)'
	@echo 'make test-kill  a hundred kills of the processes of an evaluation at random moments, gone on with each time (KILLS=100); half an hour'
	@echo 'make test-transformers-4   parity and loading tests with transformers 4.57.6'
	@echo 'make bench    each implementation against the products alone and against transformers, side by side: make bench ARGS="--dtype float32"'
	@echo 'make lab      open the notebooks in JupyterLab, at a start page'
	@echo 'make clean    remove .venv and what was built'
	@echo
	@echo 'PYTHON=python3.11 chooses the interpreter. On an NPU machine use the environment of README.md, not make.'

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade-strategy only-if-needed -c constraints.txt -e '.[$(EXTRAS)]'
	touch $@

report: $(INSTALLED)
	$(BIN)/ivit run $(or $(ARGS),$(SHORT))

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python tools/account.py

test: check
	$(PYTEST)
	$(MAKE) test-npu

$(RIG)/activate: $(INSTALLED) tests/npu_rig/build.py tests/npu_rig/cann.c
	$(BIN)/python tests/npu_rig/build.py $(RIG)

test-npu: $(INSTALLED)
	@if command -v gcc >/dev/null && command -v nm >/dev/null; \
	then $(MAKE) $(RIG)/activate && . $(RIG)/activate && $(PYTEST) tests/npu; \
	else echo 'test-npu: skipped, building the stub of CANN needs gcc and nm'; fi

KILLS := 100
test-kill: $(INSTALLED)
	OMP_NUM_THREADS=1 TQDM_DISABLE=1 $(BIN)/python -m tests.accuracy.killing $(KILLS)

# A small environment over .venv: its three packages come before .venv's, which gives the rest.
$(OLDER)/.installed: $(INSTALLED) constraints-transformers-4.txt
	$(BIN)/python -m venv --clear $(OLDER)
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > "$$($(OLDER)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/beneath.pth"
	$(OLDER)/bin/python -m pip install --quiet --no-deps --ignore-installed -r constraints-transformers-4.txt
	touch $@

test-transformers-4: $(OLDER)/.installed
	$(OLDER)/bin/python -m pytest tests/measure/test_fidelity.py tests/model/test_network.py tests/weights/test_checkpoint.py tests/weights/test_hub.py tests/weights/test_formats.py

bench: $(INSTALLED)
	$(BIN)/python tools/bench.py $(ARGS)

lab: $(INSTALLED)
	$(BIN)/jupyter lab --notebook-dir=notebooks --LabApp.default_url=/lab/tree/README.ipynb $(ARGS)

clean:
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache *.egg-info
