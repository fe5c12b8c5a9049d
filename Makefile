# make demo: install and run the embedded default; make test: install and test.
# PYTHON chooses the interpreter (3.11 or newer) of the environment in VENV.
PYTHON ?= python3
VENV ?= .venv
PARITY_VENV ?= .venv-parity
TRANSFORMERS4 = transformers==4.51.3 tokenizers==0.21.4 huggingface-hub==0.36.0
OUT ?= runs/demo
BIN = $(VENV)/bin
# Without the bytecode of what is never imported, which takes half of the time.
PIP = pip install -q --no-compile

.PHONY: demo test slow long parity lint types docs clean

demo: $(VENV)/.installed
	$(BIN)/python -m experiments.run demo --output-dir $(OUT)

# A file stays on one worker: each would make the trained models of its fixtures anew.
test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

# The tests that `make test` leaves out because they take minutes.
slow: $(VENV)/.installed-test
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m slow

# Every method on a mesh, and whole commands in several variants.
long: $(VENV)/.installed-test
	$(BIN)/python -m pytest -q -n 2 -m long

# Against transformers' own PyTorch models; torch stays out of the other environment.
# transformers 4 lies beside it, in a folder of its own: exports are read by both.
parity: $(PARITY_VENV)/.installed
	$(PARITY_VENV)/bin/python -m pytest -q -n 2 --dist loadfile tests/parity

lint: $(VENV)/.installed-test
	$(BIN)/python -m $(PIP) -e ".[lint]"
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/pyrefly check

# What mypy and pyright see of the library in a user's program.
types: $(VENV)/.installed
	$(BIN)/python -m $(PIP) -e ".[types]"
	$(BIN)/python -m mypy
	$(BIN)/python -m pyright --pythonpath $(BIN)/python

# The site, in build/site: the same Markdown, and the docstrings; a warning is an error.
docs: $(VENV)/.installed
	$(BIN)/python -m $(PIP) -e ".[docs]"
	$(BIN)/python -m sphinx -W --keep-going -q -c docs . build/site

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m $(PIP) -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m $(PIP) -e ".[test]"
	touch $@

$(PARITY_VENV)/.installed: pyproject.toml Makefile
	$(PYTHON) -m venv $(PARITY_VENV)
	$(PARITY_VENV)/bin/python -m $(PIP) "torch==2.13.0"
	$(PARITY_VENV)/bin/python -m $(PIP) -e ".[test,parity]"
	$(PARITY_VENV)/bin/python -m $(PIP) --upgrade --no-deps \
	  --target $(PARITY_VENV)/transformers4 $(TRANSFORMERS4)
	touch $@

clean:
	rm -rf $(VENV) $(PARITY_VENV) runs build dist *.egg-info
