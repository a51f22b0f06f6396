"""From a prompt to what the model computes: tokens, and where images stand among them."""

from __future__ import annotations

from dataclasses import dataclass

from capyra.engine.errors import InvalidValue, Unsupported
from capyra.engine.native.chat import ChatTemplate, Piece
from capyra.engine.native.model.spec import VisionSpec
from capyra.engine.native.tokenizer import ModelTokenizer
from capyra.engine.types import ChatPrompt, ImagePart, Prompt, TextPrompt, TokenPrompt


@dataclass(frozen=True, slots=True)
class Prepared:
    """`starts[i]` is where the placeholders of `images[i]` begin."""

    token_ids: list[int]
    text: str
    images: tuple[ImagePart, ...] = ()
    starts: tuple[int, ...] = ()


class Prompts:
    """Prepares the prompts of one model. Needs no weights."""

    def __init__(
        self,
        tokenizer: ModelTokenizer,
        template: ChatTemplate | None,
        vision: VisionSpec | None,
        vocab_size: int,
    ) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self._vision = vision
        self._vocab_size = vocab_size

    def prepare(self, prompt: Prompt, *, answer: bool = True) -> Prepared:
        """With `answer`, a conversation ends with the marks that open the model's answer."""
        if isinstance(prompt, TokenPrompt):
            return self._tokens(prompt)
        if isinstance(prompt, TextPrompt):
            if prompt.suffix is not None:
                raise Unsupported("this engine does not fill in between two texts", param="suffix")
            ids = self._tokenizer.encode(prompt.text, begin=True)
            return Prepared(ids, self._tokenizer.decode(ids))
        return self._chat(prompt, answer)

    def _tokens(self, prompt: TokenPrompt) -> Prepared:
        self._tokenizer.check(prompt.token_ids, self._vocab_size)
        if self._vision is not None and self._vision.image_token in prompt.token_ids:
            raise InvalidValue(
                f"token {self._vision.image_token} stands for an image, and none came with it",
                param="prompt",
            )
        return Prepared(list(prompt.token_ids), self._tokenizer.decode(prompt.token_ids))

    def _chat(self, prompt: ChatPrompt, answer: bool) -> Prepared:
        if self._template is None:
            raise Unsupported(
                "this model has no chat template: send a text, or give the expert a "
                "`chat_template`",
                param="messages",
            )
        images = tuple(
            part
            for message in prompt.messages
            for part in message.parts
            if isinstance(part, ImagePart)
        )
        if images and self._vision is None:
            raise Unsupported("this model has no eyes: it takes no images", param="messages")
        pieces = self._template.render(prompt, answer=answer)
        if self._vision is not None:
            pieces = tuple(self._expand(piece, self._vision) for piece in pieces)
        ids = [
            token
            for piece in pieces
            for token in self._tokenizer.encode(piece.text, special=not piece.literal)
        ]
        starts = self._starts(ids)
        if len(starts) != len(images):
            raise InvalidValue(
                f"the conversation has {len(images)} images, and the model's chat template shows "
                f"{len(starts)}",
                param="messages",
            )
        return Prepared(ids, "".join(piece.text for piece in pieces), images, starts)

    def _expand(self, piece: Piece, vision: VisionSpec) -> Piece:
        """Templates write one mark for an image; the model sees as many as it has rows."""
        if piece.literal:
            return piece
        begin, image, end = (
            self._tokenizer.name(token).decode()
            for token in (vision.begin_token, vision.image_token, vision.end_token)
        )
        return Piece(piece.text.replace(begin, f"\n\n{begin}{image * vision.tokens}{end}\n\n"))

    def _starts(self, ids: list[int]) -> tuple[int, ...]:
        if self._vision is None:
            return ()
        image, count = self._vision.image_token, self._vision.tokens
        places = [place for place, token in enumerate(ids) if token == image]
        return tuple(places[::count])
