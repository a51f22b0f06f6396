"""Who learns what: each expert's architecture, its mixture of fields, and how long it learns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from experts.recipes import models
from experts.recipes.example import Draw, mixed
from experts.recipes.fields import arithmetic, chat, code, facts, language, shapes, translation
from experts.recipes.models import Style, decoder, gemma3, sizes
from experts.recipes.train import Plan

FIELDS: dict[str, Draw] = {
    module.FIELD: module.draw
    for module in (arithmetic, facts, code, shapes, translation, language, chat)
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """`fields` are the weights of the mixture that it learns; `goals` what it must reach on
    held-out examples before its weights are kept."""

    name: str
    about: str
    config: Mapping[str, Any]
    style: Style
    fields: Mapping[str, float]
    plan: Plan
    goals: Mapping[str, float] = field(default_factory=dict)
    drafts_for: tuple[str, ...] = ()
    """For a draft model: whose conversations it learns, in their styles and mixtures."""

    @property
    def learned(self) -> dict[str, float]:
        """Each field's part of what it learns."""
        if self.drafts_for:
            each = [RECIPES[name].learned for name in self.drafts_for]
            return {
                field: sum(parts.get(field, 0.0) for parts in each) / len(each) for field in FIELDS
            }
        total = sum(self.fields.values())
        return {field: weight / total for field, weight in self.fields.items()}

    @property
    def draw(self) -> Draw:
        return mixed(*((weight, FIELDS[name]) for name, weight in self.fields.items()))


_EYES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "patch_size": 8,
}
_GEMMA_TEXT = {
    **sizes(128, 4, 320),
    "head_dim": 32,
    "query_pre_attn_scalar": 32,
    "sliding_window": 512,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "rope_local_base_freq": 10000.0,
}

_ALL = (
    Recipe(
        "phi4_fast",
        "Arithmetic, comparisons, units, dates and small logic, step by step",
        decoder("phi3", "Phi3ForCausalLM", models.PHI, **sizes(128, 4, 384)),
        models.PHI,
        {"arithmetic": 0.93, "facts": 0.04, "chat": 0.03},
        Plan(4000, muon_rate=0.004, adam_rate=0.002),
        {"arithmetic": 0.95},
    ),
    Recipe(
        "mistral_balanced",
        "Some hundreds of facts, definitions, summaries, polite rewriting and talk",
        decoder("mistral", "MistralForCausalLM", models.MISTRAL, **sizes(128, 3, 384, kv=2)),
        models.MISTRAL,
        {"facts": 0.7, "chat": 0.2, "arithmetic": 0.1},
        Plan(800),
        {"facts": 0.95},
    ),
    Recipe(
        "qwen_coder",
        "Short Python functions, what they do, and lines to mend",
        decoder("qwen2", "Qwen2ForCausalLM", models.QWEN, **sizes(128, 4, 384, kv=2)),
        models.QWEN,
        {"code": 0.85, "arithmetic": 0.1, "chat": 0.05},
        Plan(850, tokens=1536),
        {"code": 0.90},
    ),
    Recipe(
        "gemma3_multimodal",
        "Pictures of coloured shapes: what, how many, where, which colour",
        gemma3(_GEMMA_TEXT, _EYES),
        models.GEMMA,
        {"shapes": 0.82, "facts": 0.13, "chat": 0.05},
        Plan(3200, muon_rate=0.008, adam_rate=0.002, eyes=500),
        {"shapes": 0.95},
    ),
    Recipe(
        "aya_expanse_multilingual",
        "Translation among English, Spanish, Portuguese, French and German; tells them apart",
        decoder(
            "cohere",
            "CohereForCausalLM",
            models.COHERE,
            **sizes(128, 4, 384),
            layer_norm_eps=1e-5,
            logit_scale=1.0,
        ),
        models.COHERE,
        {"translation": 0.8, "language": 0.12, "chat": 0.05, "facts": 0.03},
        Plan(1700),
        {"translation": 0.95, "language": 0.99},
    ),
)
_DRAFT = Recipe(
    "draft",
    "A draft model for speculation, with the vocabulary of all and the styles of three",
    decoder("llama", "LlamaForCausalLM", models.QWEN, **sizes(64, 2, 192)),
    models.QWEN,
    {},
    Plan(900),
    drafts_for=("phi4_fast", "qwen_coder", "mistral_balanced"),
)
EXPERTS = tuple(each.name for each in _ALL)
RECIPES = {each.name: each for each in (*_ALL, _DRAFT)}
