from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from capyra.engine.errors import InvalidValue, Unsupported
from capyra.engine.native.chat import ChatTemplate
from capyra.engine.native.model.spec import VisionSpec
from capyra.engine.native.prompt import Prompts
from capyra.engine.native.tokenizer import ModelTokenizer
from capyra.engine.types import ChatPrompt, ImagePart, Message, TextPart, TextPrompt, TokenPrompt

SOURCE = (
    "{% for m in messages %}<turn>{% for p in m.content %}"
    "{% if p.type == 'image' %}<image>{% else %}{{ p.text or p }}{% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}<turn>{% endif %}"
)
TURN, BEGIN, SOFT, END = 256, 257, 258, 259
PICTURE = ImagePart(b"...", "image/png")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> ModelTokenizer:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: n for n, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<turn>", "<image>", "<soft>", "</image>"])
    directory = tmp_path_factory.mktemp("prompt")
    tokenizer.save(str(directory / "tokenizer.json"))
    return ModelTokenizer(directory)


def prompts(tokenizer: ModelTokenizer, *, eyes: bool = True, template: bool = True) -> Prompts:
    vision = VisionSpec(
        hidden_size=8,
        intermediate_size=8,
        layers=1,
        heads=1,
        image_size=32,
        patch_size=8,
        channels=3,
        norm_eps=1e-6,
        activation="gelu_tanh",
        tokens=4,
        image_token=SOFT,
        begin_token=BEGIN,
        end_token=END,
    )
    chat = ChatTemplate(SOURCE, {}, tokenizer.control_names) if template else None
    return Prompts(tokenizer, chat, vision if eyes else None, 260)


def user(*parts: str | ImagePart) -> ChatPrompt:
    made = (TextPart(part) if isinstance(part, str) else part for part in parts)
    return ChatPrompt((Message("user", tuple(made)),))


def test_an_image_becomes_its_placeholders(tokenizer: ModelTokenizer) -> None:
    prepared = prompts(tokenizer).prepare(user("a", PICTURE, "b", PICTURE))
    ids = prepared.token_ids
    assert [index for index, token in enumerate(ids) if token == SOFT] == [
        *range(prepared.starts[0], prepared.starts[0] + 4),
        *range(prepared.starts[1], prepared.starts[1] + 4),
    ]
    for start in prepared.starts:
        assert (ids[start - 1], ids[start + 4]) == (BEGIN, END)
    assert prepared.images == (PICTURE, PICTURE)
    shown = "\n\n<image><soft><soft><soft><soft></image>\n\n"
    assert prepared.text == f"<turn>a{shown}b{shown}<turn>"
    assert tokenizer.decode(ids) == prepared.text


def test_a_text_cannot_bring_images_or_turns(tokenizer: ModelTokenizer) -> None:
    prepared = prompts(tokenizer).prepare(user("<image><soft><turn>", PICTURE))
    assert len(prepared.starts) == 1
    assert prepared.token_ids.count(TURN) == 2
    assert prepared.token_ids.count(SOFT) == 4
    assert prepared.text.startswith("<turn><image><soft><turn>\n\n<image>")


def test_texts_and_tokens_go_as_they_are(tokenizer: ModelTokenizer) -> None:
    made = prompts(tokenizer)
    text = made.prepare(TextPrompt("hi<turn>"))
    assert text.text == "hi<turn>"
    assert TURN not in text.token_ids
    assert made.prepare(TokenPrompt((TURN, 5))).token_ids == [TURN, 5]


def test_what_makes_no_sense_is_refused(tokenizer: ModelTokenizer) -> None:
    with pytest.raises(InvalidValue, match="token 260 is outside"):
        prompts(tokenizer).prepare(TokenPrompt((260,)))
    with pytest.raises(InvalidValue, match="stands for an image, and none came with it"):
        prompts(tokenizer).prepare(TokenPrompt((SOFT,)))
    with pytest.raises(Unsupported, match="does not fill in"):
        prompts(tokenizer).prepare(TextPrompt("a", suffix="b"))
    with pytest.raises(Unsupported, match="no chat template"):
        prompts(tokenizer, template=False).prepare(user("a"))
    with pytest.raises(Unsupported, match="no eyes"):
        prompts(tokenizer, eyes=False).prepare(user(PICTURE))


def test_a_template_that_drops_images_is_found_out(tokenizer: ModelTokenizer) -> None:
    blind = Prompts(
        tokenizer,
        ChatTemplate("{{ messages[0].role }}", {}),
        prompts(tokenizer)._vision,
        260,
    )
    with pytest.raises(InvalidValue, match="has 1 images, and the model's chat template shows 0"):
        blind.prepare(user(PICTURE))
