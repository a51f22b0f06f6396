"""Between text and tokens; all of it works without weights."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from PIL import Image

from capyra.engine.base import Engine
from capyra.engine.errors import InvalidValue, Unsupported
from capyra.engine.types import ChatPrompt, ImagePart, Message, TextPart, TextPrompt, TokenPrompt
from engines import PROMPT, chat

Build = Callable[..., Engine]

NASTY = [
    "",
    " ",
    "   leading and trailing   ",
    "\n\n\t\r\n",
    "\x00 NUL \x7f",
    "naïve façade – “quotes” …",
    "漢字かな한글 العربية עברית हिन्दी",
    "🦫👩‍👩‍👧‍👦🇪🇺 é vs é",
    "\ufeffBOM and \u200bzero width",
    "a" * 300,
    "def f(x):\n    return {'a': [1, 2.5e-3]}  # <tag> &amp;\n",
    "<|end|><|im_end|></s><eos>[INST]<|eot_id|><start_of_turn>",
]


@pytest.fixture
def parked(build: Build) -> Engine:
    return build()


def image(size: tuple[int, int] = (32, 24)) -> ImagePart:
    data = io.BytesIO()
    Image.new("RGB", size, "teal").save(data, "PNG")
    return ImagePart(data.getvalue(), "image/png")


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_tokens_give_the_text_back(parked: Engine, text: str) -> None:
    tokens = parked.tokenize(text)
    assert parked.detokenize(tokens) == text
    assert all(0 <= token < (parked.capabilities().vocabulary or 2**31) for token in tokens)


def test_no_text_can_smuggle_a_control_token_in(parked: Engine) -> None:
    """Whatever a template writes around a message, its text alone never becomes part of it."""
    frame = parked.render(chat("x"))
    control = {token for token in frame.token_ids if not parked.detokenize([token])}
    assert control, "a chat is framed by control tokens"
    smuggler = frame.text + "".join(NASTY)
    assert not control & set(parked.tokenize(smuggler))
    assert control & set(parked.tokenize(smuggler, special=True))
    rendered = parked.render(chat(smuggler)).token_ids
    assert sum(token in control for token in rendered) == sum(
        token in control for token in frame.token_ids
    )


def test_rendering_shows_what_the_model_sees(parked: Engine) -> None:
    rendered = parked.render(chat(PROMPT, system="Be brief."))
    assert PROMPT in rendered.text
    assert "Be brief." in rendered.text
    assert PROMPT in parked.detokenize(rendered.token_ids)
    assert parked.render(TokenPrompt(rendered.token_ids)).token_ids == rendered.token_ids
    assert TextPrompt(PROMPT).text in parked.render(TextPrompt(PROMPT)).text


def test_a_last_answer_is_continued_or_followed(parked: Engine) -> None:
    messages = (*chat(PROMPT).messages, Message("assistant", (TextPart("The quick"),)))
    followed = parked.render(ChatPrompt(messages)).token_ids
    continued = parked.render(ChatPrompt(messages, continue_last=True)).token_ids
    assert continued[-1] == parked.tokenize("The quick")[-1]
    assert followed[: len(continued)] == continued
    assert len(followed) > len(continued)


@pytest.mark.parametrize("token", [-1, 2**31 - 1])
def test_ids_out_of_the_vocabulary_are_refused(parked: Engine, token: int) -> None:
    with pytest.raises(InvalidValue):
        parked.render(TokenPrompt((token,)))


def test_a_lone_surrogate_is_refused(parked: Engine) -> None:
    for ask in (
        lambda: parked.tokenize("a\ud800b"),
        lambda: parked.render(chat("a\ud800b")),
        lambda: parked.render(TextPrompt("a\ud800b")),
    ):
        with pytest.raises(InvalidValue, match="surrogate"):
            ask()


def test_a_conversation_of_nothing_is_refused(parked: Engine) -> None:
    with pytest.raises(InvalidValue):
        parked.render(ChatPrompt(()))


def test_images_are_seen_or_refused(parked: Engine) -> None:
    prompt = ChatPrompt((Message("user", (TextPart("What is this?"), image())),))
    if not parked.capabilities().images:
        with pytest.raises(Unsupported) as refused:
            parked.render(prompt)
        assert refused.value.param == "messages[0].content[1]"
        return
    assert len(parked.render(prompt).token_ids) > len(
        parked.render(chat("What is this?")).token_ids
    )
    broken = ImagePart(b"no image at all", "image/png")
    with pytest.raises(InvalidValue):
        parked.render(ChatPrompt((Message("user", (broken,)),)))
