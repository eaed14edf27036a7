# Everything here sets itself up: it needs Python 3.11 or newer, make, and a package index.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint bench clean

demo: $(READY) ## train 16 small models and print their table
	$(BIN)/sweep run demo

test: $(READY) ## everything that must hold: the quick tests, then those that start processes of their own
ifdef PYTEST
	$(BIN)/python -m pytest $(PYTEST)
else
	$(BIN)/python -m pytest -n 2 -m "not slow and not long"
	$(BIN)/python -m pytest -n 3 --dist loadfile --durations 10 -m "slow and not long"
endif

lint: $(READY) ## format, style, types, and who may import whom
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY) ## tokens per CPU-second of each system on this machine, against the plain version and the floor
	$(BIN)/python -m tests.bench $(BENCH)

# torch first and exact: whatever depends on it then finds it there. `compat` puts the packages on the path as they
# are, so that a folder named `data` where a sweep is started cannot hide them.
$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $$(grep '^torch==' requirements.lock)
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps -e . --config-settings editable_mode=compat
	touch $(READY)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
