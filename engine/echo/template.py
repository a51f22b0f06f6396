"""The echo model's chat template: from any prompt to its tokens."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

from PIL import Image

from capyra.engine.echo import vocabulary
from capyra.engine.echo.vocabulary import ASSISTANT, BEGIN, END, SYSTEM, TOOL, USER
from capyra.engine.errors import InvalidValue, Unsupported
from capyra.engine.text import utf8
from capyra.engine.types import (
    ChatPrompt,
    ImagePart,
    Message,
    Prompt,
    TextPart,
    TextPrompt,
    Tool,
)

_OPENING = {"system": SYSTEM, "user": USER, "assistant": ASSISTANT, "tool": TOOL}


def render(prompt: Prompt, *, answer: bool = True) -> list[int]:
    """The prompt's tokens; with `answer`, closed by the mark that opens an answer.

    Token ids are taken as they are: whoever sends them has rendered already.
    """
    if isinstance(prompt, ChatPrompt):
        return _chat(prompt, answer=answer)
    if isinstance(prompt, TextPrompt):
        if prompt.suffix is not None:
            raise Unsupported("the echo engine fills no gaps: leave out `suffix`", param="suffix")
        tokens = [BEGIN, *utf8(prompt.text, "prompt")]
        return [*tokens, ASSISTANT] if answer else tokens
    vocabulary.check(prompt.token_ids)
    return list(prompt.token_ids)


def _chat(prompt: ChatPrompt, *, answer: bool) -> list[int]:
    messages = prompt.messages
    if not messages:
        raise InvalidValue("a conversation needs at least one message", param="messages")
    if prompt.continue_last and messages[-1].role != "assistant":
        raise InvalidValue(
            f"the last message is the {messages[-1].role}'s: only an assistant's can be continued",
            param=f"messages[{len(messages) - 1}].role",
        )
    tokens = [BEGIN]
    if prompt.tools:
        tokens += [SYSTEM, *utf8(_tools(prompt.tools), "tools"), END]
    for place, message in enumerate(messages):
        tokens.append(_OPENING[message.role])
        for text in _texts(message, f"messages[{place}]"):
            tokens.extend(utf8(text, f"messages[{place}].content"))
        tokens.append(END)
    if prompt.continue_last:
        tokens.pop()
    elif answer:
        tokens.append(ASSISTANT)
    return tokens


def _texts(message: Message, where: str) -> Iterator[str]:
    for place, part in enumerate(message.parts):
        if isinstance(part, TextPart):
            yield part.text
        else:
            yield _image(part, f"{where}.content[{place}]")
    for call in message.tool_calls:
        # As it was written, broken or not: the model sees its own words again.
        yield (
            f'<tool_call>{{"name": {json.dumps(call.name, ensure_ascii=False)}, '
            f'"arguments": {call.arguments or "{}"}}}</tool_call>'
        )


def _image(part: ImagePart, where: str) -> str:
    """What the model sees of an image: its kind and its size."""
    try:
        with Image.open(io.BytesIO(part.data)) as image:
            kind, (width, height) = (image.format or "unknown").lower(), image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InvalidValue(f"the image cannot be read: {error}", param=where) from error
    return f"[image {kind} {width}x{height}]"


def _tools(tools: tuple[Tool, ...]) -> str:
    rows = [
        {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
        for tool in tools
    ]
    return "tools: " + json.dumps(rows, ensure_ascii=False)
