"""From a request's bytes to a valid body, or to one sentence that says what is wrong where."""

from __future__ import annotations

import asyncio
import difflib
import json
from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from capyra.deployments.gateway.errors import ClientGone, SlowBody, WrongMediaType
from capyra.deployments.gateway.exchange import Exchange, Held
from capyra.deployments.gateway.fields import Body
from capyra.deployments.gateway.settings import BodyLimits
from capyra.engine.errors import InvalidValue, QueueFull, RequestError, TooLarge, Unsupported

B = TypeVar("B", bound=Body)

_NUL = b"\\u0000"
_SHOWN = 60
_SMALL = 2**18
"""Bytes below which a body's shape cannot hurt."""
_MOST_OBJECTS = 2**17
_MOST_VALUES = 2**21
"""A value takes some 30 bytes while JSON is read, an object 3 to 5 µs until it is a Python object,
and nothing else runs meanwhile. Texts and images have far fewer braces and commas for their size.
"""
_MOST_FAULTS = 64


class Reader:
    """Reads bodies within their limits. One for each gateway: it knows what all of them hold."""

    def __init__(self, limits: BodyLimits) -> None:
        self._limits = limits
        self.held = Held()

    async def read(self, exchange: Exchange, kind: type[B]) -> B:
        """The request's body as `kind`. Its bytes are given back by `release`."""
        _check_media_type(exchange.header(b"content-type"))
        return parse(kind, await self._bytes(exchange))

    def release(self, exchange: Exchange) -> None:
        self.held.bytes -= exchange.held
        exchange.held = 0

    async def _bytes(self, exchange: Exchange) -> bytes:
        declared = exchange.header(b"content-length")
        if declared is not None and declared.isdigit():
            self._check_length(int(declared))
        try:
            async with asyncio.timeout(self._limits.timeout):
                return await self._receive(exchange)
        except TimeoutError as error:
            raise SlowBody(
                f"the body did not arrive within {self._limits.timeout:g} seconds"
            ) from error

    async def _receive(self, exchange: Exchange) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            message = await exchange.receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            part: bytes = message.get("body", b"")
            size += len(part)
            if size > exchange.held:
                self._hold(exchange, size)
            if not message.get("more_body", False):
                return b"".join((*parts, part)) if parts else part
            if part:
                parts.append(part)

    def _check_length(self, size: int) -> None:
        if size > self._limits.max:
            raise TooLarge(
                f"the body is longer than {self._limits.max} bytes, the most that is taken here"
            )

    def _hold(self, exchange: Exchange, size: int) -> None:
        """Count this many bytes for the request in all, or refuse it.

        Only what came counts: a client that promises much would shut the others out.
        """
        self._check_length(size)
        if self.held.bytes + size - exchange.held > self._limits.memory:
            raise QueueFull("too many large requests are being read: try again shortly")
        self.held.bytes += size - exchange.held
        exchange.held = size


def parse(kind: type[B], data: bytes) -> B:
    """The body that these bytes spell, or the error for the first thing wrong with them."""
    if len(data) > _SMALL and (data.count(b"{") > _MOST_OBJECTS or data.count(b",") > _MOST_VALUES):
        raise TooLarge("the body holds too many values")
    try:
        body = kind.model_validate_json(data)
    except ValidationError as error:
        if (whole := _with_whole_numbers(data, error)) is not None:
            return parse(kind, whole)
        raise _sentence(kind, data, error) from error
    if _NUL in data and (place := _nul(json.loads(data), "")):
        raise InvalidValue(f"{place} holds a NUL character", param=place)
    return body


def _check_media_type(header: bytes | None) -> None:
    if not header:
        return
    kind = header.partition(b";")[0].strip().lower()
    if kind != b"application/json" and not kind.endswith(b"+json"):
        shown = kind.decode("latin-1")[:_SHOWN]
        raise WrongMediaType(
            f"the body must be JSON: send content-type: application/json, not {shown}"
        )


