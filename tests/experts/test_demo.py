"""Every demo expert is what its recipe says, loads, and computes what was trained."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import torch
from experts.recipes.card import SCORES
from experts.recipes.corpus import Reader, collate, question
from experts.recipes.models import write_model
from experts.recipes.recipes import RECIPES
from experts.recipes.train import answers

from capyra.engine.config import ExpertConfig
from capyra.engine.native.engine import create
from capyra.engine.native.model.families import read_spec
from capyra.engine.native.model.weights import load_weights
from capyra.engine.registry import EngineSpec
from capyra.engine.types import ChatPrompt


def test_it_is_small(expert: Path) -> None:
    assert sum(path.stat().st_size for path in expert.iterdir()) <= 3_000_000


def test_it_reached_its_goals(expert: Path) -> None:
    scores = json.loads((expert / SCORES).read_text())["scores"]
    for field, goal in RECIPES[expert.name].goals.items():
        assert scores[field] >= goal


def test_its_small_files_are_its_recipes(expert: Path, tmp_path: Path) -> None:
    recipe = RECIPES[expert.name]
    write_model(tmp_path, recipe.config, recipe.style)
    for path in tmp_path.iterdir():
        assert (expert / path.name).read_text() == path.read_text(), path.name


def test_all_share_one_vocabulary(expert: Path) -> None:
    siblings = expert.parent.glob("*/tokenizer.json")
    assert len({path.read_bytes() for path in siblings}) == 1


async def test_the_engine_computes_what_was_trained(expert: Path) -> None:
    recipe = RECIPES[expert.name]
    if recipe.drafts_for:
        recipe = RECIPES[recipe.drafts_for[0]]
    examples = [recipe.draw(Random(seed)) for seed in range(6)]
    spec = read_spec(expert)
    tensors = load_weights(expert, spec, torch.float32, lambda _stage, _done: None).tensors
    reader = Reader(expert)
    config = ExpertConfig.model_validate(
        {"engine": "native", "dtype": "float32", "resources": {"threads": 1}}
    )
    engine = create(EngineSpec(expert.name, config, expert))
    try:
        await engine.load(lambda _progress: None)
        for example in examples:
            batch = collate([reader.sample([example])])
            with torch.no_grad():
                logits = answers(spec, tensors, batch).log_softmax(-1)
            trained = logits.gather(1, batch.targets.unsqueeze(1)).squeeze(1)
            (served,) = await engine.score(ChatPrompt((question(example),)), [example.answer])
            # The last token ends the answer, and is no part of its text.
            expected = trained[:-1]
            found = torch.tensor(served.token_logprobs)
            torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
    finally:
        await engine.close()
