"""Ray's own password for a cluster that asks for one, found where Ray looks for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from capyra.engine.errors import ConfigError

DEFAULT = "~/.ray/auth_token"


def headers(environment: Mapping[str, str]) -> dict[str, str]:
    """What to send to Ray's dashboard: nothing, unless this shell is told to use a token."""
    if environment.get("RAY_AUTH_MODE", "").lower() != "token":
        return {}
    token = environment.get("RAY_AUTH_TOKEN", "").strip() or _stored(environment)
    return {"authorization": f"Bearer {token}"}


def _stored(environment: Mapping[str, str]) -> str:
    path = Path(environment.get("RAY_AUTH_TOKEN_PATH") or DEFAULT).expanduser()
    try:
        token = path.read_text().strip()
    except OSError as error:
        raise ConfigError(_missing(path)) from error
    if not token:
        raise ConfigError(_missing(path))
    return token


def _missing(path: Path) -> str:
    return (
        f"RAY_AUTH_MODE is token, and there is none in {path}: copy the cluster's there, or make "
        "one for a new cluster with `ray get-auth-token --generate`"
    )
