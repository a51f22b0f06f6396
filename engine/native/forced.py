"""The grammar of an answer that must call tools, in the format the model was trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from capyra.engine.types import OutputFormat, Tool, ToolChoice


@dataclass(frozen=True, slots=True)
class _Shape:
    """How calls are written. Marks are control tokens where the vocabulary has them."""

    open: str = ""
    close: str = ""
    before: str = ""
    """Text between the opening mark and the calls, and in the same way after them."""
    after: str = ""
    between: str = ""
    """What separates two calls; where there is none, each call has marks of its own."""
    name: str = "name"
    arguments: str = "arguments"


_SHAPES = {
    "hermes": _Shape("<tool_call>", "</tool_call>", "\n", "\n"),
    "mistral": _Shape("[TOOL_CALLS]", before="[", after="]", between=", "),
    "llama3": _Shape(between="; ", arguments="parameters"),
    "phi4": _Shape("<|tool_call|>", "<|/tool_call|>", "[", "]", ", "),
    "gemma": _Shape(before="```json\n", after="\n```"),
    "cohere": _Shape(
        "<|START_ACTION|>", "<|END_ACTION|>", "[", "]", ", ", "tool_name", "parameters"
    ),
}

_SPACING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""As all families write their calls."""


def forced_calls(
    style: str, tools: Sequence[Tool], choice: ToolChoice, control: Mapping[str, int]
) -> OutputFormat | None:
    """The format that `tool_choice` demands, None if it demands none. `control` has the ids of
    control tokens by name."""
    if choice.mode not in ("required", "named"):
        return None
    shape = _SHAPES[style]
    offered = [tool for tool in tools if choice.mode == "required" or tool.name == choice.name]
    block = [_mark(shape.open, control), _text(shape.before), "calls"]
    block += [_text(shape.after), _mark(shape.close, control)]
    several = choice.mode == "required"
    again = f"({_text(shape.between)} call)*" if several and shape.between else ""
    blocks = "block (/\\n?/ block)*" if several and not shape.between else "block"
    rules = [
        f"start: {blocks}",
        f"block: {' '.join(part for part in block if part)}",
        f"calls: call {again}",
        f"call: %json {json.dumps(_call_schema(shape, offered))}",
    ]
    return OutputFormat("grammar", "\n".join(rules))


def _call_schema(shape: _Shape, tools: Sequence[Tool]) -> dict[str, Any]:
    calls = [
        {
            "type": "object",
            "properties": {
                shape.name: {"const": tool.name},
                shape.arguments: dict(tool.parameters) or {"type": "object"},
            },
            "required": [shape.name, shape.arguments],
            "additionalProperties": False,
        }
        for tool in tools
    ]
    schema: dict[str, Any] = calls[0] if len(calls) == 1 else {"anyOf": calls}
    return schema | {"x-guidance": _SPACING}


def _mark(mark: str, control: Mapping[str, int]) -> str:
    return f"<[{control[mark]}]>" if mark in control else _text(mark)


def _text(text: str) -> str:
    return json.dumps(text) if text else ""
