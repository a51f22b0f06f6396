"""How the families write tool calls."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from capyra.engine.toolcalls.base import ToolCallParser
from capyra.engine.toolcalls.parser import MarkedParser, Syntax


@dataclass(frozen=True, slots=True)
class Format:
    """A syntax, and what in a chat template tells that the model was trained on it."""

    syntax: Syntax
    sign: str | None = None


FORMATS: dict[str, Format] = {
    # Hermes, Qwen: <tool_call>{"name": …, "arguments": {…}}</tool_call>, one for each call.
    "hermes": Format(Syntax(marks=("<tool_call>",), close="</tool_call>"), "<tool_call>"),
    # Mistral: [TOOL_CALLS][{"name": …, "arguments": {…}}, …], and from v11 on
    # [TOOL_CALLS]name{…} or [TOOL_CALLS]name[CALL_ID]…[ARGS]{…}.
    "mistral": Format(Syntax(marks=("[TOOL_CALLS]",), named=True), "[TOOL_CALLS]"),
    # Llama 3: the answer is {"name": …, "parameters": {…}}, more of them after semicolons.
    "llama3": Format(Syntax(marks=("<|python_tag|>",), bare=True), "<|python_tag|>"),
    # Phi-4: <|tool_call|>[{"name": …, "arguments": {…}}, …]<|/tool_call|>
    "phi4": Format(Syntax(marks=("<|tool_call|>",), close="<|/tool_call|>"), "<|tool_call|>"),
    # Gemma has no format of its own: it follows the prompt, which asks for JSON or for a call in
    # Python between fences.
    "gemma": Format(
        Syntax(marks=("```tool_code", "```json"), close="```", bare=True, python=True),
        "<start_of_turn>",
    ),
    # Cohere: <|START_ACTION|>[{"tool_name": …, "parameters": {…}}, …]<|END_ACTION|>
    "cohere": Format(
        Syntax(marks=("<|START_ACTION|>",), close="<|END_ACTION|>"), "<|START_ACTION|>"
    ),
}


def parser(name: str, tools: Collection[str]) -> ToolCallParser:
    """A parser of that format for one answer; `tools` are the names that the request offers."""
    return MarkedParser(FORMATS[name].syntax, tools)


def guess(template: str) -> str | None:
    """The format that a chat template shows its model."""
    return next(
        (name for name, each in FORMATS.items() if each.sign and each.sign in template), None
    )
