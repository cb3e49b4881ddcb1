# make demo   the environment, then the interactive shell on the starter (through a pipe: a text a line in, JSON lines out)
# make test   the environment with test tools, then the whole suite, a file of tests on each core (at most four)
# make slurm  the tests on a real Slurm, which scripts/slurm_here.sh starts on this machine
# make browser  the tests of the web page in Chromium (apt-get install chromium); with BLINK_SCREENSHOTS=1 also its screenshots
# make quick  only the tests that need no model
# make recipes  the recipes of docs/pipelines.md, with the libraries they need, which it installs (300 MB)
# make lint   formatting, lint and types
# make release-check  wheel and sdist, built and installed in fresh environments outside the tree, and used
# make docs   the documentation site, in build/site
# make starter DATA=folder   train the starter model again, from the data described in models/starter/README.md (default: $BLINK_DATA)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?= $(BLINK_DATA)
export HF_HUB_OFFLINE := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Where it is set, each of the many commands that tests start would compile all modules again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test slurm browser quick slow recipes lint docs release-check starter clean

demo: $(VENV)/.ready
	@$(BIN)/python -m blink.apps.cli shell

# The starter is encoded before the tests: the first one to need it would have too little time on a slow machine.
test: $(VENV)/.ready-dev
	@$(BIN)/python -c 'from blink.apps.common import bar; from blink.linking.starter import starter_kb; starter_kb(bar)'
	$(BIN)/python -m pytest -m "not slow and not slurm and not browser" -n auto --maxprocesses 4 --dist loadfile
	@if command -v sbatch >/dev/null; then echo "the tests on a real Slurm were left out: make slurm"; \
	else echo "no Slurm here: its tests were left out (scripts/slurm_here.sh starts one, then: make slurm)"; fi

slurm: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -m slurm -rs --durations=10 -n 3 --dist loadfile

browser: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -m browser -rs --durations=5 tests/serving

quick: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -m quick

slow: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -m slow

recipes: $(VENV)/.ready-dev
	@$(BIN)/python -m pip install --quiet --requirement requirements-recipes.txt
	RAY_worker_niceness=0 $(BIN)/python -m pytest -rs tests/test_readme.py -k recipes

lint: $(VENV)/.ready-dev
	$(BIN)/ruff format --check blink tests benchmarks scripts examples
	$(BIN)/ruff check blink tests benchmarks scripts examples
	$(BIN)/mypy

release-check: $(VENV)/.ready-dev
	$(BIN)/python scripts/check_release.py

docs: $(VENV)/.ready-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

# Installers talk on standard error: what a pipe reads from `make -s demo` is links and nothing else.
$(VENV)/.ready: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "BLINK needs Python 3.10 or newer; set PYTHON=..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) >&2
	@$(BIN)/python scripts/install.py "all that BLINK can do, with PyTorch: 1.7 GB for a CPU, 6 GB for a GPU," --requirement requirements.txt
	@$(BIN)/python -m pip install --quiet --no-deps --editable . >&2
	@touch $@

$(VENV)/.ready-dev: requirements-dev.txt $(VENV)/.ready
	@$(BIN)/python scripts/install.py "test tools: half a GB" --requirement requirements-dev.txt
	@touch $@

starter: $(VENV)/.ready
	scripts/train_starter.sh $(DATA)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
