# Two commands matter: `make run` and `make test`. Each sets up what it needs first.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

export ORT_DISABLE_TELEMETRY = 1  # scripts that export models import ONNX Runtime by themselves

.PHONY: run test lint format bench clean vllm-env test-vllm

run: .venv/.ready  ## set up and open the app
	.venv/bin/askaloud run

test: .venv-dev/.ready  ## set up and run the tests
	.venv-dev/bin/python -m pytest $(ARGS)

vllm-env: .venv-vllm/.ready  ## a vLLM server for CPUs in an environment of its own, which the tests in tests/vllm start

test-vllm: .venv-dev/.ready .venv-vllm/.ready  ## set up and run the tests against the real vLLM
	.venv-dev/bin/python -m pytest tests/vllm $(ARGS)

lint: .venv-dev/.ready  ## style, types, import directions
	.venv-dev/bin/ruff check
	.venv-dev/bin/ruff format --check
	.venv-dev/bin/mypy
	.venv-dev/bin/lint-imports

format: .venv-dev/.ready  ## mend style
	.venv-dev/bin/ruff check --fix
	.venv-dev/bin/ruff format

bench: .venv-dev/.ready  ## speed and memory, as ratios against a peer in the same run
	.venv-dev/bin/python tests/benchmarks/run.py $(ARGS)

clean:  ## remove all environments; the library of lectures is not touched
	rm -rf .venv .venv-dev .venv-vllm

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python $(PIP_INSTALL) --editable .
	touch $@

.venv-dev/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-dev
	.venv-dev/bin/python $(PIP_INSTALL) --editable '.[dev]'
	touch $@

# Without resolving: the pins are complete, and what they leave out must stay out.
.venv-vllm/.ready: constraints-vllm-cpu.txt tests/vllm/shim/pyproject.toml
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement constraints-vllm-cpu.txt
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check --no-deps ./tests/vllm/shim
	touch $@
