# Two commands matter: `make run` and `make test`. `make help` lists the others.

PYTHON ?= python3
CORPUS ?= data/demo
override CORPUS := $(CORPUS:/=)
BIN := .venv/bin
STAMP := .venv/installed
# Two processes with a thread each take a tenth less time than two with two threads each. By default
# the longest test, of the notebooks, would come last and run alone.
THREADS := TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1 OMP_NUM_THREADS=1
PYTEST := $(THREADS) $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help install run check test smoke bench docs lab publish real results lock clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

install: $(STAMP)  ## make .venv and install the locked packages into it

$(STAMP): requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and \
		"genrecls needs Python 3.11, 3.12 or 3.13: make PYTHON=python3.13 ...")'
	@echo "Installing into .venv (about 8 GB, a few minutes the first time) ..."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --editable .
	$(BIN)/genrecls weights fetch musicnn
	@touch $@

run: install  ## everything from music to report and notebooks (CORPUS=path for your own)
ifeq ($(CORPUS),data/demo)
	$(BIN)/genrecls run
else
	$(BIN)/genrecls run -- "$(CORPUS)"
endif
	$(BIN)/python tools/run_notebooks.py -- "$(CORPUS)"

check: install  ## format, lint, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

test: check docs  ## run the checks, build the documentation, run the tests (TensorFlow, some with PyTorch)
	$(PYTEST) --durations 15
	KERAS_BACKEND=torch $(PYTEST) -m 'backend and not slow'

smoke:  ## install the newest versions on the newest Python elsewhere, and use them (3 minutes)
	$(PYTHON) tools/smoke.py

bench: install  ## compare speed and memory with other ways (after make run; 3 hours; run nothing else)
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/fine_tuning.py data/demo --train 50

docs: install  ## build the documentation in docs/_build/html/ (half a minute)
	rm -rf docs/api docs/_build
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --fresh-env -c docs . docs/_build/html
	! grep -rE '<(script|link|img|iframe)[^>]* (src|href)="?https?:' docs/_build/html --include='*.html'

lab: install  ## open JupyterLab on the notebooks
	$(BIN)/jupyter lab notebooks

publish: install  ## put the results of a demo run into notebooks/, README.md and docs/
	mkdir -p reports/demo
	find reports/demo -mindepth 1 ! -name 'fine_tuning*' -delete
	$(BIN)/python tools/refresh_readme.py README.md docs/*.md
	$(MAKE) run CORPUS=data/demo
	cp reports/demo/notebooks/*.ipynb notebooks/
	$(BIN)/python tools/refresh_readme.py README.md docs/*.md

real: install  ## measure the results on real music that the documentation shows (REAL=path OTHER=path; hours)
	$(BIN)/python tools/measure_real.py -- "$(REAL)" "$(OTHER)"

results: publish real bench  ## renew all results in the documentation (REAL=path OTHER=path; a day)
	$(BIN)/python tools/refresh_readme.py README.md docs/*.md

lock: install  ## pin requirements.txt from pyproject.toml again
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --universal --fork-strategy fewest --python-version 3.11 --all-extras \
		--quiet --no-header --no-annotate pyproject.toml --output-file requirements.txt

clean:  ## delete what the commands made, except .venv and models/weights
	git clean -fdXq --exclude=!models/weights data docs models reports
