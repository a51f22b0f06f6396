# Everything goes into .venv; nothing outside the tree is touched but by `make peers`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip --disable-pip-version-check --no-input
# What pip fetches, a line each: it takes minutes the first time.
NEWS   := sed -un '/[.]metadata /d; s/^ *\(Downloading\|Using cached\) \(.*)\)$$/  \2/p'
SHELL  := bash
.SHELLFLAGS := -o pipefail -c
FILE   ?= experts/demo.yaml
PORT   ?= 8082
PEERS  ?= $(HOME)/.cache/capyra/peers

# torch without CUDA. The plain name brings gigabytes of it on x86-64; on aarch64 2.10.0 is the
# newest build without (docs/decisions/0001). The index is PyTorch's own, for CPU builds.
TORCH_INDEX := https://download.pytorch.org/whl/cpu
ifeq ($(shell uname -m),aarch64)
TORCH := torch==2.10.0
else
TORCH := torch==2.13.0+cpu
endif

.PHONY: help serve experts test check format types install install-test install-vllm test-clients test-models test-arm test-vllm test-gpu rehearse soak bench peers experts-schema clean

help: ## what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

serve: install ## install all, start the experts of FILE on PORT, in the foreground
	@$(BIN)/capyra serve $(FILE) --port $(PORT)

experts: install-test ## train the demo experts anew and publish those that reach their goals
	@$(BIN)/python -m experts.recipes train
	@$(BIN)/python -m experts.recipes publish

test: install-test ## install all and pass the tests
	@$(BIN)/python -m pytest -q

check: install-test types ## style, types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@cd build/types && $(CURDIR)/$(BIN)/mypy --config-file $(CURDIR)/pyproject.toml -p capyra

format: install-test ## mend the style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

soak: install-test ## the long sweeps
	@$(BIN)/python -m pytest -q -m slow --hypothesis-profile=search --timeout 3600

test-clients: install-test build/clients/installed ## clients that want environments of their own
	@$(BIN)/python -m pytest -q -m clients

test-models: install-test ## the native engine's models beside transformers
	@$(PIP) install -q -e ".[dev,models]"
	@$(BIN)/python -m pytest -q -m "models and not slow" --timeout 600

test-vllm: install-vllm ## the contract suite on vLLM, on this machine's CPU
	@.venv-vllm/bin/python -m pytest -q -k vllm tests/contract tests/vllm -W default --timeout 600

test-gpu: install-test ## one model with vLLM on CUDA, from the request to the answer
	@$(BIN)/python -m pytest -q tests/vllm/test_gpu.py -W default --timeout 1200

rehearse: install-test ## `ray up` on two machines made of namespaces; as root
	@$(BIN)/python -m pytest -q -m slow tests/cluster/test_ray_up.py --timeout 1800

test-arm: install-test ## the kernels under Arm emulation
	@sh kernels/test_arm.sh $(BIN)/python

bench: install-test ## one benchmark: make bench NAME=gateway
	@test -n "$(NAME)" || { echo "which one? make bench NAME=$$(ls bench | sed -n 's/\.py$$//p' | \
	  grep -v -e harness -e bare -e __init__ | paste -sd'|')" >&2; exit 1; }
	@PEERS=$(PEERS) $(BIN)/python -m bench.$(NAME) --json bench/results/$(NAME).json

peers: ## the peers that benchmarks compare with, outside the tree
	@PYTHON=$(PYTHON) bench/peers.sh $(PEERS)

install: $(VENV)/installed ## everything that `serve` needs
install-test: $(VENV)/installed-test ## and what `test` and `check` need
install-vllm: .venv-vllm/installed ## capyra and vLLM for CPUs, in .venv-vllm

$(VENV)/torch:
	@command -v c++ >/dev/null || command -v g++ >/dev/null || { \
	  echo "A C++ compiler is missing: apt-get install g++" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed: make PYTHON=python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
	  echo "Python's venv module is missing: apt-get install python3-venv" >&2; exit 1; }
	@echo "installing torch (CPU)"
	@$(PIP) install "$(TORCH)" 2>/dev/null | $(NEWS) || \
	  $(PIP) install "$(TORCH)" --index-url $(TORCH_INDEX) | $(NEWS)
	@touch $@

$(VENV)/installed: $(VENV)/torch pyproject.toml kernels/CMakeLists.txt
	@echo "installing capyra and what it needs"
	@$(PIP) install -e . | $(NEWS)
	@touch $@

$(VENV)/installed-test: $(VENV)/installed
	@echo "installing what the tests need"
	@$(PIP) install -e ".[dev]" | $(NEWS)
	@touch $@

.venv-vllm/installed: infra/vllm.sh infra/vllm_packages.sh pyproject.toml kernels/CMakeLists.txt
	@PYTHON=$(PYTHON) infra/vllm.sh .venv-vllm
	@touch $@

build/clients/installed:
	@echo "installing litellm, langchain-openai, and openai for Node"
	@$(PYTHON) -m venv build/clients
	@build/clients/bin/pip install -q litellm langchain-openai
	@command -v npm >/dev/null || { echo "npm is missing: apt-get install npm" >&2; exit 1; }
	@cd build/clients && npm install --silent --no-fund --no-audit openai
	@cp tests/clients/outside/openai_client.mjs build/clients/
	@touch $@

# mypy does not see through an editable install: it reads the folders under their installed names.
types:
	@mkdir -p build/types/capyra
	@for folder in deployments engine kernels orchestrator; do \
	  ln -sfn $(CURDIR)/$$folder build/types/capyra/$$folder; done
	@touch build/types/capyra/__init__.py build/types/capyra/py.typed

experts-schema: install ## write experts/schema.json anew
	@$(BIN)/capyra config schema > experts/schema.json

clean: ## forget what was built and installed
	@rm -rf build $(VENV)
