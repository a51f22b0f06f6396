"""From a Hugging Face `config.json` to a `DecoderSpec`: one small reader for each family.

What is left out of a configuration has the value that `transformers` gives it. A field that
changes the computation in a way that is not built here is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from capyra.engine.native.model.fields import Fields, read_json
from capyra.engine.native.model.rope import parse_rope, rope_settings
from capyra.engine.native.model.spec import Activation, DecoderSpec, LayerSpec, Rope, VisionSpec

_ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}


def read_spec(directory: Path) -> DecoderSpec:
    """The spec of the model in that directory. `ModelError` if it is none that runs here."""
    path = directory / "config.json"
    return parse_spec(read_json(path), str(path))


def parse_spec(config: dict[str, Any], where: str = "config.json") -> DecoderSpec:
    fields = Fields(config, where)
    fields.must_be("quantization_config")
    return fields.choice("model_type", _FAMILIES)(fields)


def _llama(config: Fields) -> DecoderSpec:
    config.must_be("pretraining_tp", 1)
    bias = config.flag("attention_bias", False)
    return _decoder(
        config,
        family="llama",
        layers=_uniform(config, None),
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=config.flag("mlp_bias", False),
    )


def _mistral(config: Fields) -> DecoderSpec:
    window = config.integer("sliding_window") if "sliding_window" in config else None
    return _decoder(config, family="mistral", layers=_uniform(config, window))


def _qwen2(config: Fields) -> DecoderSpec:
    return _decoder(config, family="qwen2", layers=_qwen_layers(config), qkv_bias=True)


def _qwen3(config: Fields) -> DecoderSpec:
    bias = config.flag("attention_bias", False)
    return _decoder(
        config.merged({"head_dim": 128}),
        family="qwen3",
        layers=_qwen_layers(config),
        qk_norm=True,
        qkv_bias=bias,
        out_bias=bias,
    )


def _phi3(config: Fields) -> DecoderSpec:
    window = config.integer("sliding_window") if "sliding_window" in config else None
    settings = rope_settings(config, 10_000.0)
    if "partial_rotary_factor" in config:
        settings = settings.merged(
            {"partial_rotary_factor": config.number("partial_rotary_factor")}
        )
    settings.must_be("rope_type", "default", "longrope")
    rope = parse_rope(settings, _head_dim(config))
    original = settings.integer("original_max_position_embeddings")
    return _decoder(
        config.merged({"rms_norm_eps": 1e-5}),
        family="phi3",
        layers=_uniform(config, window),
        ropes=(rope,),
        fused=True,
        long_after=original if rope.long_frequencies is not None else None,
    )


def _gemma2(config: Fields) -> DecoderSpec:
    return _gemma(
        config.merged({"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}),
        family="gemma2",
        layers=_patterned(config, _layer_types(config, pattern=2), rope_of={}),
    )


def _gemma3_text(config: Fields, vision: VisionSpec | None = None) -> DecoderSpec:
    config = config.merged({"max_position_embeddings": 131_072, "vocab_size": 262_208})
    pattern = config.integer("sliding_window_pattern", 6)
    head_dim = config.integer("head_dim", 256)
    local = rope_settings(config, config.number("rope_local_base_freq", 10_000.0), _SLIDING)
    if "rope_parameters" not in config:
        # Old style: `rope_scaling` and `rope_theta` speak of the full layers only.
        local = local.without("rope_theta", "rope_type", "type", "factor").merged(
            {"rope_theta": config.number("rope_local_base_freq", 10_000.0), "rope_type": "default"}
        )
    ropes = parse_rope(rope_settings(config, 1e6, _FULL), head_dim), parse_rope(local, head_dim)
    return _gemma(
        config,
        family="gemma3",
        layers=_patterned(
            config, _layer_types(config, pattern=pattern), rope_of={_FULL: 0, _SLIDING: 1}
        ),
        ropes=ropes,
        qk_norm=True,
        vision=vision,
    )


def _gemma3(config: Fields) -> DecoderSpec:
    tower = config.part("vision_config")
    tower.must_be("model_type", "siglip_vision_model")
    vision = VisionSpec(
        hidden_size=tower.integer("hidden_size", 768),
        intermediate_size=tower.integer("intermediate_size", 3072),
        layers=tower.integer("num_hidden_layers", 12),
        heads=tower.integer("num_attention_heads", 12),
        image_size=tower.integer("image_size", 224),
        patch_size=tower.integer("patch_size", 16),
        channels=tower.integer("num_channels", 3),
        norm_eps=tower.number("layer_norm_eps", 1e-6),
        activation=tower.choice("hidden_act", _ACTIVATIONS, "gelu_pytorch_tanh"),
        tokens=config.integer("mm_tokens_per_image", 256),
        image_token=config.integer("image_token_index", 262_144, least=0),
        begin_token=config.integer("boi_token_index", 255_999, least=0),
        end_token=config.integer("eoi_token_index", 256_000, least=0),
    )
    if vision.tokens_per_side**2 != vision.tokens or (
        vision.patches_per_side % vision.tokens_per_side
    ):
        raise config.wrong(
            "mm_tokens_per_image",
            f"the square of a divisor of the {vision.patches_per_side} patches of a side",
        )
    text = config.part("text_config")
    text.must_be("model_type", "gemma3_text")
    tied = {"tie_word_embeddings": config.flag("tie_word_embeddings", True)}
    return _gemma3_text(text.merged(tied), vision)


def _gemma(config: Fields, **rest: Any) -> DecoderSpec:
    """What Gemma 2 and Gemma 3 have in common."""
    config.must_be("use_bidirectional_attention", False)
    config = config.merged(
        {
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 256,
            "hidden_size": 2304,
            "intermediate_size": 9216,
            "num_hidden_layers": 26,
            "vocab_size": 256_000,
            "max_position_embeddings": 8192,
            "tie_word_embeddings": True,
        }
    )
    bias = config.flag("attention_bias", False)
    activation = "hidden_activation" if "hidden_activation" in config else "hidden_act"
    caps: dict[str, Any] = {
        ours: config.number(theirs) if theirs in config else None
        for ours, theirs in (
            ("attention_softcap", "attn_logit_softcapping"),
            ("logit_softcap", "final_logit_softcapping"),
        )
    }
    return _decoder(
        config,
        norm="gemma",
        placement="sandwich",
        activation=config.choice(activation, _ACTIVATIONS, "gelu_pytorch_tanh"),
        attention_scale=config.number("query_pre_attn_scalar", 256) ** -0.5,
        embedding_scale=config.integer("hidden_size") ** 0.5,
        qkv_bias=bias,
        out_bias=bias,
        **caps,
        **rest,
    )


def _cohere(config: Fields) -> DecoderSpec:
    qk_norm = config.flag("use_qk_norm", False)
    return _parallel(
        config,
        family="cohere",
        layers=_uniform(config, None),
        qk_norm=qk_norm,
        qk_norm_per_head=qk_norm,
        ropes=(parse_rope(rope_settings(config, 500_000.0), _head_dim(config), interleaved=True),),
    )


def _cohere2(config: Fields) -> DecoderSpec:
    pattern = config.integer("sliding_window_pattern", 4)
    # Full layers have no rotation: they see by content alone.
    layers = _patterned(
        config,
        _layer_types(config, pattern=pattern),
        rope_of={_FULL: None, _SLIDING: 0},
    )
    rope = parse_rope(rope_settings(config, 10_000.0), _head_dim(config), interleaved=True)
    return _parallel(config, family="cohere2", layers=layers, ropes=(rope,))


def _parallel(config: Fields, **rest: Any) -> DecoderSpec:
    bias = config.flag("attention_bias", False)
    return _decoder(
        config.merged({"tie_word_embeddings": True, "max_position_embeddings": 8192}),
        norm="layer",
        norm_eps=config.number("layer_norm_eps", 1e-5),
        placement="parallel",
        logit_scale=config.number("logit_scale", 0.0625),
        qkv_bias=bias,
        out_bias=bias,
        **rest,
    )


def _decoder(config: Fields, *, ropes: tuple[Rope, ...] = (), **rest: Any) -> DecoderSpec:
    """What all families have in common, and `rest`, which goes over it."""
    heads = config.integer("num_attention_heads")
    kv_heads = config.integer("num_key_value_heads", heads)
    if heads % kv_heads:
        raise config.wrong("num_key_value_heads", f"a divisor of num_attention_heads ({heads})")
    head_dim = _head_dim(config)
    common: dict[str, Any] = {
        "vocab_size": config.integer("vocab_size"),
        "hidden_size": config.integer("hidden_size"),
        "intermediate_size": config.integer("intermediate_size"),
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": head_dim,
        "ropes": ropes or (parse_rope(rope_settings(config, 10_000.0), head_dim),),
        "context": config.integer("max_position_embeddings"),
        "norm": "rms",
        "norm_eps": config.number("rms_norm_eps", 1e-6),
        "tied": config.flag("tie_word_embeddings", False),
        "attention_scale": head_dim**-0.5,
    }
    if "activation" not in rest:
        common["activation"] = config.choice("hidden_act", _ACTIVATIONS, "silu")
    return DecoderSpec(**{**common, **rest})


def _head_dim(config: Fields) -> int:
    hidden, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    if "head_dim" not in config and hidden % heads:
        raise config.wrong("hidden_size", f"a multiple of num_attention_heads ({heads})")
    return config.integer("head_dim", hidden // heads)


def _uniform(config: Fields, window: int | None) -> tuple[LayerSpec, ...]:
    return (LayerSpec(window, 0),) * config.integer("num_hidden_layers")


_FULL, _SLIDING = "full_attention", "sliding_attention"


def _layer_types(config: Fields, *, pattern: int) -> list[str]:
    """As listed, or every `pattern`th layer full."""
    count = config.integer("num_hidden_layers", 26)
    if "layer_types" in config:
        return config.strings("layer_types", count)
    return [_FULL if (index + 1) % pattern == 0 else _SLIDING for index in range(count)]


def _qwen_layers(config: Fields) -> tuple[LayerSpec, ...]:
    count = config.integer("num_hidden_layers")
    if not config.flag("use_sliding_window", False):
        return (LayerSpec(None, 0),) * count
    first = config.integer("max_window_layers", 28, least=0)
    types = [_FULL if index < first else _SLIDING for index in range(count)]
    if "layer_types" in config:
        types = config.strings("layer_types", count)
    return _patterned(config, types, rope_of={})


def _patterned(
    config: Fields, types: list[str], rope_of: dict[str, int | None]
) -> tuple[LayerSpec, ...]:
    """Sliding and full layers. `rope_of` says which rotation each kind has, by default the one."""
    if unknown := set(types) - {_FULL, _SLIDING}:
        raise config.wrong("layer_types", f"{_FULL} and {_SLIDING}, not {unknown.pop()}")
    window = config.integer("sliding_window", 4096) if _SLIDING in types else None
    return tuple(
        LayerSpec(window if kind == _SLIDING else None, rope_of.get(kind, 0)) for kind in types
    )


_FAMILIES: dict[str, Callable[[Fields], DecoderSpec]] = {
    "llama": _llama,
    "mistral": _mistral,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "phi3": _phi3,
    "gemma2": _gemma2,
    "gemma3_text": _gemma3_text,
    "gemma3": _gemma3,
    "cohere": _cohere,
    "cohere2": _cohere2,
}
FAMILIES = tuple(_FAMILIES)
"""The `model_type`s that run here."""
