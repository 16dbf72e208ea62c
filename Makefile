# Two commands: "make run" and "make test".  Both make their own virtual environment first.

PYTHON ?= python3
VENV ?= .venv
BIN = $(abspath $(VENV))/bin
# Tests that drive a real llama-server find it in LLAMA_SERVER or PATH, and its model in LLAMA_MODEL;
# tests with a browser need chromium and chromedriver. Without them they are skipped with the reason.

.PHONY: run test unit e2e types lint format docs bench packaging clean

# Runs the demo in the foreground; what its hooks have started ends with it.
run: $(VENV)/installed
	@PATH="$(BIN):$$PATH"; export PATH; \
	trap 'examples/demo/stop-all.sh' EXIT; trap : INT TERM; \
	twistd --nodaemon --pidfile= llmux --config examples/demo/config.yaml

test: lint types unit e2e docs

# On trial's own reactor, and those that need one also on the one that llmux chooses; trial's workers
# would not have that.
unit: $(VENV)/developing
	$(BIN)/python -m twisted.trial --temp-directory=_trial_temp_unit -j2 llmux
	$(BIN)/python -m twisted.trial --temp-directory=_trial_temp_unit --reactor=uvloop \
		$$(grep -lE '(import|,) (TestCase|ProcessTests)' llmux/test/test_*.py)

e2e: $(VENV)/developing
	PATH="$(BIN):$$PATH" $(BIN)/python -m pytest -n 3 --dist worksteal e2e

types: $(VENV)/developing
	$(BIN)/mypy

lint: $(VENV)/developing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	git ls-files -z '*.sh' .ci/run | xargs -0 $(BIN)/shellcheck

format: $(VENV)/developing
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/developing
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html

# Needs cc and, for "small", wrk; compares with nginx if it is there; BENCH="--only streams" for a part of it.
bench: $(VENV)/installed
	$(BIN)/python -m bench.run $(BENCH)

packaging: $(VENV)/developing
	$(BIN)/tox -e packaging

# An editable install in compatibility mode: setuptools' default mode hides the plugin from twistd.
$(VENV)/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --config-settings editable_mode=compat -e .
	touch $@

$(VENV)/developing: $(VENV)/installed
	$(BIN)/python -m pip install -q --config-settings editable_mode=compat -e '.[test,lint,types,docs,report]' tox
	touch $@

clean:
	rm -rf $(VENV) .tox build dist docs/_build bench/build bench/results _trial_temp* .hypothesis .mypy_cache .ruff_cache *.egg-info
