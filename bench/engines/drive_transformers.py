"""transformers, eager, with a loop as bare as it can be: its own `generate` would only add to it.
It keeps no prefixes."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import torch
import transformers
from lines import Answer, Driver, Request, in_turn, serve


class Transformers(Driver):
    def __init__(self) -> None:
        self._model: transformers.PreTrainedModel | None = None
        # The lazy parts of the library that a first load would import.
        _ = transformers.LlamaForCausalLM, transformers.DynamicCache

    def load(self, model: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self._model = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16)

    def unload(self) -> None:
        self._model = None
        gc.collect()

    def run(self, requests: list[Request]) -> list[Answer]:
        with torch.inference_mode():
            return in_turn(requests, self._compute)

    def _compute(self, requests: list[Request]) -> Iterator[list[int]]:
        assert self._model is not None
        cache = transformers.DynamicCache()
        rows = torch.tensor([request.tokens for request in requests])
        for _ in range(requests[0].count):
            found = self._model(rows, past_key_values=cache, use_cache=True, logits_to_keep=1)
            rows = found.logits[:, -1].argmax(-1, keepdim=True)
            yield rows.flatten().tolist()


if __name__ == "__main__":
    serve(Transformers)
