"""What `/set` and `--set` understand. The server checks the values; here they get their type."""

from __future__ import annotations

import shlex
from difflib import get_close_matches
from typing import Any, Literal

from capyra.engine.errors import InvalidValue

Kind = Literal["number", "whole", "duration", "texts"]

SETTINGS: dict[str, Kind] = {
    "frequency_penalty": "number",
    "keep_alive": "duration",
    "max_tokens": "whole",
    "min_p": "number",
    "presence_penalty": "number",
    "priority": "whole",
    "repetition_penalty": "number",
    "seed": "whole",
    "stop": "texts",
    "temperature": "number",
    "timeout": "number",
    "top_k": "whole",
    "top_p": "number",
}
"""Fields of a request, by the names that the API gives them."""


def parse(name: str, text: str) -> Any:
    """The value of the setting of that name."""
    if name not in SETTINGS:
        near = [known for known in SETTINGS if name and known.startswith(name)]
        near = near or get_close_matches(name, SETTINGS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there is {', '.join(SETTINGS)}"
        raise InvalidValue(f"no setting is called {name!r}: {hint}")
    kind = SETTINGS[name]
    try:
        match kind:
            case "number":
                return float(text)
            case "whole":
                return int(text)
            case "texts":
                return shlex.split(text)
            case "duration":
                return int(text) if text.lstrip("-").isdecimal() else text
    except ValueError as error:
        wanted = {"number": "a number", "whole": "a whole number"}.get(kind, "text in even quotes")
        raise InvalidValue(f"{name} takes {wanted}, not {text!r}") from error


def parse_pair(text: str) -> tuple[str, Any]:
    """`temperature=0.2`, as the command line has it."""
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidValue(f"write --set NAME=VALUE, not {text!r}")
    return name.strip(), parse(name.strip(), value.strip())
