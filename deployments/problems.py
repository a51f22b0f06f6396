"""What is wrong with a file, one sentence each: where, what, and how to mend it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from capyra.deployments.yaml_lines import Document, KeyPath
from capyra.engine.config import NAME_PATTERN

Model = TypeVar("Model", bound=BaseModel)

GUIDE = "see docs/experts-file.md"
NAMES = (
    "a name has up to 63 lower-case letters, digits, `_`, `-` and `.`, and begins with a letter "
    "or a digit"
)

_AT_KEY = frozenset({"extra_forbidden", "missing"})

# What each kind of setting wants, by pydantic's name of the error.
_WANTED = {
    "bool_type": "write true or false",
    "int_type": "write a whole number",
    "int_from_float": "write a whole number",
    "float_type": "write a number",
    "finite_number": "write a finite number",
    "string_type": "write text, in quotes if it looks like something else",
    "tuple_type": "write a list: a line `- …` for each item",
    "list_type": "write a list: a line `- …` for each item",
    "dict_type": "write a mapping: a line `name: …` for each item",
    "model_type": "write a mapping: a line `setting: value` for each setting",
}
_BOUNDS = {
    "greater_than_equal": ("ge", "{} or more"),
    "greater_than": ("gt", "more than {}"),
    "less_than_equal": ("le", "{} or less"),
    "less_than": ("lt", "less than {}"),
}


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake. `text` says what is wrong and, after a semicolon, how to mend it."""

    file: str
    line: int
    column: int
    key: str
    text: str

    def __str__(self) -> str:
        key = f"{self.key}: " if self.key else ""
        return f"{self.file}:{self.line}: {key}{self.text}"


@dataclass(frozen=True, slots=True)
class Finding:
    """A mistake before its line is known. `at_key`: the key itself is wrong, not its value."""

    path: KeyPath
    text: str
    at_key: bool = False


def place(file: str, document: Document, finding: Finding) -> Problem:
    """The finding, where the document has it."""
    written, entry = document.entry(finding.path)
    at_key = finding.at_key or written != finding.path or not _is_scalar(document, written)
    spot = entry.key if at_key else entry.value
    return Problem(file, spot.line, spot.column, spell(finding.path), finding.text)


def spell(path: KeyPath) -> str:
    """`experts.qwen_coder.skills[0].name`"""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return "".join(parts).removeprefix(".")


def nearest(name: str, known: Iterable[str]) -> str:
    """`did you mean …?` if one comes near, what there is otherwise."""
    names = sorted(known)
    lowered = {candidate.lower(): candidate for candidate in names}
    if close := get_close_matches(name.lower(), lowered, n=1, cutoff=0.6):
        return f"did you mean `{lowered[close[0]]}`?"
    shown = ", ".join(f"`{candidate}`" for candidate in names[:30])
    return f"there is {shown}" if names else "there is none"


def validate(model: type[Model], data: object) -> Model:
    """Strictly, as JSON: text is no number, `1` is not true, and a list may be a tuple."""
    return model.model_validate_json(json.dumps(data), strict=True)


def explain(
    error: ValidationError, model: type[BaseModel], data: Any, path: KeyPath = ()
) -> list[Finding]:
    """Pydantic's errors about `data`, which is written at `path`, in our words.

    A value that several branches of a union refused is one finding with several ways to mend it.
    """
    told: dict[tuple[KeyPath, bool, str], list[str]] = {}
    for details in error.errors(include_url=False):
        here, owner = _walk(details["loc"], model, data)
        at_key = details["type"] in _AT_KEY or "[key]" in details["loc"]
        wrong, mend = _words(details, owner)
        told.setdefault(((*path, *here), at_key, wrong), []).append(mend)
    return [
        Finding(where, f"{wrong}; {' or '.join(dict.fromkeys(mends))}", at_key)
        for (where, at_key, wrong), mends in told.items()
    ]


def _walk(
    location: tuple[int | str, ...], model: type[BaseModel], data: Any
) -> tuple[KeyPath, type[BaseModel] | None]:
    """The part of pydantic's location that is in the data (it also names missing keys, branches of
    unions and the word `[key]`), and the settings that its last key belongs to."""
    path: list[int | str] = []
    annotation: Any = model
    owner: type[BaseModel] | None = model
    for part in location:
        if not _holds(data, part):
            continue
        data = data[part]
        path.append(part)
        owner = _settings(annotation)
        field = owner.model_fields.get(str(part)) if owner else None
        annotation = field.annotation if field else _item(annotation)
    return tuple(path), owner


def _holds(data: Any, part: int | str) -> bool:
    if isinstance(data, list):
        return isinstance(part, int) and part < len(data)
    return isinstance(data, dict) and part in data


def _settings(annotation: Any) -> type[BaseModel] | None:
    """The settings that an annotation means: `Queue`, or `Queue | None`."""
    inside = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else ()
    for candidate in (annotation, *inside):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _item(annotation: Any) -> Any:
    """What a list or mapping holds."""
    held = [arg for arg in get_args(annotation) if arg is not Ellipsis]
    return held[-1] if held else None


def _words(details: ErrorDetails, owner: type[BaseModel] | None) -> tuple[str, str]:
    """What is wrong, and how to mend it."""
    kind = details["type"]
    value = details["input"]
    context: Mapping[str, Any] = details.get("ctx", {})
    leave_out = ", or leave the key out" if value is None else ""
    if kind == "extra_forbidden":
        return "no such setting", nearest(
            str(details["loc"][-1]), owner.model_fields if owner else ()
        )
    if kind == "missing":
        return f"`{details['loc'][-1]}` is missing", "write it here"
    if kind == "value_error":
        wrong, _, mend = str(details["msg"]).removeprefix("Value error, ").partition("; ")
        return wrong, mend or GUIDE
    if kind in _WANTED:
        return f"this is {_show(value)}", _WANTED[kind] + leave_out
    if kind in ("literal_error", "enum"):
        return f"this is {_show(value)}", f"write {context['expected']}{leave_out}"
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return f"{_show(value)} is out of range", "write " + words.format(f"{context[name]:.15g}")
    if kind == "string_pattern_mismatch" and context["pattern"] == NAME_PATTERN:
        return f"{_show(value)} is no name", NAMES
    if kind == "string_too_short":
        return "this is empty", "write something here, or leave the key out"
    if kind == "too_short":
        return "this is empty", "write at least one line `name: …` here"
    return f"{_show(value)} is not right: {details['msg']}", GUIDE


def _show(value: object) -> str:
    """A value as its author would name it."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"the text {value[:40]!r}" + ("…" if len(value) > 40 else "")
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    return f"the number {value}"


def _is_scalar(document: Document, path: KeyPath) -> bool:
    value = document.data
    for part in path:
        value = value[part]
    return not isinstance(value, dict | list)
