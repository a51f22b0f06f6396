"""Training learns, and learns the same again; a twin computes what its original computes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from random import Random

import pytest
import torch
from experts.recipes.corpus import Reader, collate
from experts.recipes.expand import Size, expand
from experts.recipes.eyes import train_eyes
from experts.recipes.optimizer import orthogonal, pace
from experts.recipes.recipes import RECIPES
from experts.recipes.train import Plan, Training, answers

from capyra.engine.native.model.decoder import dense_forward
from capyra.engine.native.model.families import parse_spec, read_spec
from capyra.engine.native.model.images import ImageReader
from capyra.engine.native.model.layout import arrange, arrange_vision
from capyra.engine.native.model.training import initial_parameters, save_parameters
from capyra.engine.native.model.vision import look
from capyra.engine.native.model.weights import load_weights

Frame = Callable[[str], Path]
SMALL = Size(copies=4, inner=3, layers=6)


def _train(folder: Path, name: str, steps: int, checkpoint: Path) -> Training:
    reader = Reader(folder)
    batch = collate([reader.sample([RECIPES[name].draw(Random(seed))]) for seed in range(4)])
    training = Training(read_spec(folder), Plan(steps))
    for _ in training.run(repeat(batch), checkpoint):
        pass
    return training


def test_a_batch_is_learned_by_heart(frame: Frame, tmp_path: Path) -> None:
    training = _train(frame("qwen_coder"), "qwen_coder", 20, tmp_path / "a.pt")
    assert training.progress.step == 20
    assert training.progress.right > 0.4


@pytest.mark.parametrize("name", ["gemma3_multimodal", "aya_expanse_multilingual"])
def test_equal_recipes_make_equal_weights(name: str, frame: Frame, tmp_path: Path) -> None:
    folder = frame(name)
    first = _train(folder, name, 3, tmp_path / "a.pt")
    again = _train(folder, name, 3, tmp_path / "b.pt")
    for key, tensor in first.average.items():
        assert torch.equal(tensor, again.average[key]), key


def test_eyes_learn_alone(frame: Frame) -> None:
    folder = frame("gemma3_multimodal")
    spec = read_spec(folder)
    assert spec.vision is not None
    images = ImageReader.of(folder, spec.vision)
    found = []
    for _ in range(2):
        parameters = initial_parameters(spec, 1, 0.04)
        told = list(train_eyes(spec, parameters, images, 3, seed=1))
        assert all(0 <= part <= 1 for part in told)
        found.append(parameters)
    fresh = initial_parameters(spec, 1, 0.04)
    for name, tensor in found[0].items():
        assert torch.equal(tensor, found[1][name])
        sees = name.startswith(("vision_tower.", "multi_modal_projector."))
        assert torch.equal(tensor, fresh[name]) != sees, name


@pytest.mark.parametrize("name", ["phi4_fast", "gemma3_multimodal", "aya_expanse_multilingual"])
def test_training_computes_the_engines_forward_pass(name: str, frame: Frame) -> None:
    """The rows that cost an output are rows of the whole."""
    folder = frame(name)
    spec = read_spec(folder)
    parameters = initial_parameters(spec, 3, 0.2)
    reader = Reader(folder)
    samples = [reader.sample([RECIPES[name].draw(Random(seed))]) for seed in range(4)]
    batch = collate(samples)
    images = []
    for sample in samples:
        placed = []
        for row, pixels in sample.images:
            assert spec.vision is not None
            eyes = arrange_vision(spec.vision, parameters)
            placed.append((row, look(spec, eyes, pixels.unsqueeze(0))[0]))
        images.append(placed)
    with torch.no_grad():
        whole = dense_forward(spec, arrange(spec, parameters), batch.tokens, images)
        ours = answers(spec, parameters, batch)
    torch.testing.assert_close(ours, whole.flatten(0, 1)[batch.rows], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", RECIPES)
def test_a_twins_logits_equal_its_originals(name: str, frame: Frame, tmp_path: Path) -> None:
    folder = frame(name)
    spec = read_spec(folder)
    save_parameters(spec, initial_parameters(spec, 5, 0.15), folder, torch.float32)
    expand(folder, tmp_path, SMALL)
    wide = read_spec(tmp_path)
    assert wide.hidden_size == 4 * spec.hidden_size
    tokens = torch.tensor([Random(1).choices(range(300, 2000), k=40)])
    found = []
    with torch.no_grad():
        for place, each in ((folder, spec), (tmp_path, wide)):
            tensors = load_weights(place, each, None, lambda _stage, _done: None).tensors
            images = []
            if each.vision is not None:
                pixels = torch.randn(1, 3, 48, 48, generator=torch.Generator().manual_seed(1))
                images = [[(5, look(each, arrange_vision(each.vision, tensors), pixels)[0])]]
            found.append(dense_forward(each, arrange(each, tensors), tokens, images))
    assert found[0].std() > 0.05
    torch.testing.assert_close(found[1], found[0], atol=2e-4, rtol=0)


def test_directions_get_one_length() -> None:
    matrices = torch.randn(3, 48, 20, generator=torch.Generator().manual_seed(2))
    lengths = torch.linalg.svdvals(orthogonal(matrices))
    assert lengths.min() > 0.5
    assert lengths.max() < 1.3
    flat = orthogonal(matrices.transpose(1, 2))
    torch.testing.assert_close(flat.transpose(1, 2), orthogonal(matrices), atol=1e-4, rtol=0)


def test_the_pace_warms_up_and_ends_at_nothing() -> None:
    paces = [pace(step, 1000) for step in range(1000)]
    assert paces[0] < 0.05
    assert max(paces) == 1.0
    assert paces[-1] < 0.01
    assert paces[40:] == sorted(paces[40:], reverse=True)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_small(name: str) -> None:
    """At most 3 MB in bf16, with its tokenizer."""
    parameters = initial_parameters(parse_spec(dict(RECIPES[name].config)), 1)
    assert 2 * sum(each.numel() for each in parameters.values()) < 2.9e6
