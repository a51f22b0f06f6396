"""llama.cpp through the C functions that llama-cpp-python brings, in batches of sequences. Of
prefixes it keeps the last sequence's, as that library's own class does."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import llama_cpp as llama
import numpy as np
from lines import Answer, Driver, Request, in_turn, serve

SEQUENCES = 16
CONTEXT = 16384
BATCH = 2048


class LlamaCpp(Driver):
    def __init__(self) -> None:
        llama.llama_backend_init()
        self._model = self._context = None
        self._kept: tuple[str, list[int]] = "", []
        """Whose tokens sequence 0 holds, and which."""

    def load(self, model: str, threads: int) -> None:
        options = llama.llama_model_default_params()
        self._model = llama.llama_model_load_from_file(f"{model}/model.gguf".encode(), options)
        if not self._model:
            raise RuntimeError("the GGUF file does not load")
        settings = llama.llama_context_default_params()
        settings.n_ctx, settings.n_batch, settings.n_seq_max = CONTEXT, BATCH, SEQUENCES
        settings.n_threads = settings.n_threads_batch = threads
        settings.kv_unified = True
        self._context = llama.llama_init_from_model(self._model, settings)
        if not self._context:
            raise RuntimeError("there is no context")
        self._vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self._model))
        self._batch = llama.llama_batch_init(BATCH, 0, 1)

    def unload(self) -> None:
        llama.llama_batch_free(self._batch)
        llama.llama_free(self._context)
        llama.llama_model_free(self._model)
        self._kept = "", []

    def run(self, requests: list[Request]) -> list[Answer]:
        return in_turn(requests, self._compute)

    def _compute(self, requests: list[Request]) -> Iterator[list[int]]:
        known = self._forget(requests)
        length = len(requests[0].tokens)
        tokens = self._prefill(requests, known)
        yield tokens
        for place in range(length, length + requests[0].count - 1):
            rows = [(token, place, number, True) for number, token in enumerate(tokens)]
            tokens = self._decode(rows)
            yield tokens
        self._kept = requests[0].salt, requests[0].tokens

    def _forget(self, requests: list[Request]) -> int:
        """Everything but the prefix of a single request; how long that is."""
        memory = llama.llama_get_memory(self._context)
        known = 0
        salt, kept = self._kept
        if len(requests) == 1 and salt == requests[0].salt:
            wanted = requests[0].tokens[:-1]
            while known < min(len(kept), len(wanted)) and kept[known] == wanted[known]:
                known += 1
        llama.llama_memory_seq_rm(memory, 0, known, -1)
        for number in range(1, SEQUENCES):
            llama.llama_memory_seq_rm(memory, number, -1, -1)
        return known

    def _prefill(self, requests: list[Request], known: int) -> list[int]:
        rows = [
            (token, place, number, place == len(request.tokens) - 1)
            for number, request in enumerate(requests)
            for place, token in enumerate(request.tokens)
            if place >= known
        ]
        found: list[int] = []
        for first in range(0, len(rows), BATCH):
            found += self._decode(rows[first : first + BATCH])
        return found

    def _decode(self, rows: list[tuple[int, int, int, bool]]) -> list[int]:
        """Token, position, sequence, whether its successor is wanted → those successors."""
        batch = self._batch
        batch.n_tokens = len(rows)
        for index, (token, place, number, wanted) in enumerate(rows):
            batch.token[index] = token
            batch.pos[index] = place
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = number
            batch.logits[index] = wanted
        if code := llama.llama_decode(self._context, batch):
            raise RuntimeError(f"llama_decode gave {code}")
        return [self._best(index) for index, (_, _, _, wanted) in enumerate(rows) if wanted]

    def _best(self, index: int) -> int:
        logits = llama.llama_get_logits_ith(self._context, ctypes.c_int32(index))
        return int(np.ctypeslib.as_array(logits, (self._vocabulary,)).argmax())


if __name__ == "__main__":
    serve(LlamaCpp)
