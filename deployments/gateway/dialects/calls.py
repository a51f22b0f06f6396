"""Calls of tools, for APIs that want an object where a model wrote text."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from capyra.deployments.gateway.answers import Choice


@dataclass(frozen=True, slots=True)
class Called:
    """One call, ready to be made."""

    id: str
    name: str
    arguments: dict[str, Any]


def sorted_out(choice: Choice) -> tuple[str, list[Called]]:
    """The answer's text and its calls. One whose arguments are no object, because the model broke
    them or was cut, is text: nothing is lost, and nobody makes half a call."""
    text, calls = choice.text, []
    for _, (id_, name, written) in sorted(choice.calls.items()):
        found = arguments_of(written)
        if found is None:
            text += name + written
        else:
            calls.append(Called(id_, name, found))
    return text, calls


def arguments_of(written: str) -> dict[str, Any] | None:
    """The object that a model wrote; None if it is none."""
    try:
        found = json.loads(written or "{}", parse_constant=_number, parse_float=_number)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        # It could not be written as JSON again.
        raise ValueError(text)
    return number
