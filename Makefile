# make demo, make test: each sets up what it needs on a fresh machine.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
DEMO ?= runs/demo

.PHONY: demo test test-slow lint bench clean

# By a path (compat), not by an import hook, which a folder called seqlab would hide.
$(BIN)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "seqlab needs Python 3.11 or newer; set PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --config-settings editable_mode=compat -e '.[test]'
	touch $@

demo: $(BIN)/.installed
	$(BIN)/seqlab train experiments/agreement/transformer.py --workdir $(DEMO)
	$(BIN)/seqlab evaluate $(DEMO) --split test
	@echo; echo 'The tall girl who loved the old teacher bought a new book.' > $(DEMO)/example.txt
	@cat $(DEMO)/example.txt; $(BIN)/seqlab translate $(DEMO) < $(DEMO)/example.txt
	@echo; echo 'The run is in $(DEMO): config.json, metrics.jsonl, events/, checkpoints/, vocabulary/, samples/'

test: $(BIN)/.installed
	$(BIN)/python -m pytest -q -n auto --dist worksteal

test-slow: $(BIN)/.installed
	$(BIN)/python -m pytest -q -m slow

lint: $(BIN)/.installed
	$(BIN)/ruff format --check . && $(BIN)/ruff check .

bench: $(BIN)/.installed
	$(BIN)/seqlab bench

clean:
	rm -rf $(VENV) build dist *.egg-info
