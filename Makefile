# The README's two commands are `make demo` and `make test`; everything they need is made here.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# More threads than cores made training up to 25 times slower; workers set their own number.
export OMP_NUM_THREADS ?= 1

.PHONY: setup assets demo check docs findings fmt test test-all clean

setup: $(VENV)/.installed

# torch comes first and alone: an unpinned torch brings gigabytes of CUDA.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	$(PIP) "$$(grep '^torch==' constraints.txt)"
	$(PIP) --constraint constraints.txt --editable '.[dev]'
	touch $@

assets: setup
	$(BIN)/python -m harness assets

demo: assets
	$(BIN)/python -m harness run scenarios/poison_20pct.yaml

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

docs: setup
	$(BIN)/python -m harness.components_page docs/components.md

findings: setup
	$(BIN)/python -m reports.findings.page docs

fmt: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: setup
	$(BIN)/python -m pytest -n 2 -m "not slow and not realdata"

test-all: setup
	$(BIN)/python -m pytest -n 2

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
