"""The experts file: what is right loads as written; each mistake names its line and its mend."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from capyra.deployments.experts_file import ExpertsFile, ExpertsFileError, load, schema
from capyra.deployments.problems import Problem
from capyra.engine.config import FOREVER, ExpertConfig
from capyra.engine.errors import ConfigError

ROOT = Path(__file__).parents[3]
EXPERTS = ROOT / "experts"
BROKEN = sorted((Path(__file__).parent / "broken").glob("*.yaml"))
FIVE = {
    "phi4_fast",
    "mistral_balanced",
    "qwen_coder",
    "gemma3_multimodal",
    "aya_expanse_multilingual",
}


def write(folder: Path, text: str) -> Path:
    path = folder / "experts.yaml"
    path.write_text(text)
    return path


def problems_of(path: Path) -> list[Problem]:
    try:
        load(path)
    except ExpertsFileError as error:
        return list(error.problems)
    return []


# --- broken files -----------------------------------------------------------------------------


def expected(path: Path) -> list[tuple[int, str, str]]:
    """`# expect LINE | KEY | PART OF THE MEND`, at the top of each broken file."""
    found = re.findall(rb"^# expect (\d+) \| (.*?) \| (.*)$", path.read_bytes(), re.MULTILINE)
    return [(int(line), key.decode(), mend.decode()) for line, key, mend in found]


def test_there_are_many_broken_files() -> None:
    assert len(BROKEN) >= 30


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_each_mistake_names_file_line_key_and_mend(path: Path) -> None:
    problems = problems_of(path)
    wanted = expected(path)
    assert wanted
    assert len(problems) == len(wanted), [str(problem) for problem in problems]
    for line, key, mend in wanted:
        fitting = [problem for problem in problems if (problem.line, problem.key) == (line, key)]
        assert any(mend in problem.text.partition("; ")[2] for problem in fitting), problems
    for problem in problems:
        place = f"{path}:{problem.line}: " + (f"{problem.key}: " if problem.key else "")
        assert str(problem).startswith(place)
        assert len(str(problem).removeprefix(place)) < 400
        assert "\n" not in str(problem)


def test_the_error_is_a_config_error_that_says_everything() -> None:
    path = next(path for path in BROKEN if path.stem == "everything_at_once")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert len(caught.value.message.splitlines()) == len(expected(path)) == 8


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path / "none.yaml")
    assert "there is no such file; mend the path" in str(problem)
    (problem,) = problems_of(tmp_path)
    assert "is no file; mend the path" in str(problem)


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    (problem,) = problems_of(write(tmp_path, "experts: {a: {engine: echo}}\n" + "#" * 2**20))
    assert "shorten it" in problem.text


MARKS = [*"[]{}:'#|~\t\0\\%@\"\u2028ü", "- ", "&x ", "*x", "<<: ", "!!int ", "---\n"]
TOKENS = [*MARKS, "null", "true", "-1", "9" * 30, "1e400"]
MUTATION = st.tuples(
    st.sampled_from(["delete", "double", "indent", "dedent", "insert", "swap", "cut"]),
    st.integers(0, 10_000),
    st.integers(0, 10_000),
    st.sampled_from(TOKENS) | st.text(max_size=5),
)


def mutate(lines: list[str], mutation: tuple[str, int, int, str]) -> None:
    kind, first, second, text = mutation
    i, j = first % len(lines), second % len(lines)
    match kind:
        case "delete":
            lines[i] = ""
        case "double":
            lines.insert(j, lines[i])
        case "indent":
            lines[i] = "  " + lines[i]
        case "dedent":
            lines[i] = lines[i][2:]
        case "insert":
            at = second % (len(lines[i]) + 1)
            lines[i] = lines[i][:at] + text + lines[i][at:]
        case "swap":
            lines[i], lines[j] = lines[j], lines[i]
        case "cut":
            lines[i] = lines[i][: second % (len(lines[i]) + 1)]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(mutations=st.lists(MUTATION, min_size=1, max_size=6))
def test_no_mutation_of_a_file_breaks_the_reader(
    tmp_path: Path, mutations: list[tuple[str, int, int, str]]
) -> None:
    lines = (EXPERTS / "demo.yaml").read_text().splitlines(keepends=True)
    for mutation in mutations:
        mutate(lines, mutation)
    path = tmp_path / "experts.yaml"
    path.write_bytes("".join(lines).encode("utf-8", "surrogatepass"))
    for problem in problems_of(path):
        assert 0 < problem.line <= path.read_bytes().count(b"\n") + 1


# --- what loads -------------------------------------------------------------------------------


def test_the_smallest_file(tmp_path: Path) -> None:
    file = load(write(tmp_path, "experts: {a: {engine: echo}}\n"))
    assert file.experts == {"a": ExpertConfig(engine="echo")}
    assert file.residency.max_resident == 5
    assert file.notices == ()
    assert file.model_path("a") is None


def test_words_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    file = load(
        write(
            tmp_path,
            """
            experts:
              a:
                engine: echo
                description: yes
                speculation: {method: off}
                pin: true
                keep_alive: -1
                resources: {memory: 1.5GiB}
                queue: {deadline: 1h30m}
            """,
        )
    )
    expert = file.experts["a"]
    assert expert.description == "yes"
    assert expert.speculation.method == "off"
    assert expert.pin is True
    assert expert.keep_alive == FOREVER
    assert expert.resources.memory == 3 * 2**29
    assert expert.queue.deadline == 5400


def test_anchors_and_merge_keys(tmp_path: Path) -> None:
    file = load(
        write(
            tmp_path,
            """
            experts:
              a: &small
                engine: echo
                queue: &queue {running: 2, waiting: 3}
              b:
                <<: *small
                pin: true
              c:
                <<: [{engine: echo}, *small]
                queue: {<<: *queue, running: 5}
            """,
        )
    )
    a, b, c = file.experts.values()
    assert b == a.model_copy(update={"pin": True})
    assert (c.queue.running, c.queue.waiting) == (5, 3)


def test_a_mistake_in_a_merged_mapping_is_shown_where_it_is_written(tmp_path: Path) -> None:
    text = "experts:\n  a: &a\n    engine: echo\n    pin: 1\n  b:\n    <<: *a\n"
    assert [(problem.line, problem.key) for problem in problems_of(write(tmp_path, text))] == [
        (4, "experts.a.pin"),
        (4, "experts.b.pin"),
    ]


def test_an_expert_follows_the_keep_alive_of_all(tmp_path: Path) -> None:
    text = """
        experts:
          a: {engine: echo}
          b: {engine: echo, keep_alive: 300}
        residency: {keep_alive: 10s}
        """
    file = load(write(tmp_path, text))
    assert file.experts["a"].keep_alive == 10
    assert file.experts["b"].keep_alive == 300


def test_paths_begin_at_the_file(tmp_path: Path) -> None:
    for folder in ("models/a", "models/draft"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "chat.jinja").touch()
    text = """
        experts:
          a:
            engine: echo
            model: models/a
            chat_template: chat.jinja
            speculation: {method: draft, draft: ./models/draft}
          b:
            engine: echo
            model: org/name
            revision: main
        """
    file = load(write(tmp_path, text))
    a, b = file.experts.values()
    assert file.model_path("a") == (tmp_path / "models/a").resolve()
    assert a.chat_template == str((tmp_path / "chat.jinja").resolve())
    assert a.speculation.draft == str((tmp_path / "models/draft").resolve())
    assert b.model == "org/name"
    assert file.model_path("b") is None


def test_settings_survive_the_way_to_a_replica(tmp_path: Path) -> None:
    """Serve carries `user_config` as JSON."""
    for expert in load(EXPERTS / "demo.yaml").experts.values():
        carried = json.loads(json.dumps(expert.model_dump(mode="json")))
        assert ExpertConfig.model_validate(carried) == expert


def test_what_surprises_is_noted(tmp_path: Path) -> None:
    text = """experts:
  a: {engine: echo}
  b:
    engine: echo
    license: {id: Gemma, gated: true, url: https://terms}
  c:
    engine: echo
    enabled: false
residency:
  keep_alive: 5m
  max_resident: 2
routing: {}
"""
    file = load(write(tmp_path, text))
    assert [(notice.line, notice.key) for notice in file.notices] == [
        (5, "experts.b.license"),
        (8, "experts.c.enabled"),
        (12, "routing"),
    ]
    assert "read it at https://terms, then set `accepted: true`" in file.notices[0].text
    assert [name for name, expert in file.experts.items() if expert.active] == ["a"]


def test_an_expert_that_is_off_needs_no_files(tmp_path: Path) -> None:
    text = """
        experts:
          a: {engine: echo}
          b: {engine: echo, model: ./not-fetched-yet, enabled: false}
        """
    assert not load(write(tmp_path, text)).experts["b"].active


# --- what is shipped --------------------------------------------------------------------------


def test_demo_is_right_and_all_of_it_is_served() -> None:
    file = load(EXPERTS / "demo.yaml")
    assert set(file.experts) == FIVE
    assert {expert.engine for expert in file.experts.values()} == {"native"}
    assert all(file.model_path(name) for name in FIVE)
    assert all(expert.active for expert in file.experts.values())
    assert file.notices == ()


def test_axion_has_no_mistake_but_engines_that_are_still_to_come() -> None:
    problems = problems_of(EXPERTS / "axion.yaml")
    assert [problem for problem in problems if not problem.key.endswith(".engine")] == []


def axion() -> dict[str, ExpertConfig]:
    written = yaml.safe_load((EXPERTS / "axion.yaml").read_text())["experts"]
    return {name: ExpertConfig.model_validate(expert) for name, expert in written.items()}


def test_axion_serves_what_licences_permit_until_somebody_accepts_more() -> None:
    experts = axion()
    assert set(experts) == FIVE
    off = {name for name, expert in experts.items() if not expert.active}
    assert off == {"gemma3_multimodal", "aya_expanse_multilingual"}
    for name in off:
        written = experts[name].model_dump()
        written["license"]["accepted"] = True
        assert ExpertConfig.model_validate(written).active


def test_axion_fits_its_machine() -> None:
    needed = [expert.resources.memory for expert in axion().values()]
    assert sum(size or 2**60 for size in needed) <= 88 * 2**30


@pytest.mark.parametrize("name", ["demo.yaml", "axion.yaml"])
def test_every_shipped_expert_teaches_the_router(name: str) -> None:
    for expert in yaml.safe_load((EXPERTS / name).read_text())["experts"].values():
        assert expert["skills"]
        assert all(len(skill["examples"]) >= 5 for skill in expert["skills"])


# --- the schema -------------------------------------------------------------------------------


def published() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((EXPERTS / "schema.json").read_text())
    return document


def test_the_published_schema_is_the_generated_one() -> None:
    assert published() == schema(), "write it anew: capyra config schema > experts/schema.json"


@pytest.mark.parametrize("name", ["demo.yaml", "axion.yaml"])
def test_editors_find_the_schema_and_agree(name: str) -> None:
    text = (EXPERTS / name).read_text()
    assert text.startswith("# yaml-language-server: $schema=schema.json\n")
    jsonschema.Draft7Validator.check_schema(published())
    jsonschema.Draft7Validator(published()).validate(yaml.safe_load(text))


@pytest.mark.parametrize(
    "name", ["unknown_setting", "unknown_option", "upper_case_name", "bad_size", "out_of_range"]
)
def test_the_schema_refuses_what_the_loader_refuses(name: str) -> None:
    path = next(path for path in BROKEN if path.stem == name)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(published()).validate(yaml.safe_load(path.read_text()))


def test_every_setting_explains_itself_in_the_schema() -> None:
    definitions = published()["$defs"] | {"file": published()}
    for name, definition in definitions.items():
        for key, value in definition["properties"].items():
            assert value.get("description"), f"{name}.{key}"


def test_names_of_sections_are_fixed() -> None:
    assert list(ExpertsFile.model_fields) == [
        "experts", "residency", "routing", "models", "consensus", "server",
    ]  # fmt: skip
