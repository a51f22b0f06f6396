from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from capyra.engine.errors import ModelError
from capyra.engine.native.model.families import parse_spec, read_spec
from capyra.engine.native.model.spec import LayerSpec

BASE: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}


def config(kind: str, **fields: Any) -> dict[str, Any]:
    return {"model_type": kind, **BASE, **fields}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            {"rope_theta": 500_000.0, "rope_scaling": None},
            {"rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0}},
        ),
        (
            {"rope_theta": 1e6, "rope_scaling": {"type": "linear", "factor": 2.0}},
            {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e6}},
        ),
        (
            {
                "rope_scaling": {
                    "rope_type": "yarn",
                    "factor": 4.0,
                    "original_max_position_embeddings": 128,
                }
            },
            {
                "rope_parameters": {
                    "rope_type": "yarn",
                    "factor": 4.0,
                    "original_max_position_embeddings": 128,
                    "rope_theta": 1e4,
                }
            },
        ),
    ],
)
def test_old_and_new_rope_settings_are_one(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert parse_spec(config("llama", **old)) == parse_spec(config("llama", **new))


def test_gemma3_in_the_old_style_scales_full_layers_only() -> None:
    fields = {
        "head_dim": 16,
        "rope_theta": 1e6,
        "rope_local_base_freq": 1e4,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        "sliding_window_pattern": 2,
        "sliding_window": 64,
    }
    spec = parse_spec(config("gemma3_text", **fields))
    assert spec.layers == (LayerSpec(64, 1), LayerSpec(None, 0))
    far, near = spec.ropes
    assert far.frequencies[0] == 1 / 8
    assert near.frequencies[0] == 1
    assert math.isclose(near.frequencies[1], 1e4 ** (-1 / 8), rel_tol=1e-6)


def test_phi4_mini_as_it_is_published() -> None:
    fields = {
        "partial_rotary_factor": 0.75,
        "original_max_position_embeddings": 128,
        "rope_scaling": {"type": "longrope", "short_factor": [1] * 6, "long_factor": [2] * 6},
        "sliding_window": 262_144,
        "tie_word_embeddings": True,
    }
    spec = parse_spec(config("phi3", **fields))
    (rope,) = spec.ropes
    assert len(rope.frequencies) == 6
    assert rope.long_frequencies is not None
    assert rope.long_frequencies[0] == 0.5
    assert math.isclose(rope.scale, math.sqrt(1 + math.log(4) / math.log(128)))
    assert spec.long_after == 128
    assert spec.fused
    assert spec.tied


def test_gemma3s_configuration_may_leave_nearly_everything_out() -> None:
    published = {
        "model_type": "gemma3",
        "mm_tokens_per_image": 256,
        "text_config": {
            "model_type": "gemma3_text",
            "hidden_size": 2560,
            "intermediate_size": 10240,
            "num_hidden_layers": 34,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
            "sliding_window": 1024,
        },
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": 1152,
            "image_size": 896,
            "intermediate_size": 4304,
            "num_attention_heads": 16,
            "num_hidden_layers": 27,
            "patch_size": 14,
            "vision_use_head": False,
        },
    }
    spec = parse_spec(published)
    assert (spec.heads, spec.kv_heads, spec.head_dim, spec.vocab_size) == (8, 4, 256, 262_208)
    assert (spec.context, spec.tied, spec.attention_scale) == (131_072, True, 1 / 16)
    assert [index for index, layer in enumerate(spec.layers) if layer.window is None] == [
        5,
        11,
        17,
        23,
        29,
    ]
    assert spec.vision is not None
    assert (spec.vision.patches_per_side, spec.vision.tokens_per_side) == (64, 16)


def test_cohere2_sees_far_by_content_alone() -> None:
    spec = parse_spec(config("cohere2", sliding_window=32, num_hidden_layers=4))
    near = LayerSpec(32, 0)
    assert spec.layers == (near, near, near, LayerSpec(None, None))
    assert spec.ropes[0].interleaved


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (config("bert"), r"`model_type` is \"bert\"; supported: cohere or cohere2 or gemma2"),
        ({"model_type": "llama"}, "`num_hidden_layers` is missing"),
        (config("llama", quantization_config={"bits": 4}), "`quantization_config` is"),
        (config("llama", hidden_act="relu"), '`hidden_act` is "relu"; supported: gelu or'),
        (config("llama", num_key_value_heads=3), "`num_key_value_heads` is 3; supported: a divis"),
        (config("llama", num_attention_heads=6), "`hidden_size` is 64; supported: a multiple"),
        (config("llama", hidden_size="64"), '`hidden_size` is "64"; supported: an integer'),
        (config("llama", hidden_size=True), "`hidden_size` is true"),
        (config("llama", rms_norm_eps=-1), "`rms_norm_eps` is -1; supported: a positive number"),
        (config("llama", tie_word_embeddings="yes"), "`tie_word_embeddings` is"),
        (config("llama", rope_scaling={"type": "dynamic", "factor": 2}), '`type` is "dynamic"'),
        (config("llama", rope_parameters={"rope_type": "llama3"}), "`factor` is missing"),
        (config("llama", rope_parameters=[1]), r"`rope_parameters` is \[1\]; supported: an obj"),
        (config("phi3", rope_scaling={"type": "linear", "factor": 2}), "`rope_type`"),
        (
            config(
                "phi3", rope_scaling={"type": "longrope", "short_factor": [1], "long_factor": 1}
            ),
            r"`short_factor` is \[1\]; supported: 8 positive numbers",
        ),
        (config("gemma2", use_bidirectional_attention=True), "`use_bidirectional_attention`"),
        (config("gemma2", layer_types=["chunked_attention"] * 2), "`layer_types`"),
        (config("gemma2", layer_types=["full_attention"]), "`layer_types` is .*2 strings"),
        (
            {
                "model_type": "gemma3",
                "vision_config": {"model_type": "clip"},
            },
            '`model_type` is "clip"',
        ),
        (
            {"model_type": "gemma3", "vision_config": {}, "mm_tokens_per_image": 15},
            "`mm_tokens_per_image` is 15; supported: the square of a divisor of the 14",
        ),
    ],
)
def test_what_cannot_be_computed_is_refused_by_name(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        parse_spec(fields)


def test_wrong_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json is missing: a model directory needs"):
        read_spec(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match="is no JSON"):
        read_spec(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ModelError, match="no JSON object"):
        read_spec(tmp_path)
