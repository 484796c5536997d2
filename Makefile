# Every target makes what it needs: the environment, the pinned packages, this package. A second call is instant.
# On a machine without a GPU, PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu makes torch a tenth as large.

PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable

# Two processes of one thread each are faster than one process of two.
export OMP_NUM_THREADS = 1

.PHONY: demo test stress slurm ray lint docs site wheel
.DELETE_ON_ERROR:

demo: .venv/.installed
	$(BIN)/bench --multirun hydra/launcher=joblib hydra.launcher.n_jobs=2 \
		sweep=demo \
		model=pca,ae,dae,vae,cvae,aae,gan,vae_gan \
		likelihood=gaussian,bernoulli \
		noise=none,gaussian \
		'seeds=[0,1,2]'
	@echo "The tables are in results/demo/report; to look at: results/demo/report/index.html"

# The pages of the reference results, which open from disk. `make docs` before it, and the index links site/docs.
site: .venv/.installed
	$(BIN)/python results/site.py site
	@echo "The pages are in site/index.html"

test: .venv/.installed
	$(BIN)/python -m pytest -n 2 --dist worksteal

# The long versions of what `test` tries briefly: hundreds of malformed inputs, kills and workers.
stress: .venv/.installed
	BENCH_STRESS=1 $(BIN)/python -m pytest -n 2 $(wildcard tests/fuzz tests/stress)

# A Slurm cluster of one node. Needs root, and apt-get install slurm-wlm munge.
slurm: .venv/.installed
	$(BIN)/python tests/slurm/run

# A Ray cluster of two nodes on this machine, in an environment of its own.
ray: .venv-ray/.installed
	.venv-ray/bin/python tests/ray/run

lint: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation as a site. It opens from disk. A broken link or anchor is an error.
docs: .venv/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "The documentation is in site/docs/index.html"

wheel: .venv/.installed-dev
	$(BIN)/python -m build

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found: install Python 3.11 or later, or say make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit(f"$(PYTHON) is Python {sys.version.split()[0]}, 3.11 or later is needed: say make PYTHON=/path/to/python")'
	$(PYTHON) -m venv .venv

.venv/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) '.[test,joblib]'
	@touch $@

.venv/.installed-dev: pyproject.toml constraints.txt | .venv/.installed
	$(INSTALL) '.[dev]'
	@touch $@

.venv/.installed-docs: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) '.[docs]'
	@touch $@

# hydra-ray-launcher needs an older cloudpickle than the pinned joblib.
.venv-ray/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m venv .venv-ray
	grep -v '^joblib==' constraints.txt > .venv-ray/constraints.txt
	.venv-ray/bin/python -m pip install --quiet --disable-pip-version-check --constraint .venv-ray/constraints.txt --editable '.[ray]'
	@touch $@
