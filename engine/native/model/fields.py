"""Reading a model's JSON files: every value is checked where it is taken, and whatever is wrong
is one sentence that names the file, the field and what would be right."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from capyra.engine.errors import ModelError

T = TypeVar("T")

_MOST_BYTES = 64 * 2**20


def read_json(path: Path) -> dict[str, Any]:
    """The object in that file. `ModelError` if there is none."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ModelError(
                f"{path} is larger than {_MOST_BYTES >> 20} MiB: this is no model file"
            )
        value = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ModelError(
            f"{path} is missing: a model directory needs config.json, tokenizer.json and "
            "*.safetensors"
        ) from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds no JSON object")
    return value


class Fields:
    """The fields of one JSON object. `where` says in messages which."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self._values = values
        self._where = where

    def __contains__(self, name: str) -> bool:
        return self._values.get(name) is not None

    def part(self, name: str) -> Fields:
        """A nested object; empty if it is absent."""
        value = self._values.get(name)
        if not isinstance(value, Mapping | None):
            raise self.wrong(name, "an object")
        return Fields(value or {}, f"{self._where} › {name}")

    def without(self, *names: str) -> Fields:
        return Fields({k: v for k, v in self._values.items() if k not in names}, self._where)

    def merged(self, other: Mapping[str, Any]) -> Fields:
        """These, and `other` where these say nothing."""
        return Fields({**other, **self._values}, self._where)

    def integer(self, name: str, default: int | None = None, *, least: int = 1) -> int:
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise self.wrong(name, f"an integer of at least {least}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise self.wrong(name, "a positive number")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        value = self._value(name, default)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def choice(self, name: str, choices: Mapping[str, T], default: str | None = None) -> T:
        value = self._value(name, default)
        if not isinstance(value, str) or value not in choices:
            raise self.wrong(name, " or ".join(sorted(choices)))
        return choices[value]

    def numbers(self, name: str, count: int, *, zero: bool = False) -> list[float]:
        value = self._value(name, None)
        valid = isinstance(value, Sequence) and all(
            isinstance(item, int | float) and (item > 0 or (zero and item == 0)) for item in value
        )
        if not valid or len(value) != count:
            raise self.wrong(name, f"{count} {'non-negative' if zero else 'positive'} numbers")
        return [float(item) for item in value]

    def strings(self, name: str, count: int) -> list[str]:
        value = self._value(name, None)
        valid = isinstance(value, Sequence) and all(isinstance(item, str) for item in value)
        if not valid or len(value) != count:
            raise self.wrong(name, f"{count} strings")
        return list(value)

    def integers(self, name: str) -> set[int]:
        """One integer or a list of them; none if the field is absent."""
        value = self._values.get(name)
        values = value if isinstance(value, list) else [] if value is None else [value]
        if not all(isinstance(item, int) and not isinstance(item, bool) for item in values):
            raise self.wrong(name, "an integer or a list of integers")
        return set(values)

    def must_be(self, name: str, *allowed: object) -> None:
        """Refuses a field that changes the computation in a way that nobody here can compute."""
        value = self._values.get(name)
        if value is not None and value not in allowed:
            shown = " or ".join(json.dumps(item) for item in allowed)
            raise self.wrong(name, shown or "absent")

    def wrong(self, name: str, needed: str) -> ModelError:
        if name not in self._values:
            return ModelError(f"{self._where}: `{name}` is missing; it must be {needed}")
        shown = json.dumps(self._values[name], default=str)
        shown = shown if len(shown) <= 80 else shown[:77] + "…"
        return ModelError(f"{self._where}: `{name}` is {shown}; supported: {needed}")

    def _value(self, name: str, default: Any) -> Any:
        value = self._values.get(name)
        return default if value is None else value
