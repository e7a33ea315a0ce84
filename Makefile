# Each target works from a fresh clone with python3 (3.11 or newer), make and pip.
PYTHON ?= python3
BIN := .venv/bin
JOBS ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 1)

.PHONY: setup demo test test-all test-ecosystem faults bench docs lint audit clean

setup: .venv/.runtime

# Optimizers and protocol are its own. The two without a learning rate are not tuned.
DEMO := inna:alpha=.5,beta=.1 inna:alpha=.5,beta=.5 inna-lr-free innaprop-lr-free sgd heavy-ball adagrad adam

demo: setup
	$(BIN)/inna compare --dataset digits --tuning grid --epochs 30 --tuning-epochs 15 --seeds 1,2,3 \
	    $(DEMO:%=--optimizer %) --jobs $(JOBS) --out runs/demo
	@echo "The numbers vary a little from machine to machine; runs/demo/report.html has all of them."

# Those of the documentation run under `make docs`. Two processes; a file's tests stay together, since many share what is
# slow to set up. In the order of collection the short files of src/ come last, and the processes end at the same time.
test: .venv/.dev
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder --ignore=tests/docs

test-all: .venv/.dev
	$(BIN)/python -m pytest
	$(MAKE) test-ecosystem

# Other libraries, each group in its own environment on top of .venv: they are too large for it or disturb its imports.
test-ecosystem: .venv/ecosystem/.ready .venv/timm/.ready .venv/tensorflow/.ready
	.venv/ecosystem/bin/python -m pytest tests/ecosystem/test_transformers.py tests/ecosystem/test_lightning.py \
	    tests/ecosystem/test_grad_scaler.py tests/ecosystem/test_flax.py
	.venv/timm/bin/python -m pytest tests/ecosystem/test_timm.py
	.venv/tensorflow/bin/python -m pytest -k tensorflow tests/test_keras_backends.py tests/test_parity.py

# Injected faults: kills, signals, full disks, damaged files, clusters, races. Over an hour; the tests have short versions.
faults: .venv/.dev
	PYTHONPATH=tests $(BIN)/python -m faults --json results/cpu/faults.json --docs docs/reliability.md

bench: setup
	$(BIN)/python benchmarks/step_time.py --json results/cpu/step_time.json --docs docs/performance.md
	$(BIN)/python benchmarks/training_throughput.py --json results/cpu/training_throughput.json --docs docs/performance.md

# Warnings are errors; then the examples of the docstrings and pages, the notebooks, links, and the site in a browser.
docs: .venv/.docs
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html
	INNA_REQUIRE_SITE=1 $(BIN)/python -m pytest tests/docs src
	@echo "docs/_build/html/index.html"

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/audit_dependencies.py constraints.txt || test $$? -eq 3

# As in `make lint`, but dependencies that could not be audited are a failure.
audit: .venv/.dev
	$(BIN)/python tools/audit_dependencies.py constraints.txt

clean:
	rm -rf .venv build dist *.egg-info src/*.egg-info docs/_build docs/_generated

# The stamps make a repetition fast: pip runs again only where the requirements have changed.
.venv/.pip: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("inna needs Python 3.11 or newer; %s is %s. Try make PYTHON=python3.12 ..." \
	    % (sys.executable, sys.version.split()[0]) if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt pip
	touch $@

.venv/.runtime: .venv/.pip pyproject.toml constraints.txt setup.py $(wildcard src/inna/torch/kernels/*.[ch])
	@$(BIN)/python tools/announce_download.py constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[experiments,theory]"
	touch $@

.venv/.dev: .venv/.runtime pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group dev --editable ".[experiments,theory,jax,keras]"
	touch $@

.venv/.docs: .venv/.dev pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group docs
	touch $@

# Packages that are not installed here come from .venv. One pin is dropped: TensorFlow needs an older h5py.
.venv/%/.ready: .venv/.dev
	$(BIN)/python -m venv --without-pip .venv/$*
	$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
	    > $$(.venv/$*/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/beneath.pth
	grep -v '^h5py==' constraints.txt > .venv/$*/constraints.txt
	.venv/$*/bin/python -m pip install --quiet --constraint .venv/$*/constraints.txt --group $*
	touch $@
