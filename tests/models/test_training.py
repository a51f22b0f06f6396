"""A checkpoint made here is one that the reference reads, and computes the same with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from capyra.engine.native.model.decoder import dense_forward
from capyra.engine.native.model.families import parse_spec
from capyra.engine.native.model.layout import arrange, arrange_vision
from capyra.engine.native.model.training import initial_parameters, save_parameters
from capyra.engine.native.model.vision import look

pytestmark = [pytest.mark.models, pytest.mark.filterwarnings("ignore")]

_TEXT = {
    "vocab_size": 90,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CONFIGS: list[dict[str, Any]] = [
    {"model_type": kind, **_TEXT} for kind in ("mistral", "qwen2", "phi3", "cohere")
] + [
    {
        "model_type": "gemma3",
        "text_config": {"model_type": "gemma3_text", **_TEXT},
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": 24,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 16,
            "patch_size": 4,
            "vision_use_head": False,
        },
        "mm_tokens_per_image": 4,
        "image_token_index": 80,
        "boi_token_index": 81,
        "eoi_token_index": 82,
    }
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: str(config["model_type"]))
def test_the_reference_reads_what_was_trained_here(
    transformers: Any, tmp_path: Path, config: dict[str, Any]
) -> None:
    spec = parse_spec(config)
    parameters = initial_parameters(spec, seed=7, deviation=0.3)
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_parameters(spec, parameters, tmp_path, torch.float32)
    auto = (
        transformers.AutoModelForImageTextToText
        if spec.vision
        else transformers.AutoModelForCausalLM
    )
    reference, report = auto.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    tokens = [5, 81, 80, 80, 80, 80, 82, 9, 33] if spec.vision else [5, 9, 33, 60, 61]
    inputs: dict[str, Any] = {}
    images: list[list[tuple[int, torch.Tensor]]] = []
    if spec.vision:
        pixels = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        marks = [[int(token == 80) for token in tokens]]
        inputs = {"pixel_values": pixels, "token_type_ids": torch.tensor(marks)}
        images = [[(2, look(spec, arrange_vision(spec.vision, parameters), pixels)[0])]]
    with torch.no_grad():
        ours = dense_forward(spec, arrange(spec, parameters), torch.tensor([tokens]), images)
        theirs = reference(input_ids=torch.tensor([tokens]), **inputs).logits
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
