"""Finding, loading and choosing; and that nobody pays for kernels who does not ask for them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from capyra.kernels import library
from capyra.kernels.library import Kernels, KernelsUnavailable


def table(isa: str) -> Kernels:
    def nothing(*_: object) -> None:
        return None

    return Kernels(isa, *[nothing] * (len(Kernels._fields) - 1))


BOTH = {"wide": table("wide"), "scalar": table("scalar")}


@pytest.fixture
def child() -> Callable[..., str]:
    """Runs Python code in a fresh process and returns what it prints."""

    def run(code: str, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env=environment,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


def test_the_best_is_the_first() -> None:
    assert library.choose(BOTH, None).isa == "wide"


def test_another_can_be_asked_for() -> None:
    assert library.choose(BOTH, "scalar").isa == "scalar"


def test_scalar_is_no_choice_of_ours() -> None:
    with pytest.raises(KernelsUnavailable, match="none of the kernels' instruction sets"):
        library.choose({"scalar": table("scalar")}, None)


def test_torch_can_be_asked_for() -> None:
    with pytest.raises(KernelsUnavailable, match="CAPYRA_KERNELS_ISA is set to torch"):
        library.choose(BOTH, "torch")


def test_what_the_machine_lacks_is_refused_with_what_it_has() -> None:
    with pytest.raises(KernelsUnavailable, match=r"'sve'.* it has wide, scalar\."):
        library.choose(BOTH, "sve")


def test_a_file_that_is_no_library_is_refused(tmp_path: Path) -> None:
    file = tmp_path / library.NAME
    file.write_text("no ELF")
    with pytest.raises(KernelsUnavailable, match="does not load"):
        library.load(file)


def test_a_library_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    if library.isa() is None:
        pytest.skip(library.describe())
    monkeypatch.setattr(library, "ABI", library.ABI + 1)
    with pytest.raises(KernelsUnavailable, match="install capyra again"):
        library.load(library.path())


def test_importing_the_package_loads_nothing(child: Callable[..., str]) -> None:
    code = "import sys, capyra.kernels; print({'torch', 'ctypes'} & sys.modules.keys())"
    assert child(code) == "set()"


def test_the_engine_runs_without_and_says_so(child: Callable[..., str]) -> None:
    code = """if True:
        import capyra.kernels
        from capyra.kernels import fallback, ops
        assert capyra.kernels.isa() is None
        assert ops.glu is fallback.glu and ops.rms_norm is fallback.rms_norm
        print(capyra.kernels.describe())
    """
    said = child(code, CAPYRA_KERNELS_ISA="torch")
    assert said == "torch in place of compiled kernels: CAPYRA_KERNELS_ISA is set to torch."


def test_one_pool_of_threads_is_shared_with_torch(child: Callable[..., str]) -> None:
    if library.isa() is None:
        pytest.skip(library.describe())
    code = """if True:
        import capyra.kernels
        from capyra.kernels import ops
        maps = open('/proc/self/maps').read().split()
        print(capyra.kernels.isa(), sum('libgomp' in file for file in set(maps)))
    """
    isa, pools = child(code).split()
    assert isa == library.isa()
    assert int(pools) <= 1
