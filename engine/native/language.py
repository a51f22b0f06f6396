"""What goes between words and tokens for one model: tokenizer, template, images."""

from __future__ import annotations

import hashlib
from pathlib import Path

from capyra.engine.errors import InvalidValue
from capyra.engine.native.chat import ChatTemplate, find_template
from capyra.engine.native.generation import Read
from capyra.engine.native.model.images import ImageReader
from capyra.engine.native.model.spec import DecoderSpec
from capyra.engine.native.prefix import Span
from capyra.engine.native.prompt import Prepared, Prompts
from capyra.engine.native.tokenizer import ModelTokenizer
from capyra.engine.native.words import Words
from capyra.engine.types import ChatPrompt, ImagePart, Prompt, Rendered, TextPrompt, TokenPrompt

_LONG_TEXT = 4096
"""Characters that take milliseconds to tokenize: the asyncio loop must not wait for more."""


class Language:
    """Needs no weights. Safe from several threads."""

    def __init__(self, directory: Path, spec: DecoderSpec, template: Path | None) -> None:
        self.tokenizer = ModelTokenizer(directory)
        self.words = Words(self.tokenizer.data, self.tokenizer.name, self.tokenizer.ends)
        source = find_template(directory, template)
        self.template = (
            ChatTemplate(
                source,
                self.tokenizer.variables,
                self.tokenizer.control_names,
                self.tokenizer.mark_names,
            )
            if source is not None
            else None
        )
        self._prompts = Prompts(self.tokenizer, self.template, spec.vision, spec.vocab_size)
        self._eyes = ImageReader.of(directory, spec.vision) if spec.vision is not None else None
        self._span = spec.vision.tokens if spec.vision is not None else 0

    def render(self, prompt: Prompt) -> Rendered:
        read = self.read(prompt)
        return Rendered(tuple(read.tokens), read.text)

    def read(self, prompt: Prompt, *, answer: bool = True) -> Read:
        """The prompt, ready to be computed. Decodes images, so it may take long."""
        prepared = self._prepare(prompt, answer=answer)
        spans, pixels = [], {}
        for start, image in zip(prepared.starts, prepared.images, strict=True):
            assert self._eyes is not None
            digest = hashlib.blake2b(image.data, digest_size=16).digest()
            spans.append(Span(start, self._span, digest))
            pixels[start] = self._eyes.read(image)
        return Read(prepared.token_ids, tuple(spans), pixels, prepared.text)

    @staticmethod
    def is_long(prompt: Prompt) -> bool:
        """Whether reading it takes so long that it is better done on another thread."""
        if isinstance(prompt, TokenPrompt):
            return False
        if isinstance(prompt, TextPrompt):
            return len(prompt.text) > _LONG_TEXT
        parts = [part for message in prompt.messages for part in message.parts]
        return any(isinstance(part, ImagePart) for part in parts) or (
            sum(len(message.text) for message in prompt.messages) > _LONG_TEXT
        )

    def preamble(self, prompt: Prompt, read: Read) -> str:
        """The prompt's text as an answer that begins with it shows it."""
        return prompt.text if isinstance(prompt, TextPrompt) else read.text

    def _prepare(self, prompt: Prompt, *, answer: bool) -> Prepared:
        if isinstance(prompt, ChatPrompt) and not prompt.messages:
            raise InvalidValue("the conversation has no messages", param="messages")
        prepared = self._prompts.prepare(prompt, answer=answer)
        if not prepared.token_ids:
            param = "messages" if isinstance(prompt, ChatPrompt) else "prompt"
            raise InvalidValue("the prompt is empty: send at least one token", param=param)
        return prepared
