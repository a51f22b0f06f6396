"""Gemma 3 with eyes: pixels, features, and the decoder with images in it, against the reference."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from capyra.engine.native.batch import PlacedImage
from capyra.engine.native.model.decoder import dense_forward
from capyra.engine.native.model.images import ImageReader
from capyra.engine.native.model.layout import arrange
from capyra.engine.types import ImagePart

pytestmark = [pytest.mark.models, pytest.mark.filterwarnings("ignore")]

TOLERANCE = 1e-4
PLACEHOLDER = 310
SPAN = 9
SETTINGS: dict[str, Any] = {
    "text_config": {
        "vocab_size": 320,
        "hidden_size": 72,
        "intermediate_size": 100,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 20,
        "query_pre_attn_scalar": 24,
        "sliding_window": 6,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "max_position_embeddings": 512,
        "pad_token_id": 0,
    },
    "vision_config": {
        "hidden_size": 54,
        "intermediate_size": 80,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "image_size": 48,
        "patch_size": 8,
    },
    "mm_tokens_per_image": SPAN,
    "image_token_index": PLACEHOLDER,
    "boi_token_index": 311,
    "eoi_token_index": 312,
}


@pytest.fixture(scope="module")
def pair(make_pair: Callable[..., Any]) -> Any:
    return make_pair("gemma3", SETTINGS)


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(3))


def _conversation(prompt: Callable[[int], list[int]]) -> tuple[list[int], list[int]]:
    """Text, an image, text, an image, text; and where the images begin."""
    image = [PLACEHOLDER] * SPAN
    before, between, after = ([token % 300 for token in prompt(n)] for n in (21, 13, 30))
    tokens = [*before, 311, *image, 312, *between, 311, *image, 312, *after]
    first = len(before) + 1
    return tokens, [first, first + SPAN + len(between) + 2]


def _reference_inputs(tokens: list[int], pixels: torch.Tensor) -> dict[str, Any]:
    marks = [[int(token == PLACEHOLDER) for token in tokens]]
    return {"pixel_values": pixels, "token_type_ids": torch.tensor(marks)}


def test_features_equal_the_references(pair: Any, pixels: torch.Tensor) -> None:
    with torch.inference_mode():
        expected = pair.reference.model.get_image_features(pixels).pooler_output
    features = torch.stack([pair.ours.see(image) for image in pixels])
    assert expected.std() > 0.05
    torch.testing.assert_close(features, expected.view_as(features), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("chunks", [[200], [22, 12, 200], [31, 15, 9, 200]])
def test_logits_with_images_equal_the_references(
    pair: Any, table: Any, prompt: Any, pixels: torch.Tensor, chunks: list[int]
) -> None:
    tokens, starts = _conversation(prompt)
    expected = pair.reference_logits(tokens, **_reference_inputs(tokens, pixels))
    features = [pair.ours.see(image) for image in pixels]
    serving = table(pair.ours)
    served = serving.add(tokens, list(map(PlacedImage, starts, features)))
    parts = []
    for chunk in chunks:
        count = min(chunk, len(tokens) - served.computed)
        parts += serving.step([(served, count)], [])
    torch.testing.assert_close(torch.cat(parts), expected, atol=TOLERANCE, rtol=0)


def test_greedy_answers_about_images_equal_the_references(
    pair: Any, table: Any, prompt: Any, pixels: torch.Tensor
) -> None:
    tokens, starts = _conversation(prompt)
    plain = [token % 300 for token in prompt(40)]
    features = [pair.ours.see(image) for image in pixels]
    serving = table(pair.ours)
    seen = serving.add(tokens, list(map(PlacedImage, starts, features)))
    answers = serving.answer([seen, serving.add(plain)], 64)
    expected = pair.reference_answer(tokens, 64, **_reference_inputs(tokens, pixels))
    assert answers == [expected, pair.reference_answer(plain, 64)]


def test_an_image_must_not_be_cut(pair: Any, table: Any, prompt: Any, pixels: torch.Tensor) -> None:
    tokens, starts = _conversation(prompt)
    serving = table(pair.ours)
    served = serving.add(tokens, [PlacedImage(starts[0], pair.ours.see(pixels[0]))])
    with pytest.raises(AssertionError, match="whole"):
        serving.step([(served, starts[0] + 3)], [])


def test_training_sees_images_too(pair: Any, prompt: Any, pixels: torch.Tensor) -> None:
    tokens, starts = _conversation(prompt)
    plain = ([token % 300 for token in prompt(40)] + [0] * len(tokens))[: len(tokens)]
    placed = [(start, pair.ours.see(image)) for start, image in zip(starts, pixels, strict=True)]
    with torch.no_grad():
        weights = arrange(pair.ours.spec, pair.ours.weights.tensors)
        ids = torch.tensor([tokens, plain])
        logits = dense_forward(pair.ours.spec, weights, ids, [placed, []])
    expected = pair.reference_logits(tokens, **_reference_inputs(tokens, pixels))
    torch.testing.assert_close(logits[0], expected, atol=TOLERANCE, rtol=0)
    expected = pair.reference_logits(plain[:40])
    torch.testing.assert_close(logits[1, :40], expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_pixels_equal_the_references(
    transformers: Any, pair: Any, tmp_path: Path, mode: str
) -> None:
    processor = transformers.Gemma3ImageProcessorPil(size={"height": 48, "width": 48})
    processor.save_pretrained(tmp_path)
    noise = np.random.default_rng(5).integers(0, 256, (37, 61, 3), dtype=np.uint8)
    image = Image.fromarray(noise).convert(mode)
    data = io.BytesIO()
    image.save(data, "PNG")
    reader = ImageReader.of(tmp_path, pair.ours.spec.vision)
    ours = reader.read(ImagePart(data.getvalue(), "image/png"))
    expected = processor([image.convert("RGB")], return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)
