"""What the README says that the demo experts said, they say."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from experts.recipes.example import Example, Picture, last_line
from experts.recipes.recipes import EXPERTS
from experts.recipes.score import ask
from PIL import Image

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()
ASKED = re.compile(
    r'^\$ capyra run (?P<expert>\w+)(?: --image (?P<image>\S+))? "(?P<prompt>[^"]+)"\n'
    r"(?P<answer>(?:(?!\$ ).+\n)+)",
    re.MULTILINE,
)


def transcript() -> list[tuple[str, Example]]:
    (block,) = re.findall(r"```text\n(.*?)```", README, re.DOTALL)
    return [
        (
            found["expert"],
            Example("", "", found["prompt"], found["answer"], _picture(found["image"])),
        )
        for found in ASKED.finditer(block)
    ]


def _picture(name: str | None) -> Picture | None:
    return None if name is None else np.asarray(Image.open(ROOT / name).convert("RGB"))


def test_ten_prompts_one_for_each_expert_at_least_and_one_with_a_picture() -> None:
    asked = transcript()
    assert len(asked) == 10
    assert {name for name, _ in asked} == set(EXPERTS)
    assert any(example.picture is not None for _, example in asked)


@pytest.mark.parametrize("name", EXPERTS)
def test_an_expert_says_what_the_readme_shows(name: str) -> None:
    examples = [example for expert, example in transcript() if expert == name]
    answers = ask(ROOT / "experts" / "demo" / name, examples)
    assert [last_line(each.text) for each in answers] == [
        last_line(example.answer) for example in examples
    ]
