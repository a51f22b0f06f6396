from __future__ import annotations

from pathlib import Path

import pytest

from capyra.deployments.ray_token import headers
from capyra.engine.errors import ConfigError


def test_nothing_is_sent_to_a_cluster_without_tokens() -> None:
    assert headers({"RAY_AUTH_TOKEN": "secret"}) == {}
    assert headers({"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": "secret"}) == {}


def test_the_environment_goes_before_files(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from a file\n")
    said = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}
    assert headers(said) == {"authorization": "Bearer from a file"}
    assert headers({**said, "RAY_AUTH_TOKEN": "x"}) == {"authorization": "Bearer x"}


def test_ray_s_own_file_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("home")
    assert headers({"RAY_AUTH_MODE": "token"}) == {"authorization": "Bearer home"}


@pytest.mark.parametrize("content", [None, " \n"])
def test_a_missing_token_is_said(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match="get-auth-token"):
        headers({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(path)})
