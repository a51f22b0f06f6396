"""The experts file: everything an operator decides, in one YAML file.

`load` gives it whole and right, or raises every mistake in it at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, Field, PrivateAttr, ValidationError
from pydantic.json_schema import models_json_schema

from capyra.deployments.experts_checks import Parts, check, is_hub_id, remark
from capyra.deployments.gateway.settings import ServerConfig
from capyra.deployments.problems import Finding, Problem, explain, place, spell
from capyra.deployments.yaml_lines import Document, read
from capyra.deployments.yaml_nodes import MAX_BYTES
from capyra.engine.config import ExpertConfig, ExpertName, Settings
from capyra.engine.errors import ConfigError
from capyra.engine.registry import ENGINES, options_model
from capyra.orchestrator.config import Panel, Residency, Routing, VirtualModel

_Model = TypeVar("_Model", bound=Settings)


class ExpertsFileError(ConfigError):
    """An experts file with mistakes: `problems`, in the order of its lines."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class ExpertsFile(Settings):
    """An experts file, read and found right. Paths in it are absolute."""

    experts: dict[ExpertName, ExpertConfig] = Field(
        min_length=1, description="The experts, by name"
    )
    residency: Residency = Field(
        default=Residency(), description="How many experts are in memory, and for how long"
    )
    routing: Routing = Field(default=Routing(), description="How a route finds its expert")
    models: dict[ExpertName, VirtualModel] = Field(
        default_factory=dict, description="Virtual models, by name; refused until they are answered"
    )
    consensus: Panel = Field(default=Panel(), description="The panel behind the model `consensus`")
    server: ServerConfig = Field(default=ServerConfig(), description="The gateway")

    _notices: tuple[Problem, ...] = PrivateAttr(default=())

    @property
    def notices(self) -> tuple[Problem, ...]:
        """What is right but may surprise: experts that are off, settings without effect yet."""
        return self._notices

    def model_path(self, name: str) -> Path | None:
        """Where an expert's model lies; None for a hub id, and without a model."""
        model = self.experts[name].model
        return Path(model) if model is not None and Path(model).is_absolute() else None


def load(path: Path) -> ExpertsFile:
    """The file at this path; `ExpertsFileError` with all its mistakes if it has any."""
    document = read(_bytes(path))
    base = path.absolute().parent
    findings: list[Finding] = []
    file: ExpertsFile | None = None
    if document.data is not None or not document.mistakes:
        try:
            file = _validate(ExpertsFile, document.data)
        except ValidationError as error:
            findings += explain(error, ExpertsFile, document.data)
        findings += check(_parts(document.data, base))
    problems = [*_mistakes(path, document), *_located(path, document, findings)]
    if problems or file is None:
        raise ExpertsFileError(problems)
    remarks = remark(document.data, file.experts)
    notices = tuple(place(str(path), document, finding) for finding in remarks)
    return _complete(file, base, notices)


def schema() -> dict[str, Any]:
    """The file's JSON schema, for editors: published as `experts/schema.json`."""
    rows: dict[str, type[BaseModel]] = {name: options_model(name) for name in sorted(ENGINES)}
    models: list[type[BaseModel]] = [ExpertsFile, *rows.values()]
    refs, found = models_json_schema([(model, "validation") for model in models])
    definitions: dict[str, Any] = found["$defs"]
    definitions["ExpertConfig"]["allOf"] = [
        {
            "if": {"properties": {"engine": {"const": name}}, "required": ["engine"]},
            "then": {"properties": {"options": refs[model, "validation"]}},
        }
        for name, model in rows.items()
    ]
    definitions["ExpertConfig"]["properties"]["engine"]["examples"] = list(rows)
    root = definitions.pop("ExpertsFile")
    for section in ("experts", "models"):
        root["properties"][section]["additionalProperties"] = False
    return {
        # Draft 7 is what every editor knows.
        "$schema": "http://json-schema.org/draft-07/schema#",
        **root,
        "title": "Capyra experts file",
        "description": "The experts of a cluster, and what holds for all of them",
        "$defs": definitions,
    }


def _bytes(path: Path) -> bytes:
    try:
        if not path.is_file():
            wrong = "is no file" if path.exists() else "there is no such file"
            raise ExpertsFileError([_whole(path, f"{wrong}; mend the path")])
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        text = f"cannot be read ({error}); mend the path or its permissions"
        raise ExpertsFileError([_whole(path, text)]) from error


def _whole(path: Path, text: str) -> Problem:
    return Problem(str(path), 1, 1, "", text)


def _validate(model: type[_Model], data: object) -> _Model:
    """Strictly, as JSON: text is no number, `1` is not true, and a list may be a tuple."""
    return model.model_validate_json(json.dumps(data), strict=True)


def _parts(data: Any, base: Path) -> Parts:
    """What of the file is right by itself, so that one mistake does not hide another."""
    data = data if isinstance(data, dict) else {}
    experts = _each(ExpertConfig, data.get("experts"))
    written = data.get("experts")
    return Parts(
        base=base,
        names=tuple(written) if isinstance(written, dict) else (),
        experts=experts,
        residency=_one(Residency, data.get("residency", {})) or Residency(),
        routing=_one(Routing, data.get("routing", {})) or Routing(),
        models=_each(VirtualModel, data.get("models")),
        consensus=_one(Panel, data.get("consensus", {})) or Panel(),
        has_models="models" in data,
    )


def _each(model: type[_Model], data: Any) -> dict[str, _Model]:
    items = data.items() if isinstance(data, dict) else ()
    found = {name: _one(model, value) for name, value in items}
    return {name: value for name, value in found.items() if value is not None}


def _one(model: type[_Model], data: Any) -> _Model | None:
    try:
        return _validate(model, data)
    except ValidationError:
        return None  # reported with the whole file


def _mistakes(path: Path, document: Document) -> Iterator[Problem]:
    for mistake in document.mistakes:
        spot = mistake.place
        yield Problem(str(path), spot.line, spot.column, spell(mistake.path), mistake.text)


def _located(path: Path, document: Document, findings: Iterable[Finding]) -> Iterator[Problem]:
    """The findings with their lines, less those about what YAML already refused."""
    refused = {mistake.path for mistake in document.mistakes}
    for finding in findings:
        above = (finding.path[:length] for length in range(1, len(finding.path) + 1))
        if refused.isdisjoint(above):
            yield place(str(path), document, finding)


def _complete(file: ExpertsFile, base: Path, notices: tuple[Problem, ...]) -> ExpertsFile:
    """With absolute paths, and what the file says for all put where an expert says nothing."""
    shared = {"keep_alive": file.residency.keep_alive}
    experts = {
        name: expert.model_copy(
            update={
                key: value for key, value in shared.items() if key not in expert.model_fields_set
            }
            | _paths(expert, base)
        )
        for name, expert in file.experts.items()
    }
    complete = file.model_copy(update={"experts": experts})
    complete._notices = notices
    return complete


def _paths(expert: ExpertConfig, base: Path) -> dict[str, Any]:
    """An expert's settings that name files, from the root of the disk on."""

    def absolute(path: str | None) -> str | None:
        return path if path is None or is_hub_id(path, base) else str((base / path).resolve())

    template, speculation = expert.chat_template, expert.speculation
    return {
        "model": absolute(expert.model),
        "chat_template": None if template is None else str((base / template).resolve()),
        "speculation": speculation.model_copy(update={"draft": absolute(speculation.draft)}),
    }
