"""Small random models in ordinary Hugging Face layout, and a way to serve them without the
scheduler: every step is put together by hand."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from capyra.engine.native.batch import PlacedImage, Run, StepBatch
from capyra.engine.native.blocks import BLOCK_TOKENS, NO_BLOCK, blocks_for
from capyra.engine.native.model.decoder import Decoder
from capyra.engine.native.model.families import read_spec
from capyra.engine.native.model.ops import TORCH, Ops
from capyra.engine.native.model.weights import load_weights

VOCAB = 320
POISON = 1e4


@pytest.fixture(scope="session")
def transformers() -> Any:
    module = pytest.importorskip(
        "transformers", reason="the reference is not installed: make test-models"
    )
    module.logging.set_verbosity_error()
    module.logging.disable_progress_bar()
    return module


@dataclass
class Pair:
    """The reference and ours, from one directory."""

    reference: Any
    ours: Decoder

    def ours_with(self, ops: Ops) -> Decoder:
        """The same weights, other operations."""
        return Decoder(self.ours.spec, self.ours.weights, ops=ops)

    @torch.inference_mode()
    def reference_logits(self, tokens: Sequence[int], **inputs: Any) -> Tensor:
        return self.reference(input_ids=torch.tensor([tokens]), **inputs).logits[0].float()

    @torch.inference_mode()
    def reference_answer(self, tokens: Sequence[int], count: int, **inputs: Any) -> list[int]:
        ids = torch.tensor([tokens])
        out = self.reference.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=count,
            min_new_tokens=count,
            **inputs,
        )
        return out[0, len(tokens) :].tolist()


@pytest.fixture(scope="session")
def make_pair(
    transformers: Any, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, dict[str, Any]], Pair]:
    made: dict[str, Pair] = {}

    def make(kind: str, settings: dict[str, Any]) -> Pair:
        key = repr((kind, settings))
        if key not in made:
            directory = tmp_path_factory.mktemp(kind)
            made[key] = _make(transformers, kind, settings, directory)
        return made[key]

    return make


def _make(transformers: Any, kind: str, settings: dict[str, Any], directory: Path) -> Pair:
    config = transformers.AutoConfig.for_model(kind, **settings)
    torch.manual_seed(len(repr(settings)))
    auto = (
        transformers.AutoModelForImageTextToText
        if kind == "gemma3"
        else transformers.AutoModelForCausalLM
    )
    model = auto.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            # Fresh norms are all ones or zeros, and fresh logits nearly equal: both hide mistakes.
            parameter.copy_(parameter + torch.randn_like(parameter) * 0.12)
    model.save_pretrained(directory)
    model.generation_config = transformers.GenerationConfig(do_sample=False)
    spec = read_spec(directory)
    weights = load_weights(directory, spec, None, lambda _stage, _done: None)
    assert weights.mapped_bytes == weights.nbytes
    return Pair(model, Decoder(spec, weights, ops=TORCH))


@dataclass
class Served:
    tokens: list[int]
    images: list[PlacedImage] = field(default_factory=list)
    tables: list[list[int]] = field(default_factory=list)
    computed: int = 0
    long: bool = False


class Table:
    """Serves sequences step by step from a pool whose blocks are given out in random order.

    Blocks that a window has passed, and blocks of sequences that ended, are filled with large
    numbers: whoever still reads them is found out.
    """

    def __init__(self, model: Decoder, blocks: int = 160, seed: int = 1) -> None:
        self.model = model
        self.windows = [group.window for group in model.groups()]
        self.pool = model.allocate([blocks] * len(self.windows))
        self._free = [random.Random(seed).sample(range(blocks), blocks) for _ in self.windows]

    def add(self, tokens: Sequence[int], images: Sequence[PlacedImage] = ()) -> Served:
        return Served(list(tokens), list(images), [[] for _ in self.windows])

    def step(self, prefill: Sequence[tuple[Served, int]], decode: Sequence[Served]) -> list[Tensor]:
        """Compute so many tokens of each of the first, one of each of the others: their logits,
        all rows of a chunk, one list entry for each sequence."""
        chunks = [(served, count, 0) for served, count in prefill]
        chunks += [(served, 1, -1) for served in decode]
        runs = [self._run(*chunk) for chunk in chunks]
        batch = StepBatch.build(runs[: len(prefill)], runs[len(prefill) :], self.windows)
        hidden = self.model.forward(batch, self.pool)
        logits = self.model.logits(hidden[batch.logit_rows])
        for served, count, _ in chunks:
            served.computed += count
            self._pass(served)
        return list(logits.split([count for _, count, _ in chunks]))

    def answer(self, sequences: Sequence[Served], count: int, chunk: int = 1000) -> list[list[int]]:
        """Greedy answers of all, each step mixing whoever prefills with whoever decodes."""
        prompts = [len(served.tokens) for served in sequences]
        while True:
            prefill, decode = [], []
            for served, prompt in zip(sequences, prompts, strict=True):
                if len(served.tokens) - prompt == count:
                    continue
                self._cross(served)
                missing = len(served.tokens) - served.computed
                if missing == 1 and served.computed:
                    decode.append(served)
                else:
                    prefill.append((served, min(missing, chunk)))
            if not prefill and not decode:
                return [s.tokens[p:] for s, p in zip(sequences, prompts, strict=True)]
            logits = self.step(prefill, decode)
            for served, rows in zip([*(s for s, _ in prefill), *decode], logits, strict=True):
                if served.computed == len(served.tokens):
                    served.tokens.append(int(rows[-1].argmax()))

    def leave(self, served: Served) -> None:
        for group, table in enumerate(served.tables):
            held = [block for block in table if block != NO_BLOCK]
            self._release(group, held)
            table.clear()
        served.computed = 0

    def _cross(self, served: Served) -> None:
        border = self.model.long_after
        long = border is not None and len(served.tokens) > border
        if long != served.long:
            self.leave(served)
            served.long = long

    def _run(self, served: Served, count: int, logits_from: int) -> Run:
        self._cross(served)
        end = served.computed + count
        for group, table in enumerate(served.tables):
            while len(table) < blocks_for(end):
                table.append(self._free[group].pop())
        return Run(
            served.tokens[served.computed : end],
            served.computed,
            served.tables,
            logits_from,
            [image for image in served.images if served.computed <= image.start < end],
            served.long,
        )

    def _pass(self, served: Served) -> None:
        for group, window in enumerate(self.windows):
            if window is None:
                continue
            table = served.tables[group]
            for place in range(max(0, served.computed - window + 1) // BLOCK_TOKENS):
                if table[place] != NO_BLOCK:
                    self._release(group, [table[place]])
                    table[place] = NO_BLOCK

    def _release(self, group: int, blocks: list[int]) -> None:
        for layer in self.pool.groups[group].layers:
            self.pool.layers[layer].k[blocks] = POISON
            self.pool.layers[layer].v[blocks] = POISON
        self._free[group][:0] = blocks


@pytest.fixture(scope="session")
def table() -> type[Table]:
    return Table


@pytest.fixture(scope="session")
def prompt() -> Callable[[int], list[int]]:
    """A random prompt of that length: always the same."""
    return lambda length: random.Random(length).choices(range(3, VOCAB), k=length)
