"""The models of the native engine: one decoder described by a spec, and what feeds it.

`families` reads a Hugging Face `config.json` into a `spec`; `layout` says which tensors that
takes; `weights` maps them from safetensors files; `decoder` computes, paged for serving and dense
for training; `vision` and `images` give it eyes.
"""
