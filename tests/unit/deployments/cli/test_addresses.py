"""Where a command goes: what was said, the server here, the default."""

from __future__ import annotations

import os

import pytest

from capyra.deployments.cli import addresses
from capyra.deployments.processes import command_of
from capyra.deployments.rundir import Running
from capyra.engine.errors import InvalidValue


def test_the_default_is_this_machine() -> None:
    assert addresses.server(None) == addresses.SERVER
    assert addresses.dashboard(None) == addresses.DASHBOARD


def test_a_server_that_runs_here_is_found_and_overruled() -> None:
    me = os.getpid()
    Running(me, 9000, "http://127.0.0.1:9000", "http://127.0.0.1:9001", "d", command_of(me)).save()
    assert addresses.server(None) == "http://127.0.0.1:9000"
    assert addresses.dashboard(None) == "http://127.0.0.1:9001"
    assert addresses.server("http://other:1") == "http://other:1"


@pytest.mark.parametrize(
    ("said", "url"),
    [
        ("http://h:1/", "http://h:1"),
        ("http://h:1/v1", "http://h:1"),
        ("http://h:1/standard/v1/", "http://h:1/standard"),
        ("localhost:11434", "http://localhost:11434"),
        ("https://models.example", "https://models.example"),
    ],
)
def test_addresses_as_people_write_them(said: str, url: str) -> None:
    assert addresses.server(said) == url


@pytest.mark.parametrize(
    "said", ["ftp://h", "http://", "http://h:99999", "http://h:0", "http://[h"]
)
def test_what_is_no_address_is_refused(said: str) -> None:
    with pytest.raises(InvalidValue, match="is no address"):
        addresses.server(said)


def test_the_first_key_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    assert addresses.key() is None
    monkeypatch.setenv("CAPYRA_API_KEY", " one , two")
    assert addresses.key() == "one"
