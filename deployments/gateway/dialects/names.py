"""An engine names parameters as chat completions do; a client knows them by its own API's names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from capyra.engine.errors import CapyraError


@contextmanager
def naming(names: Mapping[str, str]) -> Iterator[None]:
    """What is raised within this names parameters by the names of the client's API."""
    try:
        yield
    except CapyraError as error:
        error.message = re.sub(
            r"`(\w+)`", lambda match: f"`{names.get(match[1], match[1])}`", error.message
        )
        if error.param is not None:
            error.param = re.sub(r"^\w+", lambda match: names.get(match[0], match[0]), error.param)
        raise
