# `make demo` and `make test` need Python 3.11 or newer and nothing else: they make .venv and install into it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= demo

.PHONY: demo test lint format clean

$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(VENV)/installed  ## Train on the simulated brains, generate, evaluate, draw: a few minutes on two cores.
	rm -rf $(DEMO)
	$(BIN)/longigen train --conditioner sadm --denoiser unet3d --out $(DEMO)/run
	$(BIN)/longigen generate $(DEMO)/run --out $(DEMO)/generated
	$(BIN)/longigen evaluate $(DEMO)/run --setting full --out $(DEMO)/evaluation
	@echo "Look at $(DEMO)/evaluation/strip.png (given visits, generated, true, differences),"
	@echo "at the volumes in $(DEMO)/generated, and at the table above ($(DEMO)/evaluation/table.txt)."

test: $(VENV)/installed  ## All tests that two cores can run.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not gpu and not slow"

lint: $(VENV)/installed  ## Format, lint, types and layers, as CI checks them.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

format: $(VENV)/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) $(DEMO) dist .pytest_cache .ruff_cache
