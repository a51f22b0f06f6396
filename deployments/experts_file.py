"""The experts file: everything an operator decides, in one YAML file.

`load` gives it whole and right, or raises every mistake in it at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, Field, PrivateAttr, ValidationError
from pydantic.json_schema import models_json_schema

from capyra.deployments.experts_checks import Parts, check, is_hub_id, remark
from capyra.deployments.gateway.settings import ServerConfig
from capyra.deployments.problems import Finding, Problem, explain, place, spell, validate
from capyra.deployments.yaml_lines import Document, KeyPath, read
from capyra.deployments.yaml_nodes import MAX_BYTES
from capyra.engine.config import ExpertConfig, ExpertName, Settings
from capyra.engine.errors import ConfigError
from capyra.engine.registry import ENGINES, options_model
from capyra.orchestrator.config import Panel, Residency, Routing, VirtualModel

_Model = TypeVar("_Model", bound=Settings)

_DECISIVE = frozenset({"engine", "model"})
"""What an expert's other settings are judged by."""


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
    file: ExpertsFile | None = None
    findings: list[Finding] = []
    if not document.refused:
        try:
            file = validate(ExpertsFile, document.data)
        except ValidationError as error:
            findings += explain(error, ExpertsFile, document.data)
        findings += _unsaid(check(_parts(document.data, base)), findings)
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


def _parts(data: Any, base: Path) -> Parts:
    """What of the file is right by itself, so that one mistake does not hide another."""
    data = data if isinstance(data, dict) else {}
    names = data.get("experts")
    return Parts(
        base=base,
        names=tuple(names) if isinstance(names, dict) else (),
        experts=_each(ExpertConfig, names),
        residency=_sound(Residency, data.get("residency", {})) or Residency(),
        routing=_sound(Routing, data.get("routing", {})) or Routing(),
        models=_each(VirtualModel, data.get("models")),
        consensus=_sound(Panel, data.get("consensus", {})) or Panel(),
        has_models="models" in data,
    )


def _each(model: type[_Model], data: Any) -> dict[str, _Model]:
    items = data.items() if isinstance(data, dict) else ()
    found = {name: _sound(model, value) for name, value in items}
    return {name: value for name, value in found.items() if value is not None}


def _sound(model: type[_Model], data: Any) -> _Model | None:
    """The settings without those keys that are wrong; None if nothing can be said of the rest."""
    try:
        return validate(model, data)
    except ValidationError as error:
        wrong = {details["loc"][0] for details in error.errors() if details["loc"]}
    if not wrong or not isinstance(data, dict) or not wrong.isdisjoint(_DECISIVE):
        return None
    try:
        return validate(model, {key: value for key, value in data.items() if key not in wrong})
    except ValidationError:
        return None


def _mistakes(path: Path, document: Document) -> Iterator[Problem]:
    for mistake in document.mistakes:
        spot = mistake.place
        yield Problem(str(path), spot.line, spot.column, spell(mistake.path), mistake.text)


def _unsaid(findings: Iterable[Finding], said: Iterable[Finding]) -> list[Finding]:
    """Those about keys that nothing is said of yet; names may be wrong in more than one way."""
    paths = {finding.path for finding in said if not finding.at_key}
    return [finding for finding in findings if paths.isdisjoint(_upwards(finding.path))]


def _located(path: Path, document: Document, findings: Iterable[Finding]) -> Iterator[Problem]:
    """The findings with their lines, less those about what YAML already refused."""
    refused = {mistake.path for mistake in document.mistakes}
    for finding in findings:
        if refused.isdisjoint(_upwards(finding.path)):
            yield place(str(path), document, finding)


def _upwards(path: KeyPath) -> Iterator[KeyPath]:
    return (path[:length] for length in range(len(path), 0, -1))


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
