"""From a request to its answers: formats compiled, tool calls forced or only understood."""

from __future__ import annotations

from capyra.engine.delivery import Delivery
from capyra.engine.errors import ConfigError
from capyra.engine.native.answer import Answer
from capyra.engine.native.forced import forced_calls
from capyra.engine.native.generation import Read
from capyra.engine.native.language import Language
from capyra.engine.native.structured import Grammars, Guide
from capyra.engine.toolcalls import FORMATS, guess, parser
from capyra.engine.types import ChatPrompt, GenerateRequest

_COMMON = "hermes"
"""The format of most models whose template does not tell."""


class Answers:
    """Makes the answers of one model's requests. `style` is the format of its tool calls."""

    def __init__(self, language: Language, vocabulary: int, style: str | None) -> None:
        template = language.template.source if language.template is not None else ""
        self._language = language
        self._style = style or guess(template) or _COMMON
        if self._style not in FORMATS:
            raise ConfigError(
                f"`tool_format` is {style!r}: the formats are {', '.join(sorted(FORMATS))}"
            )
        tokenizer = language.tokenizer
        self._control = {
            tokenizer.name(token).decode(errors="replace"): token
            for token in tokenizer.control_ids()
        }
        syntax = FORMATS[self._style].syntax
        marks = (*syntax.marks, syntax.close, "[ARGS]", "[CALL_ID]")
        self._marks = frozenset(self._control[mark] for mark in marks if mark in self._control)
        self._grammars = Grammars(tokenizer, vocabulary, tokenizer.ends)

    async def prepare(self, request: GenerateRequest, prompt: Read, limit: int) -> list[Answer]:
        """All answers of the request, nothing written; `InvalidValue` for a format that is none."""
        guide = await self._guide(request)
        tools = _tools(request)
        return [
            Answer(
                request,
                index,
                prompt.tokens,
                limit=limit,
                words=self._language.words,
                delivery=Delivery(request, index, parser(self._style, tools) if tools else None),
                guide=guide.fork() if guide is not None and index else guide,
                shown=self._marks if tools else (),
            )
            for index in range(request.n)
        ]

    async def _guide(self, request: GenerateRequest) -> Guide | None:
        wanted = request.format
        if isinstance(request.prompt, ChatPrompt):
            prompt = request.prompt
            forced = forced_calls(self._style, prompt.tools, prompt.tool_choice, self._control)
            wanted = forced or wanted
        return None if wanted.kind == "text" else await self._grammars.guide(wanted)

    def close(self) -> None:
        self._grammars.close()


def _tools(request: GenerateRequest) -> list[str]:
    """The tools that the model may call, by name."""
    prompt = request.prompt
    if not isinstance(prompt, ChatPrompt) or prompt.tool_choice.mode == "none":
        return []
    return [tool.name for tool in prompt.tools]
