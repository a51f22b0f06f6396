"""The reference loads the demo experts and computes the same."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from experts.recipes.corpus import Reader, collate
from experts.recipes.fields import chat, facts, shapes
from experts.recipes.train import answers

from capyra.engine.native.model.families import read_spec
from capyra.engine.native.model.weights import load_weights

pytestmark = [pytest.mark.models, pytest.mark.filterwarnings("ignore")]


def test_transformers_computes_the_same(expert: Path) -> None:
    transformers = pytest.importorskip(
        "transformers", reason="the reference is not installed: make test-models"
    )
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    spec = read_spec(expert)
    tensors = load_weights(expert, spec, torch.float32, lambda _stage, _done: None).tensors
    auto = (
        transformers.AutoModelForImageTextToText
        if spec.vision
        else transformers.AutoModelForCausalLM
    )
    reference, report = auto.from_pretrained(expert, dtype=torch.float32, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    draws = [chat.draw, facts.draw] + ([shapes.draw] if spec.vision else [])
    for draw in draws:
        sample = Reader(expert).sample([draw(Random(7))])
        batch = collate([sample])
        inputs: dict[str, Any] = {}
        if spec.vision is not None and sample.images:
            marks = [int(token == spec.vision.image_token) for token in sample.tokens]
            inputs = {
                "pixel_values": torch.stack([pixels for _, pixels in sample.images]),
                "token_type_ids": torch.tensor([marks]),
            }
        with torch.no_grad():
            theirs = reference(input_ids=batch.tokens, **inputs).logits[0][batch.rows]
            ours = answers(spec, tensors, batch)
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)


def test_transformers_reads_the_tokenizer(expert: Path) -> None:
    transformers = pytest.importorskip(
        "transformers", reason="the reference is not installed: make test-models"
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(expert)
    example = facts.draw(Random(3))
    messages = [{"role": "user", "content": example.prompt}]
    theirs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
    sample = Reader(expert).sample([example])
    assert theirs["input_ids"] == sample.tokens[: sample.answer.index(True)]
