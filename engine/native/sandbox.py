"""Jinja for chat templates: the extensions that Hugging Face models expect, and bounds.

A template comes with the model and is somebody else's code. Jinja's sandbox keeps it from
attributes and from changing what it is given; here is what keeps it from running, or growing,
without end.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from capyra.engine.errors import InvalidValue, ModelError

Clock = Callable[[], datetime]

MOST_PASSES = 200_000
"""Passes through loops in one rendering; a conversation of a thousand messages takes a few
thousand."""
MOST_TEXT = 2**24
"""Characters of any string that a template makes."""
_MOST_NUMBER = 10**6

_RENDERING = (
    TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What a template can raise by its mistakes; it has no access to more."""


class Sandbox:
    """One template, compiled. `ModelError` if it cannot be."""

    def __init__(self, source: str, clock: Clock) -> None:
        environment = _Environment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, LoopControlExtension]
        )
        environment.filters = {
            name: _bounded(each) for name, each in environment.filters.items()
        } | {"tojson": _tojson}
        environment.globals |= {
            "raise_exception": _refuse,
            "strftime_now": lambda form: clock().strftime(str(form)),
            _JOIN: _bounded(_join),
        }
        try:
            tree = _Bounds().visit(environment.parse(source))
            self._template: Template = environment.from_string(tree)
        except (TemplateError, RecursionError) as error:
            raise ModelError(f"the chat template is wrong: {error}") from error

    def render(self, **variables: Any) -> str:
        """`InvalidValue` with the template's own words if it refuses."""
        passes = 0

        def tick() -> None:
            nonlocal passes
            passes += 1
            if passes > MOST_PASSES:
                raise TemplateError(f"more than {MOST_PASSES} passes through its loops")

        parts: list[str] = []
        length = 0
        try:
            for part in self._template.generate({**variables, _TICK: tick}):
                length += len(part)
                _check_length(length)
                parts.append(part)
        except _RENDERING as error:
            raise InvalidValue(
                f"the model's chat template refuses this conversation: {error}", param="messages"
            ) from error
        return "".join(parts)


_TICK, _JOIN = "__tick__", "__join__"


class _Bounds(NodeTransformer):
    """Counts passes through loops, and joins strings by a call that looks at their length."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 — Jinja names it
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(_call(_TICK, [])))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _call(_JOIN, node.nodes)


def _call(name: str, arguments: list[nodes.Expr]) -> nodes.Call:
    return nodes.Call(nodes.Name(name, "load"), arguments, [], None, None)


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "%" and isinstance(left, str):
            raise TemplateError("it formats with %, whose widths have no bounds")
        if operator == "**":
            _check_numbers((left, right), {}, most=1000)
        elif operator == "*":
            _check_length(_size(left) * _size(right))
        else:
            _check_length(_size(left) + _size(right))
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        _check_numbers(args, kwargs)
        return _checked(super().call(context, obj, *args, **kwargs))

    @staticmethod
    def concat(parts: Iterable[str]) -> str:
        return str(_checked("".join(parts)))


class _Generation(Extension):
    """`{% generation %}` marks what a model was trained to write; for prompts it is nothing."""

    tags = {"generation"}  # noqa: RUF012 — Jinja's own way

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _bounded(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        _check_numbers(args, kwargs)
        return _checked(function(*args, **kwargs))

    return run


def _join(*parts: Any) -> str:
    return "".join(map(str, parts))


def _size(value: Any) -> int:
    """How large a thing is, as a factor."""
    if isinstance(value, str | bytes | list | tuple):
        return len(value)
    return min(abs(int(value)), 2**62) if isinstance(value, int) else 1


def _check_numbers(args: tuple[Any, ...], kwargs: dict[str, Any], most: int = _MOST_NUMBER) -> None:
    for value in (*args, *kwargs.values()):
        if isinstance(value, int) and abs(value) > most:
            raise TemplateError(f"it computes with {value}, and {most} is the most")


def _checked(value: Any) -> Any:
    if isinstance(value, str):
        _check_length(len(value))
    return value


def _check_length(length: int) -> None:
    if length > MOST_TEXT:
        raise TemplateError("its text grows without end")


def _tojson(value: Any, ensure_ascii: bool = False, **how: Any) -> str:
    """Without HTML's escapes, which Jinja's own has."""
    known = {name: how[name] for name in ("indent", "separators", "sort_keys") if name in how}
    return json.dumps(value, ensure_ascii=ensure_ascii, **known)


def _refuse(message: object) -> NoReturn:
    raise TemplateError(str(message))
