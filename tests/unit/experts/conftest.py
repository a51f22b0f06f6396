"""Frames of the demo experts: all of a model but its weights, with a small vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from experts.recipes.models import write_model
from experts.recipes.recipes import FIELDS, RECIPES
from experts.recipes.vocabulary import save_tokenizer, train_tokenizer


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Models this small only wait for a second one, long where others use the machine too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def frame(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    tokenizer = train_tokenizer(FIELDS.values(), each=150)

    def write(name: str) -> Path:
        folder = tmp_path_factory.mktemp("frames") / name
        write_model(folder, RECIPES[name].config, RECIPES[name].style)
        save_tokenizer(tokenizer, folder / "tokenizer.json")
        return folder

    return write
