"""The five experts and the draft model as Hugging Face directories: architecture, chat template
and the small files around them. Weights and tokenizer come from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experts.recipes.vocabulary import PAD, SIZE, token_id

CONTEXT = 1024
IMAGE_SIDE = 48
IMAGE_TOKENS = 9


@dataclass(frozen=True, slots=True)
class Style:
    """How a family writes a conversation."""

    template: str
    begin: str | None
    end: str


PHI = Style(
    """\
{%- for message in messages -%}
{{ '<|' + message.role + '|>\\n' + message.content + '<|end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|assistant|>\\n' }}{%- endif -%}
""",
    None,
    "<|end|>",
)
MISTRAL = Style(
    """\
{{- bos_token -}}
{%- for message in messages -%}
{%- if message.role == 'assistant' -%}{{ message.content + eos_token }}
{%- else -%}{{ '[INST]' + message.content + '[/INST]' }}{%- endif -%}
{%- endfor -%}
""",
    "<s>",
    "</s>",
)
QWEN = Style(
    """\
{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
""",
    None,
    "<|im_end|>",
)
GEMMA = Style(
    """\
{{- bos_token -}}
{%- for message in messages -%}
{{ '<start_of_turn>' + ('model' if message.role == 'assistant' else 'user') + '\\n' }}
{%- if message.content is string -%}{{ message.content }}
{%- else -%}{%- for part in message.content -%}
{{ '<start_of_image>' if part.type == 'image' else part.text }}{%- endfor -%}{%- endif -%}
{{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}
""",
    "<bos>",
    "<end_of_turn>",
)
COHERE = Style(
    """\
{{- bos_token -}}
{%- for message in messages -%}
{{ '<|START_OF_TURN_TOKEN|>' }}
{{- '<|CHATBOT_TOKEN|>' if message.role == 'assistant' else '<|USER_TOKEN|>' }}
{{- message.content + '<|END_OF_TURN_TOKEN|>' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}{%- endif -%}
""",
    "<BOS_TOKEN>",
    "<|END_OF_TURN_TOKEN|>",
)


def decoder(model_type: str, architecture: str, style: Style, **sizes: Any) -> dict[str, Any]:
    """A `config.json`. What is not said is the same in all of them."""
    ends = {
        "bos_token_id": token_id(style.begin) if style.begin else None,
        "eos_token_id": token_id(style.end),
        "pad_token_id": token_id(PAD),
    }
    return {
        "architectures": [architecture],
        "model_type": model_type,
        "vocab_size": SIZE,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        **ends,
        **sizes,
    }


def sizes(
    hidden: int, layers: int, inner: int, head: int = 32, kv: int | None = None
) -> dict[str, int]:
    heads = hidden // head
    return {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv or heads,
    }


def gemma3(text: Mapping[str, Any], eyes: Mapping[str, Any]) -> dict[str, Any]:
    inner = decoder("gemma3_text", "Gemma3ForCausalLM", GEMMA, **text)
    outer = ("bos_token_id", "eos_token_id", "pad_token_id", "tie_word_embeddings", "torch_dtype")
    return {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "model_type": "gemma3",
        "text_config": inner,
        "vision_config": {
            "model_type": "siglip_vision_model",
            "image_size": IMAGE_SIDE,
            "vision_use_head": False,
            **eyes,
        },
        "mm_tokens_per_image": IMAGE_TOKENS,
        "image_token_index": token_id("<image_soft_token>"),
        "boi_token_index": token_id("<start_of_image>"),
        "eoi_token_index": token_id("<end_of_image>"),
        **{name: inner[name] for name in outer},
    }


def write_model(folder: Path, config: Mapping[str, Any], style: Style) -> None:
    """All small files of a model but its tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "config.json", config)
    names = {"eos_token": style.end, "pad_token": PAD}
    if style.begin is not None:
        names["bos_token"] = style.begin
    tokenizer = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": CONTEXT, **names}
    _write(folder / "tokenizer_config.json", tokenizer)
    (folder / "chat_template.jinja").write_text(style.template)
    ends = {name: config[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    _write(folder / "generation_config.json", {**ends, "do_sample": False})
    if "vision_config" in config:
        size = {"height": IMAGE_SIDE, "width": IMAGE_SIDE}
        processor = {
            "image_processor_type": "Gemma3ImageProcessor",
            "size": size,
            "resample": 2,
            "image_seq_length": IMAGE_TOKENS,
        }
        _write(folder / "preprocessor_config.json", processor)


def _write(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=1) + "\n")