def _sentence(kind: type[Body], data: bytes, error: ValidationError) -> RequestError:
    """The first mistake, told once: unions report one for each of their members."""
    if error.error_count() > _MOST_FAULTS:
        return InvalidValue(f"the body has {error.error_count()} mistakes, too many to tell")
    faults = error.errors(include_url=False)
    if faults[0]["type"] == "json_invalid":
        return InvalidValue(f"the body is no JSON: {faults[0]['msg'].partition(': ')[2]}")
    document = json.loads(data, parse_constant=_no_constant)
    if not isinstance(document, dict):
        return InvalidValue("the body must be a JSON object")
    # The deepest one got furthest into the right member of a union; and a wrong value says more
    # than "this is no list either". `max` takes the first of equals.
    fault = max(faults, key=lambda one: (len(_path(document, one)), not _of_type(one)))
    path = _path(document, fault)
    if fault["type"] in ("union_tag_invalid", "union_tag_not_found"):
        path.append(fault["ctx"]["discriminator"].strip("'"))
    param = _written(path)
    match fault["type"]:
        case "extra_forbidden":
            return _unknown(kind, param, str(path[-1]))
        case "missing" | "union_tag_not_found":
            return InvalidValue(f"{param} is missing", param=param)
        case "union_tag_invalid":
            reason = f"should be one of {fault['ctx']['expected_tags']}"
            return InvalidValue(
                f"{param}: {reason}; got {_short(fault['ctx']['tag'])}", param=param
            )
    here = [one for one in faults if _path(document, one) == path]
    values = [one for one in here if not _of_type(one)] or here
    reasons = " or: ".join(dict.fromkeys(_plain(one["msg"]) for one in values))
    return InvalidValue(f"{param}: {reasons}; got {_short(fault['input'])}", param=param)


def _with_whole_numbers(data: bytes, error: ValidationError) -> bytes | None:
    """The body with 16.0 written as 16, if that is what was wrong: to JSON they are the same."""
    if error.error_count() > _MOST_FAULTS or not any(
        fault["type"] == "int_type"
        and isinstance(fault["input"], float)
        and fault["input"].is_integer()
        for fault in error.errors(include_url=False, include_context=False)
    ):
        return None
    return json.dumps(json.loads(data, parse_float=_whole)).encode()


def _whole(text: str) -> float | int:
    number = float(text)
    return int(number) if number.is_integer() else number


def _of_type(fault: Any) -> bool:
    return str(fault["type"]).endswith("_type")


def _no_constant(_: str) -> float:
    return 0.0


def _unknown(kind: type[Body], param: str, name: str) -> RequestError:
    if name in kind.refused:
        return Unsupported(f"{param} is not supported: {kind.refused[name]}", param=param)
    near = difflib.get_close_matches(name[:_SHOWN], sorted(_names(kind, set())), n=1)
    hint = f": did you mean {near[0]}?" if near else ""
    param = param if len(param) <= 2 * _SHOWN else f"{param[: 2 * _SHOWN]}…"
    return InvalidValue(f"there is no field {param}{hint}", param=param)


def _names(kind: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[str]:
    """Every field's name in a body and in what it is made of."""
    seen.add(kind)
    for name, field in kind.model_fields.items():
        yield field.alias or name
        for inner in _models(field.annotation):
            if inner not in seen:
                yield from _names(inner, seen)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _models(part)


def _path(document: Any, fault: Any) -> list[str | int]:
    """Where the fault lies in the document. pydantic's own path also names union members."""
    path: list[str | int] = []
    place: Any = document
    last = len(fault["loc"]) - 1 if fault["type"] == "missing" else None
    for at, step in enumerate(fault["loc"]):
        inside = (
            0 <= step < len(place)
            if isinstance(place, list) and isinstance(step, int)
            else isinstance(place, dict) and step in place
        )
        if inside:
            place = place[step]
        elif at != last:
            continue
        path.append(step)
    return path


def _written(path: list[str | int]) -> str:
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text or "body"


def _plain(message: str) -> str:
    text = message.removeprefix("Value error, ").removeprefix("Input ")
    return text[:1].lower() + text[1:]


def _short(value: object) -> str:
    """The value as a person recognises it; it may be millions of characters long."""
    match value:
        case str():
            return json.dumps(value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…")
        case list():
            return f"a list of {len(value)}"
        case dict():
            return "an object"
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _nul(value: Any, place: str) -> str | None:
    """Where a string or a key holds NUL. The JSON parser has bounded the depth."""
    if isinstance(value, str):
        return (place or "body") if "\x00" in value else None
    if isinstance(value, dict):
        for key, inner in value.items():
            if "\x00" in key:
                return place or "body"
            if found := _nul(inner, f"{place}.{key}" if place else key):
                return found
    if isinstance(value, list):
        for at, inner in enumerate(value):
            if found := _nul(inner, f"{place}[{at}]"):
                return found
    return None
