"""An engine names parameters as chat completions do; a client knows them by its own API's names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from capyra.deployments.gateway.errors import ErrorReply


def renamed(error: ErrorReply, names: Mapping[str, str]) -> ErrorReply:
    """The error with the names of the client's API."""

    def theirs(match: re.Match[str]) -> str:
        return f"`{names.get(match[1], match[1])}`"

    message = re.sub(r"`(\w+)`", theirs, error.message)
    param = error.param
    if param is not None:
        param = re.sub(r"^\w+", lambda match: names.get(match[0], match[0]), param)
    return replace(error, message=message, param=param)
