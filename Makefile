# Everything a fresh machine needs: `make demo` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
WORKERS ?= 2

.DELETE_ON_ERROR:
.PHONY: demo test lint format bench figures clean

$(READY): pyproject.toml constraints.txt
	@echo "Installing octoscope into $(VENV) (about two minutes, once)…"
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "octoscope needs Python 3.11 or newer; set PYTHON=/path/to/python3.11")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

demo: $(READY)  ## the demo study on phantoms; ends with the path of its report
	@$(BIN)/octoscope study recipes/demo.yaml

lint: $(READY)  ## style, types and the floor plan
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

test: lint  ## all checks and tests
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

bench: $(READY)  ## every benchmark, side by side with its peers
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

figures: $(READY)  ## the docs' figures beside real scans: make figures REAL=FOLDER
	@test -n "$(REAL)" || { echo "make figures REAL=FOLDER: give the folder of real scans"; exit 2; }
	@$(BIN)/python docs/figures/phantom_vs_real.py $(REAL) docs/figures/phantom_vs_real.png
	@$(BIN)/python docs/figures/retina_geometry.py $(REAL) docs/figures/retina_geometry.png

format: $(READY)
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) studies build .mypy_cache .ruff_cache .pytest_cache .hypothesis
