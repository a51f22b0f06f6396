"""Between words and tokens for one model. The same tokenizer, templates and marks as the native
engine's, so that a prompt is the same prompt on both."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from pathlib import Path

from capyra.engine.errors import ConfigError, InvalidValue, Unsupported
from capyra.engine.native.chat import ChatTemplate, find_template
from capyra.engine.native.forced import forced_calls
from capyra.engine.native.tokenizer import ModelTokenizer
from capyra.engine.toolcalls import FORMATS, ToolCallParser, guess, parser
from capyra.engine.types import (
    ChatPrompt,
    OutputFormat,
    Prompt,
    Rendered,
    TextPrompt,
    TokenLogprob,
    TokenPrompt,
)
from capyra.engine.vllm.calls import Ranked

_COMMON = "hermes"
"""The format of tool calls of most models whose template does not tell."""


class Language:
    """Needs no weights."""

    def __init__(
        self, directory: Path, vocabulary: int, template: Path | None, style: str | None
    ) -> None:
        self.tokenizer = ModelTokenizer(directory)
        self._vocabulary = vocabulary
        source = find_template(directory, template)
        self._template = (
            ChatTemplate(
                source,
                self.tokenizer.variables,
                self.tokenizer.control_names,
                self.tokenizer.mark_names,
            )
            if source is not None
            else None
        )
        self._style = style or guess(source or "") or _COMMON
        if self._style not in FORMATS:
            raise ConfigError(
                f"`tool_format` is {style!r}: the formats are {', '.join(sorted(FORMATS))}"
            )
        self._control = {
            self.tokenizer.name(token).decode(errors="replace"): token
            for token in self.tokenizer.control_ids()
        }
        syntax = FORMATS[self._style].syntax
        marks = (*syntax.marks, syntax.close, "[ARGS]", "[CALL_ID]")
        self._marks = frozenset(self._control[mark] for mark in marks if mark in self._control)
        self._text = lru_cache(maxsize=65536)(self._name)

    @property
    def tools(self) -> bool:
        return self._template is not None and "tools" in self._template.source

    @property
    def ends(self) -> frozenset[int]:
        return self.tokenizer.ends

    def render(self, prompt: Prompt, *, answer: bool = True) -> Rendered:
        """With `answer`, a conversation ends with the marks that open the model's answer."""
        if isinstance(prompt, TokenPrompt):
            self.tokenizer.check(prompt.token_ids, self._vocabulary)
            return self._rendered(prompt.token_ids, "prompt")
        if isinstance(prompt, TextPrompt):
            return self._rendered(self.tokenizer.encode(prompt.text, begin=True), "prompt")
        return self._chat(prompt, answer)

    def parser(self, prompt: Prompt) -> ToolCallParser | None:
        """What tells tool calls from text, if the model may call any."""
        if not isinstance(prompt, ChatPrompt) or prompt.tool_choice.mode == "none":
            return None
        return parser(self._style, [tool.name for tool in prompt.tools]) if prompt.tools else None

    def shape(self, prompt: Prompt, wanted: OutputFormat) -> OutputFormat:
        """The format that the answer must have: calls, where they are demanded."""
        if not isinstance(prompt, ChatPrompt):
            return wanted
        forced = forced_calls(self._style, prompt.tools, prompt.tool_choice, self._control)
        return forced or wanted

    def shown(self, prompt: Prompt) -> Collection[int]:
        """Control tokens that the reader of an answer must see: the marks of tool calls."""
        return self._marks if self.parser(prompt) is not None else ()

    def logprob(self, token: int, found: Ranked, count: int) -> TokenLogprob:
        """The token's log-probability, and the `count` likeliest of those that were found."""
        ranked = sorted(found.items(), key=lambda item: item[1][1])[:count]
        return TokenLogprob(
            self._text(token),
            token,
            found[token][0],
            tuple((self._text(each), each, value) for each, (value, _) in ranked),
        )

    def _chat(self, prompt: ChatPrompt, answer: bool) -> Rendered:
        if not prompt.messages:
            raise InvalidValue("the conversation has no messages", param="messages")
        if self._template is None:
            raise Unsupported(
                "this model has no chat template: send a text, or give the expert a "
                "`chat_template`",
                param="messages",
            )
        pieces = self._template.render(prompt, answer=answer)
        ids = [
            token
            for piece in pieces
            for token in self.tokenizer.encode(piece.text, special=not piece.literal)
        ]
        return self._rendered(ids, "messages", "".join(piece.text for piece in pieces))

    def _rendered(self, ids: Collection[int], param: str, text: str | None = None) -> Rendered:
        if not ids:
            raise InvalidValue("the prompt is empty: send at least one token", param=param)
        found = tuple(ids)
        return Rendered(found, self.tokenizer.decode(found) if text is None else text)

    def _name(self, token: int) -> str:
        told = self.tokenizer.data(token) or self.tokenizer.name(token)
        return told.decode(errors="replace")
