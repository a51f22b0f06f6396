"""Where kernels run in these tests: on this machine through ctypes, for each instruction set that
it has, and with `--driver COMMAND` on another one through `driver.cpp` (kernels/test_arm.sh)."""

from __future__ import annotations

import shlex
import struct
import subprocess
from collections.abc import Sequence
from typing import Protocol

import pytest
import torch
from torch import Tensor

from capyra.kernels import library

Argument = Tensor | int | float | None


class Twin(Protocol):
    """One instruction set's kernels and the scalar ones of the same machine. A kernel is called
    by its name in the header's table, with the arguments in the header's order."""

    isa: str

    def run(self, kernel: str, arguments: Sequence[Argument]) -> None: ...
    def scalar(self, kernel: str, arguments: Sequence[Argument]) -> None: ...


class Local:
    def __init__(self, kernels: dict[str, library.Kernels], isa: str) -> None:
        self.isa = isa
        self._kernels = kernels

    def run(self, kernel: str, arguments: Sequence[Argument]) -> None:
        self._call(self.isa, kernel, arguments)

    def scalar(self, kernel: str, arguments: Sequence[Argument]) -> None:
        self._call("scalar", kernel, arguments)

    def _call(self, isa: str, kernel: str, arguments: Sequence[Argument]) -> None:
        function = getattr(self._kernels[isa], kernel)
        function(*(a.data_ptr() if isinstance(a, Tensor) else a for a in arguments))


class Driver:
    """The driver's process and what it says that it can run."""

    def __init__(self, command: str) -> None:
        self._process = subprocess.Popen(
            shlex.split(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        self.isas = self._from.readline().decode().split()

    def call(self, isa: str, kernel: str, arguments: Sequence[Argument]) -> None:
        """Tensors that share their memory here share it there."""
        memories: dict[int, Tensor] = {}
        pointers, ints, floats = [], [], []
        for argument in arguments:
            if isinstance(argument, Tensor):
                memory = torch.empty(0, dtype=torch.uint8).set_(argument.untyped_storage())
                memories.setdefault(memory.data_ptr(), memory)
                index = list(memories).index(memory.data_ptr())
                pointers.append((index, argument.storage_offset() * argument.element_size()))
            elif argument is None:
                pointers.append((-1, 0))
            elif isinstance(argument, float):
                floats.append(argument)
            else:
                ints.append(int(argument))
        counts = len(memories), len(pointers), len(ints), len(floats)
        self._to.write(struct.pack("16s16s4I", isa.encode(), kernel.encode(), *counts))
        for memory in memories.values():
            self._to.write(struct.pack("q", memory.numel()))
            self._to.write(memory.numpy().tobytes())
        for pointer in pointers:
            self._to.write(struct.pack("2q", *pointer))
        self._to.write(struct.pack(f"{len(ints)}q", *ints))
        self._to.write(struct.pack(f"{len(floats)}f", *floats))
        self._to.flush()
        for memory in memories.values():
            answer = bytearray(self._from.read(memory.numel()))
            assert len(answer) == memory.numel(), f"{isa} {kernel}: the driver ended"
            if answer:
                memory.copy_(torch.frombuffer(answer, dtype=torch.uint8))

    def close(self) -> None:
        self._to.close()
        self._from.close()
        assert self._process.wait(timeout=10) == 0


class Remote:
    def __init__(self, driver: Driver, isa: str) -> None:
        self.isa = isa
        self._driver = driver

    def run(self, kernel: str, arguments: Sequence[Argument]) -> None:
        self._driver.call(self.isa, kernel, arguments)

    def scalar(self, kernel: str, arguments: Sequence[Argument]) -> None:
        self._driver.call("scalar", kernel, arguments)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--driver", help="run the kernels through this command instead of on this machine"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "twin" in metafunc.fixturenames:
        metafunc.parametrize("twin", _twins(metafunc.config), ids=lambda twin: twin.isa)


_KEY = pytest.StashKey[list[Twin]]()
_DRIVER = pytest.StashKey[Driver]()


def _twins(config: pytest.Config) -> list[Twin]:
    if _KEY not in config.stash:
        config.stash[_KEY] = _find_twins(config)
    return config.stash[_KEY]


def _find_twins(config: pytest.Config) -> list[Twin]:
    command = config.getoption("--driver", default=None)
    if command:
        driver = config.stash[_DRIVER] = Driver(command)
        return [Remote(driver, isa) for isa in driver.isas]
    try:
        kernels = library.load(library.path())
    except library.KernelsUnavailable:
        return []
    return [Local(kernels, isa) for isa in kernels]


def pytest_unconfigure(config: pytest.Config) -> None:
    if _DRIVER in config.stash:
        config.stash[_DRIVER].close()
