#!/usr/bin/env bash
# vLLM for CPUs, and capyra with its tests, in a venv of their own: vLLM pins what it builds on.
# usage: infra/vllm.sh VENV
set -euo pipefail

venv=$1
"$(dirname "$0")/vllm_packages.sh" "$venv"
pip="$venv/bin/pip --disable-pip-version-check --no-input"

# A build folder of its own: the other venv's build remembers where that one lies.
echo "installing capyra and its tests"
$pip install -q -e . --config-settings=build-dir=build/vllm
$pip install -q hypothesis pytest pytest-asyncio pytest-timeout
