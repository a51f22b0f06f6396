"""Rolling out: exposure, and experts that begin at zero."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from capyra.deployments.experts_file import ExpertsFile, load
from capyra.deployments.reporter import Quiet
from capyra.deployments.rollout import check_exposure, roll_out
from capyra.engine.errors import ConfigError


class Rest:
    """Serve's REST, which has these applications and remembers what it was told."""

    def __init__(self, *names: str) -> None:
        self._names = names
        self.scaled: dict[str, int] = {}
        self.deployed: dict[str, Any] = {}

    def details(self) -> dict[str, Any]:
        return {"applications": {name: {"status": "RUNNING"} for name in self._names}}

    def deploy(self, config: dict[str, Any]) -> None:
        self.deployed = config
        self._names = tuple(application["name"] for application in config["applications"])

    def scale(self, expert: str, replicas: int) -> None:
        self.scaled[expert] = replicas


def file(tmp_path: Path, text: str) -> ExpertsFile:
    path = tmp_path / "experts.yaml"
    path.write_text(text)
    return load(path)


def test_all_is_deployed_and_nothing_scaled(tmp_path: Path) -> None:
    text = "experts: {alpha: {engine: echo, replicas: {initial: 0}}, beta: {engine: echo}}"
    rest = Rest()
    names = roll_out(rest, file(tmp_path, text), Quiet(), 1.0)  # type: ignore[arg-type]
    assert names == ["control", "gateway", "alpha", "beta"]
    assert rest.scaled == {}, "how many there are is Control's, or an operator's"


def test_a_reachable_server_needs_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CAPYRA_API_KEY", raising=False)
    text = "experts: {alpha: {engine: echo}}\nserver: {host: %s}"
    check_exposure(file(tmp_path, text % "127.0.0.1"))
    open_to_all = file(tmp_path, text % "0.0.0.0")
    with pytest.raises(ConfigError, match="CAPYRA_API_KEY"):
        check_exposure(open_to_all)
    monkeypatch.setenv("CAPYRA_API_KEY", " ,")
    with pytest.raises(ConfigError, match="CAPYRA_API_KEY"):
        check_exposure(open_to_all)
    monkeypatch.setenv("CAPYRA_API_KEY", "secret")
    check_exposure(open_to_all)
