"""Chat templates: a conversation as the text that a model was trained on.

What a user writes stays text. Where it holds the name of a control token, the template gets a
stand-in, and the result says which of its pieces are to be read without control tokens. So no
message can end itself, or begin another one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from capyra.engine.errors import InvalidValue, ModelError
from capyra.engine.native.model.fields import read_json
from capyra.engine.native.sandbox import Clock, Sandbox
from capyra.engine.types import ChatPrompt, ImagePart, Message, Tool

_MARKS = range(0xF0000, 0xFFFFE)
"""Private use: no text should have them, and whichever one has is not taken."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a rendering. Literal text has no control tokens, whatever it says."""

    text: str
    literal: bool = False


class ChatTemplate:
    """One model's template.

    `variables` are the model's named tokens; `control` the names that nobody may write into a
    message; `marks` those that only an assistant's message may hold, such as `<think>`.
    """

    def __init__(
        self,
        source: str,
        variables: Mapping[str, str],
        control: Collection[str] = (),
        marks: Collection[str] = (),
        clock: Clock = datetime.now,
    ) -> None:
        self.source = source
        self._variables = dict(variables)
        self._control = _any_of(control)
        self._all = _any_of({*control, *marks})
        self._sandbox = Sandbox(source, clock)

    def render(self, prompt: ChatPrompt, *, answer: bool = True) -> tuple[Piece, ...]:
        """The conversation; with `answer`, also the marks that open the model's answer."""
        messages = [_message(message) for message in prompt.messages]
        tools = [_tool(tool) for tool in prompt.tools if prompt.tool_choice.mode != "none"]
        shield = _Shield([messages, tools])
        covered = [
            shield.cover(message, self._control if message["role"] == "assistant" else self._all)
            for message in messages
        ]
        if prompt.continue_last:
            if not messages or messages[-1]["role"] != "assistant":
                raise InvalidValue(
                    "only an assistant's message can be continued, and the last one is none",
                    param="messages",
                )
            covered[-1]["content"] = _append(covered[-1]["content"], shield.end)
        text = self._sandbox.render(
            **self._variables,
            messages=covered,
            tools=shield.cover(tools, self._all) or None,
            documents=None,
            add_generation_prompt=answer and not prompt.continue_last,
        )
        if prompt.continue_last:
            text, found, _ = text.rpartition(shield.end)
            if not found:
                raise InvalidValue(
                    "the model's chat template leaves the last message out, so it cannot be "
                    "continued",
                    param="messages",
                )
        return tuple(shield.uncover(text))


def find_template(directory: Path, override: Path | None = None) -> str | None:
    """The template's source: the operator's, or the model's own; None if it has none."""
    if override is not None:
        return _read(override)
    if (directory / "chat_template.jinja").is_file():
        return _read(directory / "chat_template.jinja")
    for name in ("chat_template.json", "tokenizer_config.json"):
        if (directory / name).is_file():
            found = read_json(directory / name).get("chat_template")
            if isinstance(found, list):
                named = {
                    each.get("name"): each.get("template")
                    for each in found
                    if isinstance(each, Mapping)
                }
                found = named.get("default")
            if isinstance(found, str):
                return found
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"the chat template {path} cannot be read: {error}") from error


def _any_of(names: Collection[str]) -> re.Pattern[str] | None:
    """Finds any of these names, the longest first."""
    ordered = sorted(filter(None, names), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, ordered))) if ordered else None


class _Shield:
    """Stand-ins for names of control tokens in a conversation, and the way back."""

    def __init__(self, conversation: Any) -> None:
        text = json.dumps(conversation, ensure_ascii=False)
        marks = (mark for mark in map(chr, _MARKS) if mark not in text)
        self._mark = next(marks)
        self.end = next(marks)
        """Stands where an answer will go on."""
        self._names: list[str] = []

    def cover(self, value: Any, names: re.Pattern[str] | None) -> Any:
        """The same structure without these names."""
        if isinstance(value, str):
            return names.sub(self._stand_in, value) if names else value
        if isinstance(value, Mapping):
            return {self.cover(key, names): self.cover(each, names) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.cover(each, names) for each in value]
        return value

    def uncover(self, text: str) -> Iterator[Piece]:
        """The rendering's pieces; literal ones hold what was covered."""
        for index, part in enumerate(re.split(f"{self._mark}(\\d+){self._mark}", text)):
            if index % 2:
                yield Piece(self._names[int(part)], literal=True)
            elif part:
                yield Piece(part)

    def _stand_in(self, match: re.Match[str]) -> str:
        self._names.append(match[0])
        return f"{self._mark}{len(self._names) - 1}{self._mark}"


def _message(message: Message) -> dict[str, Any]:
    """A message as templates know it. Text alone is a string: not all templates take lists."""
    found: dict[str, Any] = {"role": message.role, "content": message.text}
    if any(isinstance(part, ImagePart) for part in message.parts):
        found["content"] = [
            {"type": "image"}
            if isinstance(part, ImagePart)
            else {"type": "text", "text": part.text}
            for part in message.parts
        ]
    if message.name is not None:
        found["name"] = message.name
    if message.tool_call_id is not None:
        found["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        found["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": _arguments(call.arguments)},
            }
            for call in message.tool_calls
        ]
    return found


def _arguments(text: str) -> Any:
    """Templates write the object themselves; what a model wrote broken stays text."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, dict) else text


def _tool(tool: Tool) -> dict[str, Any]:
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": dict(tool.parameters),
    }
    return {"type": "function", "function": function}


def _append(content: Any, text: str) -> Any:
    if isinstance(content, str):
        return content + text
    return [*content, {"type": "text", "text": text}]
