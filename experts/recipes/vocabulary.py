"""The one tokenizer of all demo experts: byte-level BPE, trained on what the recipes write.

Digits stand alone, so that a column of a sum is the same tokens wherever it stands. All families'
control tokens are in it, so that any expert can draft for, or verify, any other.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from experts.recipes.example import Draw, stream

SIZE = 2048
VOCABULARY = Path(__file__).with_name("tokenizer.json")
"""Frozen: one expert can be trained anew beside the others only if it keeps what they share."""
PAD = "<pad>"
CONTROL = (
    PAD,
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<bos>",
    "<eos>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<start_of_image>",
    "<end_of_image>",
    "<image_soft_token>",
    "<BOS_TOKEN>",
    "<EOS_TOKEN>",
    "<|START_OF_TURN_TOKEN|>",
    "<|END_OF_TURN_TOKEN|>",
    "<|SYSTEM_TOKEN|>",
    "<|USER_TOKEN|>",
    "<|CHATBOT_TOKEN|>",
)
_PIECES = r" ?\d| ?\p{L}+|\n+ *| {2,}(?=\S)| ?[^\s\p{L}\d]|\s+"
"""A digit, a word, a line's end with its indentation, a sign. No token crosses them."""


def train_tokenizer(draws: Iterable[Draw], each: int = 6000) -> Tokenizer:
    """From so many training examples of every field. Held-out text has no part in it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE,
        special_tokens=[AddedToken(name, special=True) for name in CONTROL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = (
        text
        for draw in draws
        for example in islice(stream(draw, "vocabulary", held=False), each)
        for text in (example.prompt, example.answer)
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def token_id(name: str) -> int:
    """Of a control token: they come first."""
    return CONTROL.index(name)


def save_tokenizer(tokenizer: Tokenizer, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path), pretty=False)
