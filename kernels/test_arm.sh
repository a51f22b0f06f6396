#!/bin/sh
# The kernels' tests on emulated 64-bit Arm processors, and the aarch64 wheel.
#
# Usage: kernels/test_arm.sh [python]    (from the repository's root)
set -eu

python=${1:-python3}
build=build/aarch64
toolchain=$PWD/kernels/cmake/aarch64.cmake

need() {
    command -v "$1" >/dev/null && return
    echo "test-arm needs $1: apt-get install $2" >&2
    exit 1
}
need aarch64-linux-gnu-g++ g++-aarch64-linux-gnu
need qemu-aarch64-static qemu-user-static
need cmake cmake
need ninja ninja-build

cmake -S kernels -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
    -DCMAKE_TOOLCHAIN_FILE="$toolchain" -DCAPYRA_KERNELS_DRIVER=ON >"$build.log" 2>&1 ||
    { cat "$build.log" >&2; exit 1; }
cmake --build "$build"

# A processor and what it must be offered: the last ones lack bf16 and end in an illegal
# instruction where dispatch is wrong. SVE of 128 bits is what Neoverse V2 has.
while read -r cpu isas; do
    run="qemu-aarch64-static -cpu $cpu -L /usr/aarch64-linux-gnu $build/kernels_driver"
    found=$($run </dev/null)
    if [ "$found" != "$isas " ]; then
        echo "$cpu is offered '$found' instead of '$isas'" >&2
        exit 1
    fi
    echo "$cpu: $isas"
    "$python" -m pytest -q tests/kernels/test_kernels.py tests/kernels/test_products.py \
        --driver "$run" </dev/null
done <<CPUS
max,sve-max-vq=1 neonbf16 neon scalar
neoverse-n1 neon scalar
cortex-a72 neon scalar
CPUS

rm -rf "$build/wheel"
_PYTHON_HOST_PLATFORM=linux-aarch64 CMAKE_TOOLCHAIN_FILE=$toolchain \
    "$python" -m pip wheel -q --no-build-isolation --no-deps -w "$build/wheel" .
"$python" - "$build"/wheel/*.whl <<'PYTHON'
import sys, zipfile

wheel = sys.argv[1]
assert wheel.endswith("-py3-none-linux_aarch64.whl"), wheel
with zipfile.ZipFile(wheel) as content:
    header = content.read("capyra/kernels/libcapyra_kernels.so")[:20]
assert header[:4] == b"\x7fELF" and header[18] == 183, "the library in the wheel is not for aarch64"
print(wheel)
PYTHON
