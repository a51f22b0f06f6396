"""What must be known of a model before vLLM reads it: context, vocabulary, size of its K/V."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from capyra.engine.native.model.fields import Fields, read_json

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_DEFAULT_BLOCK = 128
"""vLLM's own choice on a CPU, and no less than on a GPU."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One model, from its `config.json`. `kv_heads` × `head_dim` is what a layer keeps of a
    token, twice."""

    context: int
    vocabulary: int
    layers: int
    kv_heads: int
    head_dim: int
    dtype: str

    @classmethod
    def of(cls, directory: Path) -> Shape:
        """`ModelError` if the directory has no such file, or the file lacks these fields."""
        path = directory / "config.json"
        whole = Fields(read_json(path), str(path))
        fields = whole.part("text_config") if "text_config" in whole else whole
        heads = fields.integer("num_attention_heads")
        hidden = fields.integer("hidden_size")
        stored = read_json(path)
        return cls(
            context=fields.integer("max_position_embeddings"),
            vocabulary=fields.integer("vocab_size"),
            layers=fields.integer("num_hidden_layers"),
            kv_heads=fields.integer("num_key_value_heads", heads),
            head_dim=fields.integer("head_dim", hidden // heads),
            dtype=str(stored.get("torch_dtype") or stored.get("dtype") or "float32"),
        )

    def kv_bytes(self, context: int, running: int, dtype: str, block: int | None) -> int:
        """Enough for one full context and a block for each running answer to write on. Layers
        with windows are counted as full ones: what they do not need, others can have."""
        size = block or _DEFAULT_BLOCK
        # vLLM keeps one block for itself.
        blocks = -(-context // size) + running + 1
        return 2 * self.layers * self.kv_heads * self.head_dim * _BYTES[dtype] * size * blocks
