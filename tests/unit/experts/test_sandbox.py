"""What a model wrote runs, and nothing else happens."""

from __future__ import annotations

from pathlib import Path

import pytest
from experts.recipes.sandbox import isolation, passes

GOOD = "def add(x):\n    return x + 1"


def test_right_code_passes_and_wrong_code_does_not() -> None:
    assert passes(GOOD, "assert add(1) == 2")
    assert not passes(GOOD, "assert add(1) == 3")
    assert not passes("def add(x:", "")


@pytest.mark.parametrize(
    "code",
    [
        "raise SystemExit(0)",
        "import os\nos._exit(0)",
        "while True: pass",
        "held = bytearray(10**9)",
        "import os\nos.fork()",
        "import os\nos.setuid(0)",
        "import os\nos.kill(1, 0)",
        "import socket\nsocket.create_connection(('127.0.0.1', 80), 1)",
    ],
)
def test_what_does_harm_fails(code: str) -> None:
    assert not passes(code, "")


def test_the_disk_is_not_there(tmp_path: Path) -> None:
    if isolation() == "bounds":
        pytest.skip("this machine refuses namespaces")
    secret = tmp_path / "secret"
    secret.write_text("x")
    assert not passes(f"open({str(secret)!r}).read()", "")
    assert passes("import os", "assert os.listdir('/') == []")


def test_usual_modules_are_there() -> None:
    assert passes("import math, re, itertools", "assert math.sqrt(4) == 2")
