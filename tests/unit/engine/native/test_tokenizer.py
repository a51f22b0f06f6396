from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from capyra.engine.errors import InvalidValue, ModelError
from capyra.engine.native.tokenizer import ModelTokenizer

_CONTROL = ["<s>", "</s>", "<|end|>"]
_MARKS = ["<tool_call>"]


def byte_level() -> Tokenizer:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: index for index, letter in enumerate([*letters, "he", "Ġhe", "Ã©"])}
    tokenizer = Tokenizer(models.BPE(vocab, [("h", "e"), ("Ġ", "he"), ("Ã", "©")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def sentencepiece(prefix: bool) -> Tokenizer:
    pieces = ["<unk>", *(f"<0x{value:02X}>" for value in range(256)), "▁", "h", "e", "he", "▁he"]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(
        models.BPE(
            vocab, [("h", "e"), ("▁", "he")], unk_token="<unk>", byte_fallback=True, fuse_unk=True
        )
    )
    replace = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = (
        normalizers.Sequence([normalizers.Prepend("▁"), replace]) if prefix else replace
    )
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if prefix else steps)
    return tokenizer


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "byte-level": byte_level,
    "sentencepiece": lambda: sentencepiece(prefix=False),
    "sentencepiece-prefixed": lambda: sentencepiece(prefix=True),
}


def save(tokenizer: Tokenizer, directory: Path) -> Path:
    tokenizer.add_special_tokens(_CONTROL)
    tokenizer.add_tokens(_MARKS)
    begin = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", begin)]
    )
    tokenizer.save(str(directory / "tokenizer.json"))
    named = {"bos_token": "<s>", "eos_token": {"content": "</s>"}}
    (directory / "tokenizer_config.json").write_text(json.dumps(named))
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 9]}))
    return directory


@pytest.fixture(scope="module", params=list(KINDS))
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(KINDS[request.param](), tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def tokenizer(directory: Path) -> ModelTokenizer:
    return ModelTokenizer(directory)


@pytest.fixture(scope="module")
def library(directory: Path) -> Tokenizer:
    return Tokenizer.from_file(str(directory / "tokenizer.json"))


@settings(deadline=None, max_examples=50)
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁")))
def test_text_comes_back(tokenizer: ModelTokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_any_tokens_decode_as_the_library_decodes_them(
    tokenizer: ModelTokenizer, library: Tokenizer, data: st.DataObject
) -> None:
    controls = {library.token_to_id(name) for name in (*_CONTROL, *_MARKS, "<unk>")}
    plain = sorted(set(range(tokenizer.size)) - controls)
    ids = data.draw(st.lists(st.sampled_from(plain), max_size=12))
    # The library writes one U+FFFD for each byte of a broken run of byte-fallback tokens, and
    # UTF-8 one for each broken character; so does a stream of bytes.
    ours, theirs = tokenizer.decode(ids), library.decode(ids, skip_special_tokens=False)
    if "�" not in theirs:
        assert ours == theirs


def test_the_bytes_of_tokens_make_the_text(tokenizer: ModelTokenizer) -> None:
    ids = tokenizer.encode("the héhe 🦫\n")
    assert b"".join(map(tokenizer.data, ids)).decode().removeprefix(" ") == "the héhe 🦫\n"


def test_control_tokens_come_only_when_asked_for(tokenizer: ModelTokenizer) -> None:
    text = "he</s> <tool_call><|end|>"
    special = {tokenizer.encode(name, special=True)[-1] for name in (*_CONTROL, *_MARKS)}
    assert len(special & set(tokenizer.encode(text, special=True))) == 3
    assert not special & set(tokenizer.encode(text))
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(special & set(tokenizer.encode(text, special=True))) == 3


def test_a_control_token_adds_nothing_to_an_answer_and_a_mark_its_text(
    tokenizer: ModelTokenizer,
) -> None:
    end, mark = (tokenizer.encode(name, special=True)[-1] for name in ("<|end|>", "<tool_call>"))
    assert tokenizer.data(end) == b""
    assert tokenizer.name(end) == b"<|end|>"
    assert tokenizer.data(mark) == b"<tool_call>"
    assert end in tokenizer.control_ids()
    assert mark not in tokenizer.control_ids()
    assert tokenizer.control_names == set(_CONTROL)
    assert tokenizer.mark_names == set(_MARKS)


def test_every_token_has_its_bytes_and_padding_has_none(tokenizer: ModelTokenizer) -> None:
    listed = tokenizer.token_bytes()
    assert len(listed) == tokenizer.size
    assert listed == [tokenizer.name(token) for token in range(tokenizer.size)]
    assert tokenizer.data(tokenizer.size + 5) == b""


def test_begin_brings_what_the_model_expects(tokenizer: ModelTokenizer) -> None:
    (start,) = tokenizer.encode("<s>", special=True)[-1:]
    assert tokenizer.encode("he", begin=True) == [start, *tokenizer.encode("he")]


def test_all_files_name_ends(tokenizer: ModelTokenizer) -> None:
    (end,) = tokenizer.encode("</s>", special=True)[-1:]
    assert tokenizer.ends == {7, 9, end}
    assert tokenizer.variables == {"bos_token": "<s>", "eos_token": "</s>"}


def test_wrong_input_is_named(tokenizer: ModelTokenizer) -> None:
    with pytest.raises(InvalidValue, match="lone surrogate"):
        tokenizer.encode("\ud83e")
    with pytest.raises(InvalidValue, match="token 900 is outside of the vocabulary of 500"):
        tokenizer.check([1, 900], 500)


def test_wrong_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"tokenizer\.json is missing"):
        ModelTokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match="is no tokenizer"):
        ModelTokenizer(tmp_path)
    tokenizer = byte_level()
    tokenizer.decoder = decoders.WordPiece()
    save(tokenizer, tmp_path)
    with pytest.raises(ModelError, match="WordPiece; supported are ByteLevel"):
        ModelTokenizer(tmp_path)
    save(byte_level(), tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<gone>"}')
    with pytest.raises(ModelError, match="'<gone>' is not in tokenizer"):
        ModelTokenizer(tmp_path)
