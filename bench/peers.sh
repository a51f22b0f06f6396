#!/usr/bin/env bash
# The peers that benchmarks compare with, each in a venv of its own outside the tree.
# usage: bench/peers.sh DIRECTORY [NAME ...]      (all of them without a name)
set -euo pipefail

root=$1
shift
python=${PYTHON:-python3}
index=https://download.pytorch.org/whl/cpu
torch=torch==2.13.0+cpu
[ "$(uname -m)" = aarch64 ] && torch=torch==2.10.0

fresh() { # a venv with pip in it
  [ -x "$root/$1/bin/python" ] || "$python" -m venv "$root/$1"
  pip="$root/$1/bin/pip --disable-pip-version-check --no-input"
}

with_torch() {
  $pip install -q "$torch" 2>/dev/null || $pip install -q "$torch" --index-url "$index"
}

transformers() {
  fresh transformers
  with_torch
  $pip install -q transformers safetensors pillow accelerate
}

vllm() {
  fresh vllm
  PYTHON=$python "$(dirname "$0")/../infra/vllm_packages.sh" "$root/vllm"
  $pip install -q pandas datasets
}

# Built from source: without AMX, whose path is faulty on some hosts, and with what else the
# host's AVX offers.
llama_cpp() {
  fresh llama-cpp
  flags="-DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF"
  if [ "$(uname -m)" = x86_64 ]; then
    flags="$flags -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON"
    grep -qw avx512f /proc/cpuinfo && flags="$flags -DGGML_AVX512=ON"
    grep -qw avx512_vnni /proc/cpuinfo && flags="$flags -DGGML_AVX512_VNNI=ON"
    grep -qw avx512_bf16 /proc/cpuinfo && flags="$flags -DGGML_AVX512_BF16=ON"
  else
    flags="-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF"
  fi
  CMAKE_ARGS="$flags" $pip install -q --no-binary llama-cpp-python llama-cpp-python gguf numpy
}

mkdir -p "$root"
for peer in "${@:-transformers vllm llama_cpp}"; do
  for name in $peer; do
    echo "installing $name into $root"
    "$name"
  done
done
