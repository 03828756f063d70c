# `make demo` and `make test` need Python 3.11 or newer and nothing else: they make .venv and install into it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
LOWEST ?= .venv-lowest
SELECTION := tests/journeys/test_every_command.py tests/cli/test_completion.py tests/hub/test_download.py
DEMO ?= demo
CONSTRAINTS ?= -c constraints.txt

.PHONY: demo test test-lowest lint docs format clean

$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS) -e '.[dev]'
	touch $@

demo: $(VENV)/installed  ## Train on the simulated brains, generate, evaluate, draw: a few minutes on two cores.
	rm -rf $(DEMO)
	$(BIN)/longigen train --conditioner sadm --denoiser unet3d --out $(DEMO)/run
	$(BIN)/longigen generate $(DEMO)/run --out $(DEMO)/generated
	$(BIN)/longigen evaluate $(DEMO)/run --setting full --out $(DEMO)/evaluation
	$(BIN)/longigen report $(DEMO)
	@echo "Look at $(DEMO)/report.html (all of it), $(DEMO)/evaluation/strip.png (given visits, generated, true, differences),"
	@echo "at the volumes in $(DEMO)/generated, and at the table above ($(DEMO)/evaluation/table.txt)."

test: $(VENV)/installed  ## All tests that two cores can run.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist worksteal -m "not gpu and not slow and not docs"  # a third, since many wait

define AT_LOWEST
import sys
from importlib.metadata import requires, version
from packaging.requirements import Requirement
from packaging.version import Version
for asked in map(Requirement, requires("longigen")):
    (lowest,) = (part.version for part in asked.specifier)
    wanted = asked.marker is None or any(asked.marker.evaluate({"extra": extra}) for extra in ("monai", "pandas"))
    if wanted and Version(version(asked.name)) != Version(lowest):
        sys.exit(f"{asked.name} {lowest} cannot be installed beside the others: pyproject.toml must ask for a later one")
endef
export AT_LOWEST

# Not part of CI, for it downloads several GB: run it when a lowest version in pyproject.toml changes, or what needs it.
test-lowest: $(VENV)/installed  ## Every command, with the lowest versions that pyproject.toml allows.
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(LOWEST)
	$(BIN)/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct \
		-r pyproject.toml --extra monai --extra pandas
	$(BIN)/uv pip install --quiet --python $(LOWEST)/bin/python --no-deps -e .
	$(LOWEST)/bin/python -c "$$AT_LOWEST"
	$(BIN)/uv pip install --quiet --python $(LOWEST)/bin/python -c constraints.txt pytest
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest $(SELECTION)

define TYPED
import json, sys
part = json.load(sys.stdin)["typeCompleteness"]["completenessScore"]
print(f"{part:.1%} of the public names have types")
sys.exit(part < 0.95)
endef
export TYPED

lint: $(VENV)/installed  ## Format, lint, types and layers, as CI checks them.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/pyright --verifytypes longigen --ignoreexternal --outputjson \
		| $(BIN)/python -c "$$TYPED"
	$(BIN)/lint-imports

docs: $(VENV)/installed  ## The documentation site, in site/; runs its notebooks and the code of its pages.
	NO_MKDOCS_2_WARNING=1 OMP_NUM_THREADS=1 $(BIN)/mkdocs build --strict
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m docs tests/docs

format: $(VENV)/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) $(LOWEST) $(DEMO) dist site .pytest_cache .ruff_cache
