"""What the echo model says when it must call a tool."""

from __future__ import annotations

import json

from capyra.engine.errors import InvalidValue, Unsupported
from capyra.engine.types import ChatPrompt, Tool


def forced_call(prompt: ChatPrompt, said: str) -> str | None:
    """The call that `tool_choice` forces: of the named tool, or of the first, with what was said
    last as its text. None if nothing is forced."""
    choice = prompt.tool_choice
    if choice.mode not in ("required", "named"):
        return None
    named = [tool for tool in prompt.tools if choice.mode == "required" or tool.name == choice.name]
    if not named:
        raise InvalidValue(f"no tool is called {choice.name!r}", param="tool_choice")
    tool = named[0]
    arguments = json.dumps({_text_property(tool): said}, ensure_ascii=False)
    return f'<tool_call>{{"name": {json.dumps(tool.name)}, "arguments": {arguments}}}</tool_call>'


def _text_property(tool: Tool) -> str:
    """The property that takes any string: `text`, or the one that the schema demands."""
    schema = tool.parameters
    properties, required = schema.get("properties") or {}, schema.get("required") or []
    if not isinstance(properties, dict) or not (
        isinstance(required, list) and all(isinstance(name, str) for name in required)
    ):
        raise InvalidValue(
            f"the parameters of {tool.name!r} are no JSON schema: `properties` is an object and "
            "`required` a list of names",
            param="tools",
        )
    candidates = required or ["text", *properties]
    for name in candidates:
        kind = properties.get(name)
        free = kind is None and schema.get("additionalProperties", True) is not False
        text = isinstance(kind, dict) and kind.get("type", "string") == "string"
        if (free or text) and set(required) <= {name}:
            return str(name)
    raise Unsupported(
        f"the echo engine can call a tool only with one text: the parameters of {tool.name!r} "
        "permit no such call",
        param="tool_choice",
    )
