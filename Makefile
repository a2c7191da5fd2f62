# Two commands do all the set-up: `make demo` runs the main job, `make test` passes the tests.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
OUT    ?= demo-run

.PHONY: demo test check bench docs clean

demo: $(VENV)/.installed
	$(BIN)/oncoscale doctor --quiet || true
	$(BIN)/oncoscale demo --out $(OUT)

test: $(VENV)/.installed-dev .judges/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" -q

bench: $(VENV)/.installed-dev
	$(BIN)/oncoscale bench --out benchmarks/results

docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

clean:
	rm -rf $(VENV) .judges build dist *.egg-info docs/_build

# The lock (requirements.lock, exported from uv.lock) pins every version for plain pip.
$(VENV)/.installed: pyproject.toml requirements.lock
	sh .ci/make-environment $(PYTHON) $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e .
	touch $@

$(VENV)/.installed-dev: pyproject.toml requirements.lock
	sh .ci/make-environment $(PYTHON) $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e ".[dev]"
	touch $@ $(VENV)/.installed

# Outside programs that judge what is written in other people's standards; their pins are not ours.
.judges/.installed: tests/linkage/judges.txt
	sh .ci/make-environment $(PYTHON) .judges
	.judges/bin/python -m pip install --quiet --disable-pip-version-check -r tests/linkage/judges.txt
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e ".[dev,docs]"
	touch $@
