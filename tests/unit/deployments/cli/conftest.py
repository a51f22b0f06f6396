from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from scripted_server import Server


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No server of this machine, no variable of its user."""
    for name in ("CAPYRA_SERVER", "CAPYRA_DASHBOARD", "CAPYRA_API_KEY", "CAPYRA_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    # Sockets lie below it: the directories that pytest makes have too long names.
    with TemporaryDirectory(prefix="cr", dir="/tmp") as run:
        monkeypatch.setenv("CAPYRA_RUN_DIR", run)
        yield
