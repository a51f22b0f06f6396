"""A model's tokenizer: text to tokens, and each token to its bytes.

Tokens become bytes one by one, so that an answer can be streamed; that needs a tokenizer whose
tokens are byte strings: byte-level BPE, or SentencePiece's with byte fallback.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from capyra.engine.errors import InvalidValue, ModelError
from capyra.engine.native.model.fields import Fields, read_json
from capyra.engine.text import utf8

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_LOOKS_LIKE_CONTROL = re.compile(r"<[^<>\s]+>|\[/?[A-Z_]+\]")
"""Added tokens such as `<tool_call>` are ordinary text in answers, but nothing that a user may
write into a prompt."""
_NAMED = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token")
_METASPACE = "\u2581"


class ModelTokenizer:
    """Reads `tokenizer.json` and what lies beside it. Safe from several threads."""

    def __init__(self, directory: Path) -> None:
        path = directory / "tokenizer.json"
        if not path.is_file():
            raise ModelError(
                f"{path} is missing: a model directory needs config.json, tokenizer.json and "
                "*.safetensors"
            )
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing narrower
            raise ModelError(f"{path} is no tokenizer: {error}") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        # What control tokens are in a text is a switch of the tokenizer, not of a call.
        self._switch = threading.Lock()
        self._byte_level, self._strips = _decoding(self._tokenizer, path)
        added = self._tokenizer.get_added_tokens_decoder()
        self._added = {token: each.content for token, each in added.items()}
        self._control = frozenset(token for token, each in added.items() if each.special)
        hidden = [
            AddedToken(each.content, special=True, normalized=False)
            for each in added.values()
            if not each.special and _LOOKS_LIKE_CONTROL.fullmatch(each.content)
        ]
        self._tokenizer.add_special_tokens(hidden)
        self.control_names = frozenset(each.content for each in added.values() if each.special)
        self.mark_names = frozenset(each.content for each in hidden)
        """Tokens that stand for more than their text, and are text in answers all the same."""
        self.size = self._tokenizer.get_vocab_size(with_added_tokens=True)
        self.variables = _variables(directory)
        """The named tokens, as chat templates know them."""
        self.ends = _ends(directory, self._tokenizer, self.variables)
        """The tokens that end an answer."""
        self._data: dict[int, bytes] = {}

    def encode(self, text: str, *, special: bool = False, begin: bool = False) -> list[int]:
        """The text's tokens. With `special`, names of control tokens in it become those tokens;
        with `begin`, what the model expects around a whole text comes with it."""
        utf8(text)
        with self._switch:
            self._tokenizer.encode_special_tokens = not special
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=begin).ids
        return ids

    def decode(self, token_ids: Sequence[int], *, control: bool = True) -> str:
        """The text of these tokens; with `control`, names of control tokens too. Bytes that are
        no UTF-8 become U+FFFD."""
        told = self.name if control else self.data
        text = b"".join(map(told, token_ids)).decode(errors="replace")
        first = token_ids[0] if token_ids else None
        if self._strips and first not in self._added and text.startswith(" "):
            return text[1:]
        return text

    def data(self, token: int) -> bytes:
        """What the token adds to an answer: nothing, if it is a control token."""
        return b"" if token in self._control else self.name(token)

    def name(self, token: int) -> bytes:
        """The token's bytes, or a control token's name. Nothing beyond the vocabulary, because
        models pad theirs."""
        found = self._data.get(token)
        if found is None:
            found = self._data[token] = self._bytes(token)
        return found

    def token_bytes(self) -> list[bytes]:
        """Every token's bytes by id; a control token's name."""
        return [self.name(token) for token in range(self._last + 1)]

    def control_ids(self) -> Collection[int]:
        return self._control

    def check(self, token_ids: Sequence[int], vocab_size: int) -> None:
        """`InvalidValue` for an id outside of the vocabulary."""
        for token in token_ids:
            if not 0 <= token < vocab_size:
                raise InvalidValue(
                    f"token {token} is outside of the vocabulary of {vocab_size}", param="prompt"
                )

    @property
    def _last(self) -> int:
        """The highest id: there may be gaps below it."""
        return max([*self._tokenizer.get_vocab(with_added_tokens=True).values(), -1])

    def _bytes(self, token: int) -> bytes:
        if token in self._added:
            return self._added[token].encode()
        piece = self._tokenizer.id_to_token(token)
        if piece is None:
            return b""
        if self._byte_level:
            return b"".join(_LETTERS.get(letter) or letter.encode() for letter in piece)
        if match := _BYTE.fullmatch(piece):
            return bytes.fromhex(match[1])
        return piece.replace(_METASPACE, " ").encode()


def _decoding(tokenizer: Tokenizer, path: Path) -> tuple[bool, bool]:
    """Whether tokens are byte-level, and whether a text's first space is not its own."""
    state = tokenizer.decoder.__getstate__() if tokenizer.decoder is not None else b"{}"
    decoder = json.loads(state)
    steps: list[dict[str, Any]] = decoder.get("decoders", [decoder])
    kinds = {step.get("type") for step in steps}
    if "ByteLevel" in kinds:
        return True, False
    if "Metaspace" in kinds:
        return False, any(step.get("prepend_scheme", "never") != "never" for step in steps)
    if "ByteFallback" in kinds:
        return False, any(step.get("type") == "Strip" and step.get("start") for step in steps)
    raise ModelError(
        f"{path}: its decoder is {' and '.join(sorted(map(str, kinds)))}; supported are ByteLevel, "
        "Metaspace and ByteFallback"
    )


def _variables(directory: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (directory / name).is_file():
            values = read_json(directory / name)
            for key in _NAMED:
                value = values.get(key)
                value = value.get("content") if isinstance(value, Mapping) else value
                if isinstance(value, str):
                    found[key] = value
    return found


def _ends(directory: Path, tokenizer: Tokenizer, variables: Mapping[str, str]) -> frozenset[int]:
    """All that any of the model's files calls an end: they differ, and each is right somewhere."""
    found: set[int] = set()
    for name in ("generation_config.json", "config.json"):
        if (directory / name).is_file():
            fields = Fields(read_json(directory / name), str(directory / name))
            found |= fields.integers("eos_token_id")
            found |= fields.part("text_config").integers("eos_token_id")
    if (end := variables.get("eos_token")) is not None:
        token = tokenizer.token_to_id(end)
        if token is None:
            raise ModelError(f"{directory}: its `eos_token` {end!r} is not in tokenizer.json")
        found.add(token)
    return frozenset(found)


def _letters() -> dict[str, bytes]:
    """Byte-level BPE writes bytes as printable letters: Latin-1 where that is printable, the
    letters from U+0100 on for the rest, in order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [value for value in range(256) if value not in set(printable)]
    letters = {chr(value): bytes([value]) for value in printable}
    return letters | {chr(0x100 + n): bytes([value]) for n, value in enumerate(others)}


_LETTERS = _letters()
