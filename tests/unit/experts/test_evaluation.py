"""The sets that routing and panels are measured on."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from random import Random

from experts.recipes.evaluation import (
    OWNERS,
    SHARED,
    consensus_set,
    known_set,
    misspell,
    routing_set,
    write_set,
)
from experts.recipes.example import held_out
from experts.recipes.recipes import EXPERTS, FIELDS, RECIPES

from capyra.deployments.cli.examination import read_questions


def test_every_field_has_an_owner_that_learns_it_most() -> None:
    assert set(OWNERS) == set(FIELDS)
    for field, owner in OWNERS.items():
        most = max(RECIPES[name].learned.get(field, 0.0) for name in EXPERTS)
        assert RECIPES[owner].learned[field] == most


def test_routing_covers_all_experts_in_all_kinds() -> None:
    prompts = routing_set(140)
    assert {each.expert for each in prompts} == set(EXPERTS)
    kinds = Counter(each.kind for each in prompts)
    assert set(kinds) == {"plain", "typos", "mixed", "disguised"}
    assert min(kinds.values()) >= 25
    assert all(each.expert not in each.also for each in prompts)
    assert prompts == routing_set(140)


def test_questions_for_panels_are_held_out_and_shared() -> None:
    questions = consensus_set(60)
    assert {each.field for each in questions} == set(SHARED)
    assert all(len(each.experts) > 1 for each in questions)
    trained = {
        example.prompt
        for field in SHARED
        for seed in range(400)
        if not held_out((example := FIELDS[field](Random(seed))).key)
    }
    assert not {each.prompt for each in questions} & trained


def test_a_misspelt_prompt_keeps_its_numbers() -> None:
    text = "Convert 85 hours to minutes please"
    for seed in range(50):
        found = misspell(text, Random(seed))
        assert re.findall(r"\d+", found) == ["85"]
        assert abs(len(found) - len(text)) <= 3


def test_sets_are_lines_of_json(tmp_path: Path) -> None:
    write_set(routing_set(14), tmp_path / "sets" / "routing.jsonl")
    lines = (tmp_path / "sets" / "routing.jsonl").read_text().splitlines()
    assert all(json.loads(line)["expert"] in EXPERTS for line in lines)


def test_every_field_has_questions_with_known_answers(tmp_path: Path) -> None:
    questions = known_set(70)
    assert {each.field for each in questions} == set(FIELDS)
    assert all((each.image is not None) == (each.field == "shapes") for each in questions)
    write_set(questions, tmp_path / "fields.jsonl")
    read = read_questions(tmp_path / "fields.jsonl")
    assert [each.prompt for each in read] == [each.prompt for each in questions]
    assert all(each.result for each in read)
