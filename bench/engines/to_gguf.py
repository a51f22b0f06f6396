"""A Llama's safetensors as GGUF, in bfloat16 and without a vocabulary. Runs in llama.cpp's
environment: python to_gguf.py MODEL FILE"""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

import gguf
import numpy as np

NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
OUTER = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


def main(model: Path, file: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    writer.add_tokenizer_model("no_vocab")
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    for name, bits in tensors(model / "model.safetensors"):
        for projection, count in heads.items():
            if projection in name:
                bits = neighbours(bits, count)
        if bits.ndim == 1:
            # Norms are read as float32.
            writer.add_tensor(ours(name), (bits.astype(np.uint32) << 16).view(np.float32))
            continue
        raw = np.ascontiguousarray(bits).view(np.uint8)
        writer.add_tensor(ours(name), raw, raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tensors(file: Path):
    """Every tensor of a bfloat16 checkpoint as its raw bits, mapped."""
    with file.open("rb") as start:
        (length,) = struct.unpack("<Q", start.read(8))
        header = json.loads(start.read(length))
    data = np.memmap(file, np.uint8, mode="r", offset=8 + length)
    for name, entry in header.items():
        if name != "__metadata__":
            assert entry["dtype"] == "BF16", name
            first, end = entry["data_offsets"]
            yield name, data[first:end].view(np.uint16).reshape(entry["shape"])


def neighbours(bits: np.ndarray, heads: int) -> np.ndarray:
    """Rows in the order of rotated pairs that are neighbours: they are halves of a head there."""
    return bits.reshape(heads, 2, -1, bits.shape[-1]).swapaxes(1, 2).reshape(bits.shape)


def ours(name: str) -> str:
    if name in OUTER:
        return OUTER[name]
    layer, _, rest = name.removeprefix("model.layers.").partition(".")
    return f"blk.{layer}.{NAMES[rest.removesuffix('.weight')]}.weight"


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
