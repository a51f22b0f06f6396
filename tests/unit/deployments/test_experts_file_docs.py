"""docs/experts-file.md knows every setting, and its default."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from capyra.deployments.experts_file import ExpertsFile, ExpertsFileError, load
from capyra.engine.config import parse_duration, parse_size
from capyra.engine.registry import ENGINES, options_model

TEXT = (Path(__file__).parents[3] / "docs" / "experts-file.md").read_text()


def section(heading: str) -> dict[str, tuple[str, str]]:
    """The rows of the first table under a heading that has these words: each setting's value and
    default."""
    parts = re.split(r"^#+ (.*)$", TEXT, flags=re.MULTILINE)
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        if heading in title:
            rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]*) \| [^|]+ \|$", body, re.MULTILINE)
            return {name: (value, default.strip()) for name, value, default in rows}
    raise AssertionError(f"docs/experts-file.md has no heading with {heading}")


def settings_in(annotation: Any, path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """The settings models inside a field's type, each with the path a reader would write."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield path, annotation
        for name, field in annotation.model_fields.items():
            yield from settings_in(field.annotation, f"{path}.{name}".removeprefix("."))
        return
    origin = get_origin(annotation)
    deeper = {dict: f"{path}.NAME", tuple: f"{path}[]", Union: path, UnionType: path}
    if origin in deeper:
        for inner in get_args(annotation):
            yield from settings_in(inner, deeper[origin])


SECTIONS = [("The sections" if path == "" else f"`{path}`", model)
            for path, model in settings_in(ExpertsFile, "")]  # fmt: skip
SECTIONS += [(f"`experts.NAME.options`, engine `{name}`", options_model(name)) for name in ENGINES]


def test_all_settings_are_walked() -> None:
    paths = {heading for heading, _ in SECTIONS}
    assert {"`experts.NAME.skills[]`", "`models.NAME.panel`", "`server.body`"} <= paths


@pytest.mark.parametrize(("heading", "model"), SECTIONS, ids=lambda value: str(value))
def test_every_setting_is_in_its_table(heading: str, model: type[BaseModel]) -> None:
    rows = section(heading)
    assert list(rows) == list(model.model_fields)
    for name, field in model.model_fields.items():
        value, default = rows[name]
        assert same(default, field), f"{heading}: {name} has another default"
        if not value.startswith(("size", "duration")):
            assert bounds(field) == numbers(value), f"{heading}: {name} has other bounds"


def same(written: str, field: FieldInfo) -> bool:
    if field.is_required():
        return written == "required"
    default = field.get_default(call_default_factory=True)
    if isinstance(default, BaseModel) or default in (None, "", (), {}):
        return written == ""
    text = written.strip("`")
    if isinstance(default, bool | str):
        return text == str(default).lower() or text == default
    return default in (parsed(parse_size, text), parsed(parse_duration, text))


def bounds(field: FieldInfo) -> set[float]:
    names = ("ge", "gt", "le")
    found = (getattr(each, name, None) for each in field.metadata for name in names)
    return {float(bound) for bound in found if bound is not None}


def numbers(value: str) -> set[float]:
    if not value.startswith(("whole number", "number")):
        return set()
    found = re.findall(r"(?:2\^)?[0-9.]+", value)
    return {2.0 ** int(text[2:]) if "^" in text else float(text) for text in found}


def parsed(parse: Any, text: str) -> object:
    try:
        return parse(text)
    except ValueError:
        return None


def test_the_smallest_file_loads(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    path = tmp_path / "experts.yaml"
    path.write_text(example)
    assert list(load(path).experts) == ["parrot"]


def test_the_sentences_shown_are_those_that_are_said(tmp_path: Path) -> None:
    path = tmp_path / "experts.yaml"
    path.write_text(
        "experts:\n"
        "  qwen_coder:\n"
        "    engine: echo\n"
        "    queue:\n"
        "      runing: 2\n"
        "\n"
        "residency:\n"
        "  warm: 1\n"
        "  node_memory: 16 gigs\n"
    )
    with pytest.raises(ExpertsFileError) as caught:
        load(path)
    shown = re.findall(r"^experts\.yaml:.*$", TEXT, re.MULTILINE)
    said = caught.value.message.replace(f"{path}", "experts.yaml").splitlines()
    assert said == shown
