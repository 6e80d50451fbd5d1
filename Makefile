# make demo, make test: each sets up what it needs on a fresh machine.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
DEMO ?= runs/demo

.PHONY: demo test test-slow test-tpu test-tpu-slow test-tpu-smallest test-cuda test-cuda-slow lint bench results docs clean

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

# Compiles the experiments for chips that are not there, with the chips' own compilers:
# libtpu (150 MB) and the CUDA plugin (4 GB), each in an environment of its own.
test-tpu test-tpu-slow: .venv-tpu/bin/.installed
	SEQLAB_CHIP=v5e .venv-tpu/bin/python -m pytest -q $(if $(findstring slow,$@),-m slow) tests/accelerators

# The training step and the evaluators of one small experiment; .ci/run runs it.
test-tpu-smallest: .venv-tpu/bin/.installed
	SEQLAB_CHIP=v5e .venv-tpu/bin/python -m pytest -q -k 'agreement or part_of_a_host' tests/accelerators

test-cuda test-cuda-slow: .venv-cuda/bin/.installed
	SEQLAB_CHIP=h100 XLA_FLAGS='--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false' JAX_SKIP_CUDA_CONSTRAINTS_CHECK=1 .venv-cuda/bin/python -m pytest -q $(if $(findstring slow,$@),-m slow) tests/accelerators

.venv-%/bin/.installed: pyproject.toml constraints.txt
	test -x $(@D)/python || $(PYTHON) -m venv .venv-$*
	$(@D)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --config-settings editable_mode=compat -e '.[test,$*]'
	touch $@

lint: $(BIN)/.installed
	$(BIN)/ruff format --check . && $(BIN)/ruff check .

bench: $(BIN)/.installed
	$(BIN)/seqlab bench

# The page of paper results, from the raw rows in docs/results.
results: $(BIN)/.installed
	$(BIN)/seqlab results --format md > docs/.results.md && mv docs/.results.md docs/results.md

# The lecture as a book, in Russian and English: site/index.html opens in a browser.
docs: $(BIN)/.installed-docs
	$(BIN)/python -m book site

$(BIN)/.installed-docs: $(BIN)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --config-settings editable_mode=compat -e '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) .venv-tpu .venv-cuda build dist site *.egg-info
